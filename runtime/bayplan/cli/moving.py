"""Verbs that move images: to registries and between all kinds of places."""

from __future__ import annotations

import os

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import printable
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from bayplan.model.image import Descriptor
    from bayplan.registry.protocol_push import Outcome

_COMPRESSIONS = ("gzip", "zstd")
_FORMATS = ("docker", "oci")


def _one_of(call: Call, option: str, choices: tuple[str, ...]) -> str:
    text = call.text(option)
    if text and text not in choices:
        raise Invalid(f"{call.verb.name}: --{option} is one of {', '.join(choices)}, not {text!r}")
    return text


def _say(line: str) -> None:
    """One line, whole, from whichever process says it."""
    os.write(1, f"{line}\n".encode("utf-8", "surrogateescape"))


def _warn(line: str) -> None:
    os.write(2, f"bayplan: {printable(line)}\n".encode("utf-8", "surrogateescape"))


def push(call: Call) -> int:
    """As `docker push` prints it."""
    compression, format = _one_of(call, "compression", _COMPRESSIONS), _one_of(call, "format", _FORMATS)
    state = call.state()
    from bayplan.engine import push as engine
    from bayplan.model.reference import parse_reference

    quiet, name = call.flag("quiet"), call.arguments[0]
    if not quiet:
        reference = parse_reference(name)
        _say(f"The push refers to repository [{reference.registry}/{reference.repository}]")
    pushed = engine.push(
        state,
        name,
        every_tag=call.flag("all-tags"),
        compression=compression,
        format=format,
        tell=(lambda label, outcome: None) if quiet else _tell_push,
    )
    for one in pushed:
        tag = one.reference.tag or one.digest
        _say(one.reference.canonical if quiet else f"{tag}: digest: {one.digest} size: {one.size}")
    return 0


def _tell_push(label: str, outcome: Outcome) -> None:
    how = {"exists": "Layer already exists", "mounted": f"Mounted from {outcome.source}", "pushed": "Pushed"}
    _say(f"{label}: {how[outcome.how]}")


def copy(call: Call) -> int:
    """A line for each blob, and the digest of what has the name now."""
    from bayplan.engine import copying
    from bayplan.model.location import parse_location

    source, target = map(parse_location, call.arguments)
    quiet = call.flag("quiet")
    copied = copying.copy(
        source,
        target,
        platform=call.text("platform"),
        every=call.flag("all"),
        format=_one_of(call, "format", _FORMATS),
        state=lambda: call.state(create=target.transport == "store"),
        tell=(lambda descriptor, outcome: None) if quiet else _tell_copy,
    )
    if not copied.exact:
        _warn(f"{source} has no manifest: one was made for it, whose digest is new")
    if copied.foreign:
        _warn(f"the manifest in {target} is Docker's, as it came; podman and skopeo read only OCI's there, which --format oci writes")
    _say(str(copied.digest) if quiet else f"Digest: {copied.digest}")
    return 0


def _tell_copy(descriptor: Descriptor, outcome: Outcome) -> None:
    how = {"exists": "already there", "mounted": f"mounted from {outcome.source}", "pushed": f"copied ({moments.size(descriptor.size)})"}
    _say(f"{descriptor.digest.short}: {how[outcome.how]}")
