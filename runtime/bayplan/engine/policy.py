"""The host's policy at work: asked by a name before any connection, and by a digest before anything of an image is fetched."""

from __future__ import annotations

import os

from bayplan.errors import Invalid, Refused
from bayplan.model.policy import LIMIT, Policy, parse_policy
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan import policy as decide
from bayplan.plan.policy import Required

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayplan.engine.publickeys import PublicKey
    from bayplan.model.digest import Digest
    from bayplan.model.reference import Reference
    from bayplan.registry.http import Settings
    from bayplan.registry.remote import Remote

PATH = "/etc/bayplan/policy.json"


class Admission(NamedTuple):
    """What the policy said of a name: what the image must meet that it leads to, and the keys that are to have signed it."""

    required: Required
    keys: tuple[PublicKey, ...] = ()


def read(environment: Mapping[str, str] | None = None) -> Policy | None:
    """The host's policy; None where the host has none, which allows everything.

    BAYPLAN_POLICY names another file, which has to be there. Raises Refused for a policy that is broken or cannot be read: nobody
    knows what it would have refused.
    """
    named = (os.environ if environment is None else environment).get("BAYPLAN_POLICY")
    path = named or PATH
    data = _contents(path, LIMIT, may_lack=not named)
    try:
        return None if data is None else parse_policy(data, path)
    except Invalid as error:
        raise Refused(f"{error}; no image may come or go until it is mended") from error


def _contents(path: str, limit: int, *, may_lack: bool = False) -> bytes | None:
    """At most one byte over `limit`; None for a file that may lack, and does: a link that leads nowhere is there."""
    try:
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError as error:
        if may_lack and not os.path.lexists(path):
            return None
        raise Refused(f"reading {path} for the policy: it is not there; no image may come or go until it is") from error
    except OSError as error:
        raise Refused(f"reading {path} for the policy: {error.strerror}; no image may come or go until it can be read") from error


def verify_pull(reference: Reference, environment: Mapping[str, str] | None = None) -> Admission:
    """Ask whether an image of this name may come, before any connection; verify_digest has to follow for what the name leads to.

    Raises Refused where it may not, and what `read` raises.
    """
    policy = read(environment)
    if policy is None:
        return Admission(Required(reference))
    required = decide.for_pull(policy, reference)
    return Admission(required, tuple(map(load_key, required.signers.keys)) if required.signers else ())


def verify_digest(admission: Admission, remote: Remote, digest: Digest) -> None:
    """Ask whether the image of this digest may come: the digest is a listed one, and signed as the policy wants it.

    `remote` is where the image comes from. Raises Refused, and what asking it raises.
    """
    decide.check_digest(admission.required, digest)
    if admission.required.signers:
        from bayplan.engine import signatures

        signatures.verify(remote, digest, admission.required, admission.keys)


def verify_push(reference: Reference, settings: Settings) -> None:
    """Ask whether an image may go to this name, before any connection. Raises Refused where it may not, and what `read` raises.

    Where registries.conf sends the name to another place, that one has to be allowed, too: what must not leave the house does not
    leave it under another name. A pull is decided by the name alone: who verifies what comes need not mind from where.
    """
    policy = read(settings.environment)
    if policy is not None:
        from bayplan.registry.mirrors import endpoints
        from bayplan.registry.remote import read_registries

        decide.check_push(policy, reference)
        place = endpoints(reference, read_registries(settings))[-1]
        decide.check_push(policy, reference._replace(registry=place.location, repository=place.repository))


def load_key(key: str) -> PublicKey:
    """A policy's key: PEM text, or the path of a file of it. Raises Refused for a key that is not there, or is none."""
    from bayplan.engine.publickeys import LIMIT as KEY_LIMIT
    from bayplan.engine.publickeys import parse_public_key

    given, name = (key, "in the policy") if not key.startswith("/") else ((_contents(key, KEY_LIMIT) or b"").decode("latin-1"), key)
    try:
        return parse_public_key(given, name)
    except Invalid as error:
        raise Refused(f"{error}; no image may come that it should have signed") from error
