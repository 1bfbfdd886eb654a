"""Verbs that move images: to registries and between all kinds of places."""

from __future__ import annotations

import os
import sys

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import each, json_text, listing, printable, write
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from bayplan.engine.looking import Seen
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


def tags(call: Call) -> int:
    from bayplan.engine import looking
    from bayplan.model.reference import parse_reference

    reference = parse_reference(call.arguments[0])
    limit = call.number("limit", looking.TAGS_LIMIT)
    if limit < 1:
        raise Invalid("tags: --limit is a number from 1 on")
    found = looking.tags(reference, limit=limit)
    documents = [{"Name": reference.name, "Tag": one} for one in found]
    if call.flag("digests"):
        there = dict(looking.digests(reference, found))
        documents = [{**one, "Digest": str(there[one["Tag"]] or "<none>")} for one in documents]
    digest = (("DIGEST", "Digest"),) if call.flag("digests") else ()
    if len(found) == limit:
        _warn(f"only the first {limit} tags are shown; --limit shows more")
    return listing(call, documents, (("NAME", "Name"), ("TAG", "Tag"), *digest), identity="Tag")


def manifest_create(call: Call) -> int:
    from bayplan.engine import multiplatform
    from bayplan.model.reference import parse_reference

    name, *members = call.arguments
    multiplatform.create(call.state(create=True), name, members, amend=call.flag("amend"))
    _say(f"Created manifest list {parse_reference(name).canonical}")
    return 0


def manifest_annotate(call: Call) -> int:
    from bayplan.engine import multiplatform

    pairs = [each.partition("=") for each in call.many("annotation")]
    if not all(key and equals for key, equals, _ in pairs):
        raise Invalid("manifest annotate: --annotation is KEY=VALUE")
    platform = {"os": call.text("os"), "architecture": call.text("arch"), "variant": call.text("variant")}
    annotations = {key: value for key, _, value in pairs}
    multiplatform.annotate(call.state(), *call.arguments, platform=platform, annotations=annotations)
    return 0


def manifest_push(call: Call) -> int:
    """The digest, as `docker manifest push` prints it."""
    state = call.state()
    from bayplan.engine import multiplatform

    quiet = call.flag("quiet")
    tell = (lambda descriptor, outcome: None) if quiet else _tell_copy
    _say(str(multiplatform.push(state, call.arguments[0], purge=call.flag("purge"), tell=tell).digest))
    return 0


def manifest_remove(call: Call) -> int:
    state = call.state()
    from bayplan.engine import multiplatform

    return each(call.arguments, lambda name: multiplatform.remove(state, name))


def manifest_inspect(call: Call) -> int:
    """An index that was made here, else what the registry has under the name."""
    from bayplan.model.reference import parse_reference

    reference = parse_reference(call.arguments[0])
    if os.geteuid() == 0:
        from bayplan.store import indexes

        row = indexes.named(call.state().records, reference.canonical)
        if row:
            return _show_manifest(call, row.document.encode())
    from bayplan.engine import looking

    if call.flag("verbose"):
        return _show_verbose(looking.manifests(reference))
    return _show_manifest(call, looking.manifest(reference).data)


def _show_manifest(call: Call, data: bytes) -> int:
    """Indented; with --raw the very bytes, whose digest is the manifest's."""
    if call.flag("raw"):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return 0
    from bayplan.model import jsontext

    write(json_text(jsontext.loads(data.decode()), indent=3))
    return 0


def _show_verbose(seen: tuple[Seen, ...]) -> int:
    """As `docker manifest inspect --verbose`: an object, or a list of an index's."""
    from bayplan.model import jsontext
    from bayplan.model.image import OCI_MANIFEST, Platform

    documents = []
    for one in seen:
        descriptor = {"mediaType": one.descriptor.media_type, "digest": str(one.descriptor.digest), "size": one.descriptor.size}
        platform = {key: text for key, text in zip(Platform._fields, one.descriptor.platform or ()) if text}
        member = "OCIManifest" if one.descriptor.media_type == OCI_MANIFEST else "SchemaV2Manifest"
        shown = {**descriptor, **({"platform": platform} if platform else {})}
        documents.append({"Ref": one.reference.canonical, "Descriptor": shown, member: jsontext.loads(one.data.decode())})
    write(json_text(documents if len(documents) > 1 else documents[0], indent=4))
    return 0
