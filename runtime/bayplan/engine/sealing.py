"""Images that were made here: recorded with nothing but their config, and given manifest and blobs when they leave.

A layer that was made here (store/adoption.py) lies unpacked in the store, and that is all that running, building and flattening want of
it. Only `save` and `push` need its compressed archive, which is packed again then, and is the same bytes as ever (store/pack.py).
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from functools import partial

from bayplan.engine import images
from bayplan.engine.state import State
from bayplan.errors import Invalid, NotFound
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.image import LAYER_TYPES, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest, parse_image_config
from bayplan.model.late import late
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import blobs, layers, records, workers
from bayplan.store.records import ImageRow
from bayplan.store.root import StateRoot
from bayplan.store.staging import claimed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from bayplan.engine import archives, guard, pull
    from bayplan.store import codecs, pack
else:  # for what leaves: a build that is cached as a whole packs nothing
    archives = late("bayplan.engine.archives")
    guard = late("bayplan.engine.guard")
    pull = late("bayplan.engine.pull")
    codecs = late("bayplan.store.codecs")
    pack = late("bayplan.store.pack")

COMPRESSIONS = ("gzip", "zstd", "")
AT_ONCE = 4

_RESULT = struct.Struct("32sq")  # what a worker has made: the blob's digest and size


class Sealed(NamedTuple):
    """An image of which every blob is in the store; `descriptor` is the manifest's."""

    row: ImageRow
    descriptor: Descriptor
    manifest: Manifest


class _Blob(NamedTuple):
    """A layer's compressed archive that some image came with; `origin` are that image's config and manifest, which say so."""

    descriptor: Descriptor
    origin: tuple[str, ...]


def make(state: State, document: Mapping[str, Any], *, diff_ids: Sequence[Digest | str], names: Sequence[str]) -> ImageRow:
    """Record an image that was made here, under canonical `names`. Its layers are in the store.

    `document` is its config (image-spec config.md), whose `rootfs` is made of `diff_ids`, lowest first. The blobs of layers that came with
    other images stay as long as this one. The caller holds the content's lock (`pull.using`) since the layers came. Raises Invalid where
    the document is no config, NotFound where a layer is not there.
    """
    chain = tuple(parse_digest(str(each)) for each in diff_ids)
    data = config_bytes(document, chain)
    config, digest = parse_image_config(data), blobs.digest_of(data)
    size = sum(layers.size(state.root, each) for each in chain)
    layers.complete(state.root, chain)
    blobs.put(state.root, digest, data)
    row = _recorded(state, str(digest))
    if row is None:
        known = _known(state, set(chain))
        needed = [(*each.origin, str(each.descriptor.digest)) for each in known.values()]
        every = tuple(dict.fromkeys((str(digest), *(blob for several in needed for blob in several))))
        row = ImageRow(str(digest), "", size, config.created, tuple(map(str, chain)), every)
    with records.transaction(state.records):
        records.put_image(state.records, row, tuple(names))
    return row


def config_bytes(document: Mapping[str, Any], diff_ids: Sequence[Digest | str]) -> bytes:
    """The config that `make` gives an image, whose digest is its id."""
    rootfs = {"type": "layers", "diff_ids": [str(each) for each in diff_ids]}
    return json.dumps({**document, "rootfs": rootfs}, separators=(",", ":"), sort_keys=True).encode()


def _recorded(state: State, image_id: str) -> ImageRow | None:
    return next((row for row in records.images(state.records) if row.id == image_id), None)


def sealed(state: State, row: ImageRow, *, compression: str = "gzip") -> Sealed:
    """The image with its manifest and every blob in the store.

    One that was pulled or loaded is as it came. One that was made here gets its blobs now, compressed with `compression` where no image
    has brought the layer's already, and a manifest of OCI's; its record names them from then on. Raises NotFound where a layer is neither
    here nor can be packed again, Unavailable (no zstd on this host), Kernel.
    """
    if compression not in COMPRESSIONS:
        raise Invalid(f"compressing layers: {compression!r} is none of {', '.join(filter(None, COMPRESSIONS))}")
    with guard.clearing(state), pull.using(state.root):
        found = archives.find_manifest(state.root, row)
        return Sealed(row, *found) if found else _seal(state, row, compression)


