"""Indexes made here: put together from images of this store and of registries, described, and pushed with all that is in them."""

from __future__ import annotations

import json

from bayplan.engine import images
from bayplan.engine.pull import host_settings, using
from bayplan.engine.push import Pushed, top_of
from bayplan.engine.repositories import RegistrySource, RegistryTarget
from bayplan.engine.sealing import sealed
from bayplan.engine.state import State
from bayplan.engine.stored import StoreSource
from bayplan.engine.transfer import Document, gather, read_small, transfer
from bayplan.errors import Conflict, Invalid, NotFound
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.image import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_INDEX,
    Descriptor,
    Index,
    Platform,
    parse_image_config,
    parse_manifest,
)
from bayplan.model.linked import parse_linked
from bayplan.model.reference import Reference, parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry.http import Settings
from bayplan.store import indexes, records
from bayplan.store.indexes import IndexRow
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from bayplan.engine.transfer import Piece, Source, Tell


class Member(NamedTuple):
    """One manifest of an index that is being made: where it comes from ("" is the store), and what of the store it needs."""

    descriptor: Descriptor
    origin: str
    blobs: tuple[Digest, ...]


def create(state: State, name: str, members: Sequence[str], *, amend: bool = False, settings: Settings | None = None) -> None:
    """Make the index `name` of images: of this store, where they are here, else of their registries. `amend` adds to one that is there.

    Raises Conflict where there is one, NotFound, Denied, Unavailable, Invalid.
    """
    reference = _target(name)
    there = indexes.named(state.records, reference.canonical)
    if there and not amend:
        raise Conflict(f"making the index {reference}: it exists; add to it with --amend, or remove it with `manifest rm`")
    with using(state.root):
        found = [each for member in members for each in _members(state, member, settings or host_settings())]
        if there:
            fresh = {each.descriptor.digest for each in found}
            found = [each for each in _read(there) if each.descriptor.digest not in fresh] + found
        _put(state, reference, found)


def _target(name: str) -> Reference:
    reference = parse_reference(name)
    if reference.digest:
        raise Invalid(f"making the index {name}: a name to give has a tag, not a digest")
    return reference


def _members(state: State, name: str, settings: Settings) -> list[Member]:
    """The image's manifest, or all of an index's."""
    row = images.look_up(state, name)
    if row:
        source: Source = StoreSource(state.root, top_of(state, sealed(state, row)))
        return _gathered(source, "")
    reference = parse_reference(name)
    source = RegistrySource(reference, settings=settings)
    try:
        return _gathered(source, reference.canonical)
    finally:
        source.close()


def _gathered(source: Source, origin: str) -> list[Member]:
    *below, top = gather(source, platform="", every=True)
    if top.descriptor.media_type not in INDEX_TYPES:
        below = [top]
    elif any(each.descriptor.media_type in INDEX_TYPES for each in below):
        raise Invalid("making an index: one of its members is an index within an index")
    return [_member(source, each, origin) for each in below]


def _member(source: Source, document: Document, origin: str) -> Member:
    descriptor = document.descriptor
    if descriptor.platform is None:
        descriptor = descriptor._replace(platform=parse_image_config(read_small(source, document.linked.blobs[0])).platform)
    if origin:
        return Member(descriptor, parse_reference(origin).with_digest(descriptor.digest).canonical, ())
    return Member(descriptor, "", (descriptor.digest, *(each.digest for each in document.linked.blobs)))


def _put(state: State, reference: Reference, members: Iterable[Member]) -> None:
    members = list({each.descriptor.digest: each for each in members}.values())
    row = IndexRow(
        reference.canonical,
        _document([each.descriptor for each in members]),
        tuple(each.origin for each in members),
        tuple(dict.fromkeys(str(digest) for each in members for digest in each.blobs)),
    )
    with records.transaction(state.records):
        indexes.put(state.records, row)


def _document(descriptors: Sequence[Descriptor]) -> str:
    """In Docker's words where all of its manifests are, as Docker does it; else in OCI's."""
    docker = descriptors and all(each.media_type == DOCKER_MANIFEST for each in descriptors)
    entries = [_entry(each) for each in descriptors]
    document = {"schemaVersion": 2, "mediaType": DOCKER_INDEX if docker else OCI_INDEX, "manifests": entries}
    return json.dumps(document, separators=(",", ":"))


def _entry(descriptor: Descriptor) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}
    if descriptor.platform:
        found["platform"] = {key: text for key, text in zip(Platform._fields, descriptor.platform) if text}
    if descriptor.annotations:
        found["annotations"] = dict(descriptor.annotations)
    return found


