"""OCI layouts and archives as places that images are copied from (engine/transfer.py); no state and no root is needed.

Sources: OCI image-spec 1.1 image-layout.md; Docker's `manifest.json`, as docker-save(1) has it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from bayplan.engine.archives import Held, blob_name, docker_entries, docker_image
from bayplan.errors import Invalid, NotFound
from bayplan.model.image import MANIFEST_LIMIT, OCI_INDEX, Descriptor, Index, parse_manifest
from bayplan.model.location import DOCKER_ARCHIVE, Location
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import archive, blobs
from bayplan.store.archive import Members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bayplan.engine.transfer import Source

REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


def open_source(location: Location) -> Source:
    """A layout or an archive to copy from; raises NotFound, Invalid. A packed archive is unpacked to a file without a name first."""
    if location.transport == "oci" and not os.path.isdir(location.path):
        raise NotFound(f"opening the layout {location.path}: there is no such directory")
    members = archive.open_members(location.path, spool=_spool)
    try:
        if members.size("index.json") is not None:
            return LayoutSource(members, location)
        if members.size("manifest.json") is not None and location.transport == DOCKER_ARCHIVE:
            return DockerSource(members, location)
    except BaseException:
        members.close()
        raise
    members.close()
    raise Invalid(f"opening {location}: it has no index.json, so it is no OCI layout")


def _spool() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class LayoutSource:
    """An image in an OCI layout, by the name that its index gives it."""

    def __init__(self, members: Members, location: Location) -> None:
        self._members = members
        self._location = location
        self._top = self._find()

    def _find(self) -> Descriptor:
        index = read_index(archive.read(self._members, "index.json", limit=MANIFEST_LIMIT))
        name = self._location.name
        named = [each for each in index.manifests if name in _names(each)] if name else list(index.manifests)
        if len({each.digest for each in named}) == 1:
            return named[0]
        there = ", ".join(sorted({each for entry in index.manifests for each in _names(entry)})[:20]) or "no names"
        if name:
            raise NotFound(f"reading {self._location}: it has no image of this name; it has {there}")
        raise Invalid(f"reading {self._location}: it holds {len(named)} images; name one of {there}")

    def top(self) -> tuple[bytes, str]:
        return self.document(self._top), self._top.media_type

    def document(self, descriptor: Descriptor) -> bytes:
        data = archive.read(self._members, blob_name(descriptor.digest), limit=MANIFEST_LIMIT)
        return blobs.verify(data, descriptor.digest, what=f"a manifest in {self._location}")

    def pieces(self, descriptor: Descriptor, start: int, end: int) -> Iterator[bytes]:
        yield from _between(self._members.chunks(blob_name(descriptor.digest), start), end - start)

    def close(self) -> None:
        self._members.close()


def _between(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count <= 0:
            return
        yield chunk[:count]
        count -= len(chunk)


def _names(descriptor: Descriptor) -> tuple[str, ...]:
    """What an entry of an index is called: the annotations, as they are and as a tag or a reference may be asked for."""
    annotations = dict(descriptor.annotations)
    found = [annotations[key] for key in (REF_NAME, _CONTAINERD_NAME) if key in annotations]
    with contextlib.suppress(Invalid):
        found += [parse_reference(each).familiar for each in found if "/" in each or ":" in each]
    return tuple(dict.fromkeys(found))


class DockerSource:
    """An image of a docker-archive that is no layout: a manifest is made for it, whose digest nobody else knows."""

    def __init__(self, members: Members, location: Location) -> None:
        self._members = members
        self._held = _find_held(members, location)
        layers = self._held.resolved.manifest.layers
        self._sources: Mapping[str, str] = {str(layer.digest): name for layer, name in zip(layers, self._held.sources)}

    def top(self) -> tuple[bytes, str]:
        return self._held.resolved.documents[0][1], self._held.resolved.manifest.media_type

    def document(self, descriptor: Descriptor) -> bytes:
        raise NotFound(f"reading the archive: it has no manifest {descriptor.digest}")

    def pieces(self, descriptor: Descriptor, start: int, end: int) -> Iterator[bytes]:
        if descriptor.digest == self._held.resolved.manifest.config.digest:
            yield self._held.resolved.config_bytes[start:end]
            return
        yield from _between(self._members.chunks(self._sources[str(descriptor.digest)], start), end - start)

    def close(self) -> None:
        self._members.close()


def _find_held(members: Members, location: Location) -> Held:
    entries = docker_entries(members)
    if location.name:
        wanted = parse_reference(location.name).canonical
        entries = [each for each in entries if wanted in {parse_reference(name).canonical for name in each.strings("RepoTags") or ()}]
    if len(entries) != 1:
        there = ", ".join(sorted({name for each in docker_entries(members) for name in each.strings("RepoTags") or ()})[:20]) or "no names"
        raise (NotFound if not entries else Invalid)(f"reading {location}: {len(entries)} of its images are meant; it has {there}")
    return docker_image(members, entries[0])


def read_index(data: bytes) -> Index:
    """Read a layout's index.json; raises Invalid."""
    index = parse_manifest(data, media_type=OCI_INDEX)
    if not isinstance(index, Index):
        raise Invalid("reading the OCI layout: index.json is no index")
    return index
