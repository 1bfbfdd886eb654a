"""Whether an image is already where it would go: what makes a second push, copy or save do nothing, and a check tell the truth.

Digests are compared where both ends have one. An image that was made here and has never left has no manifest yet (engine/sealing.py), and
making one only to compare it would be the work that is to be saved: then it is the same where the manifest that is there names its config.
"""

from __future__ import annotations

import os

from bayplan.engine import archives, images, push, transfer
from bayplan.engine.layouts import DockerSource, open_source
from bayplan.engine.pull import host_settings
from bayplan.engine.repositories import RegistrySource
from bayplan.engine.sealing import Sealed
from bayplan.engine.stored import StoreSource
from bayplan.errors import Invalid, NotFound
from bayplan.model.image import DOCKER_MANIFEST, Manifest, parse_manifest
from bayplan.model.location import LAYOUT, OCI_ARCHIVE, REGISTRY, STORE, Location
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry.remote import Remote, open_remote
from bayplan.store import archive, blobs, records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayplan.engine.state import State
    from bayplan.model.image_requests import Copy, Save
    from bayplan.model.reference import Reference
    from bayplan.registry.http import Settings
    from bayplan.store.records import ImageRow


class Ends(NamedTuple):
    """`here` is what would go: a digest, or where nobody knows it yet the image's id; `there` what has the name now, "" is nothing."""

    here: str
    there: str
    same: bool


def pushed(
    state: State,
    reference: Reference,
    row: ImageRow,
    *,
    format: str = "",
    auth: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Ends:
    """The image here, and what its registry has under the name, which is asked for a digest first. Raises Denied, Unavailable, Refused."""
    from bayplan.engine import policy

    settings = settings or host_settings()
    policy.verify_push(reference, settings)
    remote = open_remote(reference, settings=settings, auth=auth)
    try:
        return _pushed(state, remote, str(reference.digest or reference.tag), row, format)
    except NotFound:
        return Ends(_digest(state, row) or row.id, "", same=False)
    finally:
        remote.close()


def _pushed(state: State, remote: Remote, name: str, row: ImageRow, format: str) -> Ends:
    remote.enter()
    head, wanted = remote.head(name).digest, _digest(state, row)
    if head and wanted and not format:
        return Ends(wanted, str(head), same=str(head) == wanted)
    data = remote.manifest(name).data
    there = str(head or blobs.digest_of(data))
    return Ends(wanted or row.id, there, same=wanted == there if wanted and not format else _has_config(data, row.id, format))


def _digest(state: State, row: ImageRow) -> str:
    """Of what a push would send; "" for an image that has no manifest yet."""
    found = archives.find_manifest(state.root, row)
    return str(push.top_of(state, Sealed(row, *found)).digest) if found else ""


def _has_config(data: bytes, image_id: str, format: str = "") -> bool:
    """Whether a manifest, in this format, is the one of an image."""
    manifest = parse_manifest(data)
    if not isinstance(manifest, Manifest) or str(manifest.config.digest) != image_id:
        return False
    return not format or (manifest.media_type == DOCKER_MANIFEST) == (format == "docker")


def copied(state: State, want: Copy, *, settings: Settings | None = None) -> Ends:
    """Both ends of a copy. Raises what opening its source raises; what cannot be read at its target is nothing."""
    settings = settings or host_settings()
    there = _target(state, want.target, settings)
    row = images.find(state, want.source.name) if want.source.transport == STORE else None
    if row and not archives.find_manifest(state.root, row):
        return Ends(row.id, there.digest, same=row.id in (there.image, there.config))
    document, config = _wanted(state, want, row, settings)
    digest = str(document.descriptor.digest)
    return Ends(digest, there.digest, same=digest == there.digest or bool(there.image and there.image == config))


class _There(NamedTuple):
    """What a target has: a document's digest, its config where that is a manifest, and the id of an image of ours."""

    digest: str = ""
    config: str = ""
    image: str = ""


def _target(state: State, target: Location, settings: Settings) -> _There:
    if target.transport == STORE:
        assert target.reference
        row = records.image_named(state.records, target.reference.canonical)
        return _There(row.digest, row.id, row.id) if row else _There()
    try:
        data = _at_registry(target, settings) if target.transport == REGISTRY else _in_files(target)
    except (NotFound, Invalid):
        return _There()
    document = parse_manifest(data)
    return _There(str(blobs.digest_of(data)), str(document.config.digest) if isinstance(document, Manifest) else "")


def _at_registry(target: Location, settings: Settings) -> bytes:
    from bayplan.engine import policy

    assert target.reference
    policy.verify_push(target.reference, settings)
    remote = open_remote(target.reference, settings=settings)
    try:
        return remote.manifest(str(target.reference.digest or target.reference.tag)).data
    finally:
        remote.close()


def _in_files(target: Location) -> bytes:
    if not os.path.lexists(target.path):
        raise NotFound(f"reading {target}: there is nothing yet")
    source = open_source(target)
    try:
        return source.top()[0]
    finally:
        source.close()


def _wanted(state: State, want: Copy, row: ImageRow | None, settings: Settings) -> tuple[transfer.Document, str]:
    """The document that would have the name at the target, and the config's digest where it is a manifest."""
    source = _source(state, want.source, row, settings)
    try:
        documents = transfer.gather(source, platform=want.platform, every=want.every)
    finally:
        source.close()
    format = want.format or ("oci" if isinstance(source, DockerSource) and want.target.transport in (LAYOUT, OCI_ARCHIVE) else "")
    if format:
        from bayplan.engine.rewriting import in_format

        documents = in_format(documents, format)
    manifest = parse_manifest(documents[-1].data, media_type=documents[-1].descriptor.media_type)
    return documents[-1], str(manifest.config.digest) if isinstance(manifest, Manifest) else ""


def _source(state: State, location: Location, row: ImageRow | None, settings: Settings) -> transfer.Source:
    if row:
        found = archives.find_manifest(state.root, row)
        assert found, "an image without a manifest is compared by its config"
        return StoreSource(state.root, push.top_of(state, Sealed(row, *found)))
    if location.transport == REGISTRY:
        assert location.reference
        return RegistrySource(location.reference, settings=settings)
    return open_source(location)


def saved(state: State, want: Save) -> bool:
    """Whether the archive holds these images, each with the name that it would have, and nothing else. Raises NotFound for an image."""
    wanted: dict[str, set[str]] = {}
    for name in want.names:
        wanted.setdefault(images.find(state, name).id, set()).update(images.names_saved(state, name))
    if not os.path.isfile(want.path):
        return False
    try:
        held = {str(image_id): set(names) for image_id, names in archives.identify(want.path, root=state.root)}
        return held == wanted and _kind(want.path) == want.format
    except (Invalid, NotFound):
        return False


def _kind(path: str) -> str:
    """What `save` calls the archive that it writes so."""
    members = archive.open_members(path, spool=_unpacked_only)
    try:
        return "docker-archive" if members.size("manifest.json") is not None else "oci-archive"
    finally:
        members.close()


def _unpacked_only() -> int:
    raise Invalid("reading the archive: it is packed, and none of ours is")
