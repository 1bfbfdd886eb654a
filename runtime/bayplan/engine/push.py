"""Images go from the store to registries, byte for byte as they came."""

from __future__ import annotations

from bayplan.engine import images
from bayplan.engine.compressing import compressed
from bayplan.engine.pull import host_settings, using
from bayplan.engine.repositories import RegistryTarget
from bayplan.engine.sealing import Sealed, sealed
from bayplan.engine.stored import StoreSource
from bayplan.engine.transfer import transfer
from bayplan.errors import Invalid, NotFound
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.image import INDEX_TYPES, MANIFEST_LIMIT, Descriptor, parse_image_config
from bayplan.model.linked import parse_linked
from bayplan.model.reference import Reference, parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry.http import Settings
from bayplan.store import blobs, records
from bayplan.store.records import ImageRow
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bayplan.engine.state import State
    from bayplan.registry.protocol_push import Outcome


class Pushed(NamedTuple):
    """A name that a registry knows now: the digest and size in bytes of its manifest or index."""

    reference: Reference
    digest: Digest
    size: int


def push(
    state: State,
    name: str,
    *,
    every_tag: bool = False,
    compression: str = "",
    format: str = "",
    auth: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    tell: Callable[[str, Outcome], object] = lambda label, outcome: None,
) -> tuple[Pushed, ...]:
    """Push the image `name` to its registry, with `every_tag` all that have its repository; what is there is not sent.

    `tell` is called for each layer with the twelve digits that it is known by, perhaps in a fork. Raises NotFound, Denied, Invalid,
    Unavailable; what came to the registry stays there without a name.
    """
    going = wanted(state, name, every_tag=every_tag)
    with using(state.root):
        return tuple(
            _push_one(state, reference, row, compression=compression, format=format, auth=auth, settings=settings, tell=tell)
            for reference, row in going
        )


def wanted(state: State, name: str, *, every_tag: bool) -> tuple[tuple[Reference, ImageRow], ...]:
    """What a push of `name` would send, and under which names. Raises NotFound, Invalid."""
    reference = parse_reference(name)
    if not every_tag:
        row = records.image_named(state.records, reference.canonical)
        if row is None:
            raise NotFound(f"pushing {reference}: there is no image of this name here; `tag` gives an image the name to push it by")
        return ((reference, row),)
    if reference.digest or name.rpartition("/")[2] != reference.repository.rpartition("/")[2]:
        raise Invalid(f"pushing {name}: with --all-tags it is a repository's name, without tag and digest")
    rows = {row.id: row for row in records.images(state.records)}
    named = [(parse_reference(each), rows[image]) for image, several in records.image_names(state.records).items() for each in several]
    ours = [pair for pair in named if pair[0].tag and (pair[0].registry, pair[0].repository) == (reference.registry, reference.repository)]
    found = tuple(sorted(ours, key=lambda pair: pair[0].canonical))
    if not found:
        raise NotFound(f"pushing {reference.name}: there is no image of this repository here")
    return found


def _push_one(
    state: State,
    reference: Reference,
    row: ImageRow,
    *,
    compression: str,
    format: str,
    auth: Mapping[str, str] | None,
    settings: Settings | None,
    tell: Callable[[str, Outcome], object],
) -> Pushed:
    made = compressed(state, sealed(state, row, compression=compression or "gzip"), compression or "gzip")
    labels = _labels(state, made)
    known = repositories(state, reference, made.row)
    target = RegistryTarget(
        reference,
        settings=settings or host_settings(),
        auth=auth,
        mounts=lambda digest: known.get(digest, ()),
        also=tuple(dict.fromkeys(each for several in known.values() for each in several)),
    )

    def told(descriptor: Descriptor, outcome: Outcome) -> None:
        if descriptor.digest in labels:
            tell(labels[descriptor.digest], outcome)

    try:
        top = transfer(StoreSource(state.root, top_of(state, made)), target, every=True, format=format, tell=told).descriptor
    finally:
        target.close()
    if not row.digest and not format:
        with records.transaction(state.records):
            records.put_image(state.records, made.row._replace(digest=str(top.digest)), ())
    return Pushed(reference, top.digest, top.size)


def top_of(state: State, made: Sealed) -> Descriptor:
    """What is sent for an image: the index that it came by, where all of that is here, else its manifest."""
    return _whole_index(state.root, made.row) or made.descriptor


def _whole_index(root: StateRoot, row: ImageRow) -> Descriptor | None:
    """The index by which the image came, if everything that it refers to is in the store."""
    if not row.digest or row.digest not in row.blobs or not blobs.exists(root, parse_digest(row.digest)):
        return None
    data = blobs.read(root, parse_digest(row.digest), limit=MANIFEST_LIMIT)
    linked = parse_linked(data)
    if linked.media_type not in INDEX_TYPES or not all(_is_whole(root, each) for each in linked.manifests):
        return None
    return Descriptor(linked.media_type, parse_digest(row.digest), len(data))


def _is_whole(root: StateRoot, descriptor: Descriptor) -> bool:
    if not blobs.exists(root, descriptor.digest):
        return False
    linked = parse_linked(blobs.read(root, descriptor.digest, limit=MANIFEST_LIMIT), media_type=descriptor.media_type)
    return all(blobs.exists(root, each.digest) for each in linked.blobs) and all(_is_whole(root, each) for each in linked.manifests)


def _labels(state: State, made: Sealed) -> dict[Digest, str]:
    """What each layer is called towards a user: the first digits of its diff_id."""
    diff_ids = parse_image_config(images.config_bytes(state, made.row.id)).diff_ids
    return {layer.digest: diff_id.short for layer, diff_id in zip(made.manifest.layers, diff_ids)}


def repositories(state: State, reference: Reference, row: ImageRow) -> dict[Digest, tuple[str, ...]]:
    """For the image's blobs, the other repositories of the same registry that are known to have them: images came from there."""
    wanted = set(row.blobs)
    rows = {each.id: each for each in records.images(state.records) if each.digest}
    found: dict[Digest, tuple[str, ...]] = {}
    for image, several in records.image_names(state.records).items():
        if image not in rows:
            continue
        theirs = [parse_reference(name) for name in several]
        names = {each.repository for each in theirs if each.registry == reference.registry and each.repository != reference.repository}
        for blob in wanted & set(rows[image].blobs) if names else ():
            digest = parse_digest(blob)
            found[digest] = tuple(dict.fromkeys((*found.get(digest, ()), *sorted(names))))
    return found