def _seal(state: State, row: ImageRow, compression: str) -> Sealed:
    own = images.config_bytes(state, row.id)
    chain = parse_image_config(own).diff_ids
    made = {diff_id: each.descriptor for diff_id, each in _known(state, set(chain)).items()}
    made.update(_pack_layers(state.root, [each for each in dict.fromkeys(chain) if each not in made], compression))
    config = Descriptor(OCI_CONFIG, parse_digest(row.id), len(own))
    manifest = Manifest(OCI_MANIFEST, config, tuple(made[each] for each in chain))
    data = archives.manifest_document(manifest)
    digest = blobs.digest_of(data)
    blobs.put(state.root, digest, data)
    every = (row.id, str(digest), *(str(each.digest) for each in manifest.layers))
    sealed_row = row._replace(blobs=tuple(dict.fromkeys(every)))
    with records.transaction(state.records):
        if _recorded(state, row.id):  # not removed meanwhile
            records.put_image(state.records, sealed_row, ())
    return Sealed(sealed_row, Descriptor(OCI_MANIFEST, digest, len(data)), manifest)


def _known(state: State, wanted: set[Digest]) -> dict[Digest, _Blob]:
    """The compressed archives in the store, of those layers, with OCI's media types: what images that came from elsewhere have brought."""
    found: dict[Digest, _Blob] = {}
    for row in records.images(state.records):
        if wanted.isdisjoint(map(parse_digest, row.layers)):
            continue
        for descriptor, manifest in archives.manifests(state.root, row):
            if str(manifest.config.digest) not in row.blobs:
                continue
            origin = (str(manifest.config.digest), str(descriptor.digest))
            for diff_id, layer in zip(images.config(state, origin[0]).diff_ids, manifest.layers):
                if diff_id in wanted and diff_id not in found and blobs.exists(state.root, layer.digest):
                    found[diff_id] = _Blob(_as_oci(layer), origin)
    return found


def _as_oci(layer: Descriptor) -> Descriptor:
    packed = LAYER_TYPES[layer.media_type]
    return Descriptor(f"{OCI_LAYER}+{packed}" if packed else OCI_LAYER, layer.digest, layer.size)


def _pack_layers(root: StateRoot, diff_ids: list[Digest], compression: str) -> dict[Digest, Descriptor]:
    """Make the layers' blobs, several at once, each in a process of its own."""
    codecs.encoder(compression)  # raises Unavailable before anything is done
    results = mmap.mmap(-1, max(1, len(diff_ids)) * _RESULT.size)
    try:
        jobs = [partial(_pack_layer, root, each, compression, results, position) for position, each in enumerate(diff_ids)]
        workers.run(jobs, at_once=AT_ONCE)
        media_type = f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER
        made = list(_RESULT.iter_unpack(results[: len(diff_ids) * _RESULT.size]))
    finally:
        results.close()
    return {diff_id: Descriptor(media_type, Digest("sha256", digest.hex()), size) for diff_id, (digest, size) in zip(diff_ids, made)}


def _pack_layer(root: StateRoot, diff_id: Digest, compression: str, results: mmap.mmap, position: int, advance: workers.Advance) -> None:
    plain, packed = hashlib.new(diff_id.algorithm), hashlib.sha256()
    encoder = codecs.encoder(compression)
    with claimed(root, f"pack-{diff_id.hex}") as directory:
        file = blobs.create(f"{directory}/blob")
        try:
            size = 0

            def write(data: bytes) -> None:
                plain.update(data)
                put(encoder.compress(data))

            def put(data: bytes) -> None:
                nonlocal size
                packed.update(data)
                blobs.write_all(file, data)
                size += len(data)

            pack.pack(root.layer_tree(diff_id), write, opaque=layers.hides_all(root, diff_id))
            put(encoder.flush())
            _verify(diff_id, Digest(diff_id.algorithm, plain.hexdigest()))
            os.fsync(file)
        finally:
            os.close(file)
        blobs.commit(root, f"{directory}/blob", Digest("sha256", packed.hexdigest()))
    _RESULT.pack_into(results, position * _RESULT.size, packed.digest(), size)


def _verify(diff_id: Digest, found: Digest) -> None:
    """Other tools write other archives of the same files: theirs cannot be made again."""
    if found != diff_id:
        doing = f"packing the layer {diff_id.short} again"
        raise NotFound(f"{doing}: it came from elsewhere, and its archive is gone; pull or load an image that has it")
