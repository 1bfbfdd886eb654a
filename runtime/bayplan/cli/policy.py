"""Verbs about the host's policy."""

from __future__ import annotations

from bayplan.cli.call import Call
from bayplan.cli.output import printable, write
from bayplan.errors import NotFound, Refused
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from bayplan.model.policy import Policy
    from bayplan.model.reference import Reference


def check(call: Call) -> int:
    """Read a policy and every key that it names, as a pull would; an error says what is wrong with it."""
    from bayplan.engine import policy as engine

    found = engine.read({"BAYPLAN_POLICY": call.arguments[0]}) if call.arguments else engine.read()
    if found is None:
        raise NotFound(f"checking the policy: there is no {engine.PATH}, so everything is allowed")
    for rule in found.rules:
        for key in rule.signed_by.keys if rule.signed_by else ():
            engine.load_key(key)
    write(f"{printable(found.path)}: {len(found.rules)} rules")
    return 0


def show(call: Call) -> int:
    """What the policy says of an image's name; nothing is asked of its registry."""
    from bayplan.engine import policy as engine
    from bayplan.model.policy import Policy
    from bayplan.model.reference import parse_reference

    reference, policy = parse_reference(call.arguments[0]), engine.read() or Policy(engine.PATH, ())
    write(f"pull: {_pull(policy, reference)}")
    write(f"push: {_push(policy, reference)}")
    return 0


def _pull(policy: Policy, reference: Reference) -> str:
    from bayplan.plan.policy import for_pull

    try:
        required = for_pull(policy, reference)
    except Refused as error:
        return f"refused: {printable(str(error))}"
    said = ["allowed"]
    if required.digests:
        said.append(f"as {' or '.join(map(str, required.digests))}")
    if required.signers:
        names = [key if key.startswith("/") else "a key in the policy" for key in required.signers.keys]
        said.append(f"signed by {(' and ' if required.signers.all else ' or ').join(map(printable, names))}")
    return ", ".join(said)


def _push(policy: Policy, reference: Reference) -> str:
    from bayplan.plan.policy import check_push

    try:
        check_push(policy, reference)
    except Refused as error:
        return f"refused: {printable(str(error))}"
    return "allowed"
