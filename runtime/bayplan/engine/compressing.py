"""Plain layers are compressed before they are sent: what archives without compression have brought (docker save, import).

Only where nobody knows the image's manifest yet: one that came from a registry, or went to one, stays as it is.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial

from bayplan.engine import archives
from bayplan.engine.sealing import AT_ONCE, Sealed
from bayplan.engine.state import State
from bayplan.errors import Kernel
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.formats import rewritten
from bayplan.model.image import DOCKER_LAYER, DOCKER_MANIFEST, LAYER_TYPES, OCI_LAYER, Descriptor
from bayplan.store import blobs, codecs, records, room, workers
from bayplan.store.root import StateRoot
from bayplan.store.staging import claimed

_CHUNK = 1 << 20


def compressed(state: State, made: Sealed, compression: str) -> Sealed:
    """The image with its plain layers compressed, recorded so; itself where it has none, or where its manifest's digest is known.

    The caller holds the content's lock. Raises Unavailable (no zstd on this host), Full, Kernel.
    """
    plain = tuple(dict.fromkeys(each for each in made.manifest.layers if not LAYER_TYPES[each.media_type]))
    if made.row.digest or not plain:
        return made
    codecs.encoder(compression)  # raises Unavailable before anything is done
    with claimed(state.root, f"compress-{os.getpid()}") as directory:
        jobs = [partial(_compress, state.root, each, compression, f"{directory}/{each.digest.hex}") for each in plain]
        workers.run(jobs, at_once=AT_ONCE)
        packed = {each.digest: _kept(state.root, each, compression, f"{directory}/{each.digest.hex}") for each in plain}
    manifest = made.manifest._replace(layers=tuple(packed.get(each.digest, each) for each in made.manifest.layers))
    if compression == "zstd":  # Docker's words have none for it
        manifest = rewritten(manifest._replace(media_type=DOCKER_MANIFEST), "oci")
    data = archives.manifest_document(manifest)
    digest = blobs.digest_of(data)
    blobs.put(state.root, digest, data)
    row = made.row._replace(blobs=(made.row.id, str(digest), *(str(each.digest) for each in manifest.layers)))
    with records.transaction(state.records):
        records.put_image(state.records, row, ())
    return Sealed(row, Descriptor(manifest.media_type, digest, len(data)), manifest)


def _compress(root: StateRoot, layer: Descriptor, compression: str, path: str, advance: workers.Advance) -> None:
    """Write the packed layer to `path`, and its digest beside it."""
    encoder, found, watch = codecs.encoder(compression), hashlib.sha256(), room.Watch(root.path, "compressing a layer")
    source, target = blobs.open_blob(root, layer.digest), -1
    try:
        target = blobs.create(path)

        def put(data: bytes) -> None:
            watch.take(len(data))
            found.update(data)
            blobs.write_all(target, data)

        while chunk := os.read(source, _CHUNK):
            put(encoder.compress(chunk))
        put(encoder.flush())
        os.fsync(target)
        with open(f"{path}.digest", "w", encoding="ascii") as file:
            file.write(str(Digest("sha256", found.hexdigest())))
    except OSError as error:
        raise Kernel(f"compressing the layer {layer.digest.short}", error) from error
    finally:
        for each in (source, target):
            if each >= 0:
                os.close(each)


def _kept(root: StateRoot, layer: Descriptor, compression: str, path: str) -> Descriptor:
    with open(f"{path}.digest", encoding="ascii") as file:
        digest = parse_digest(file.read())
    size = os.stat(path).st_size
    blobs.commit(root, path, digest)
    docker = layer.media_type == DOCKER_LAYER and compression == "gzip"
    return Descriptor(f"{DOCKER_LAYER}.gzip" if docker else f"{OCI_LAYER}+{compression}", digest, size)