def _read(row: IndexRow) -> list[Member]:
    """An index's members; each keeps all of the row's blobs, which the row has once."""
    kept = tuple(map(parse_digest, row.blobs))
    return [Member(each, origin, kept if not origin else ()) for each, origin in zip(_descriptors(row), row.origins)]


def _descriptors(row: IndexRow) -> tuple[Descriptor, ...]:
    index = parse_manifest(row.document.encode())
    return index.manifests if isinstance(index, Index) else ()


def find(state: State, name: str) -> IndexRow:
    row = indexes.named(state.records, parse_reference(name).canonical)
    if row is None:
        raise NotFound(f"looking up the index {name}: there is none of this name here; make it with `manifest create`")
    return row


def annotate(
    state: State, name: str, member: str, *, platform: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None
) -> None:
    """Say of one of an index's manifests (its image's name, or its digest) which platform it is for; `platform` has Platform's fields."""
    row = find(state, name)
    members = _read(row)
    chosen = _chosen(state, members, member)
    old = members[chosen].descriptor
    replaced = old._replace(
        platform=(old.platform or Platform("linux", ""))._replace(**{key: text for key, text in (platform or {}).items() if text}),
        annotations=tuple(sorted({**dict(old.annotations), **(annotations or {})}.items())),
    )
    members[chosen] = members[chosen]._replace(descriptor=replaced)
    _put(state, parse_reference(row.name), members)


def _chosen(state: State, members: Sequence[Member], name: str) -> int:
    digests = {name, name.rpartition("@")[2]}
    row = None if name.startswith(("sha256:", "sha512:")) else images.look_up(state, name)
    if row:
        digests.add(str(sealed(state, row).descriptor.digest))
    found = [position for position, each in enumerate(members) if str(each.descriptor.digest) in digests]
    if len(found) != 1:
        there = ", ".join(f"{each.descriptor.digest} ({each.descriptor.platform})" for each in members)
        raise NotFound(f"annotating {name}: the index has no such manifest; give the digest of one of {there or 'none'}")
    return found[0]


def remove(state: State, name: str) -> None:
    from bayplan.engine import content

    row = find(state, name)
    with records.transaction(state.records):
        indexes.remove(state.records, row.name)
    content.remove_unneeded(state)


class _Assembled:
    """An index whose manifests come from the store and from registries, as one source."""

    def __init__(self, root: StateRoot, row: IndexRow, settings: Settings) -> None:
        self._row = row
        self._settings = settings
        self._root = root
        self._origins = {each.digest: origin for each, origin in zip(_descriptors(row), row.origins)}
        self._sources: dict[str, Source] = {}
        self._owners: dict[Digest, str] = {}

    def top(self) -> tuple[bytes, str]:
        return self._row.document.encode(), ""

    def document(self, descriptor: Descriptor) -> bytes:
        origin = self._origins[descriptor.digest]
        data = self._source(origin, descriptor).document(descriptor)
        for each in parse_linked(data, media_type=descriptor.media_type).blobs:
            self._owners.setdefault(each.digest, origin)
        return data

    def _source(self, origin: str, descriptor: Descriptor) -> Source:
        if origin not in self._sources:
            store = StoreSource(self._root, descriptor)
            self._sources[origin] = RegistrySource(parse_reference(origin), settings=self._settings) if origin else store
        return self._sources[origin]

    def pieces(self, descriptor: Descriptor, start: int, end: int) -> Iterable[Piece]:
        return self._sources[self._owners[descriptor.digest]].pieces(descriptor, start, end)

    def close(self) -> None:
        for each in self._sources.values():
            each.close()


def push(state: State, name: str, *, purge: bool = False, settings: Settings | None = None, tell: Tell) -> Pushed:
    """Push an index with everything that it refers to; what the registry has is not sent. Raises what transfer.transfer raises."""
    row, settings = find(state, name), settings or host_settings()
    reference = parse_reference(row.name)
    if not row.origins:
        raise Invalid(f"pushing the index {reference}: there is nothing in it")
    theirs = [parse_reference(each) for each in row.origins if each]
    near = {each.repository for each in theirs if each.registry == reference.registry and each.repository != reference.repository}
    mounts = tuple(sorted(near))
    with using(state.root):
        source, target = _Assembled(state.root, row, settings), None
        try:
            target = RegistryTarget(reference, settings=settings, mounts=lambda _: mounts, also=mounts)
            top = transfer(source, target, every=True, tell=tell).descriptor
        finally:
            source.close()
            if target:
                target.close()
    if purge:
        remove(state, name)
    return Pushed(reference, top.digest, top.size)
