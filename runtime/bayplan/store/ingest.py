"""A layer comes in: its bytes pass once, and are verified, kept as a blob, and unpacked on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from bayplan.errors import Kernel
from bayplan.model.digest import Digest
from bayplan.model.image import Descriptor
from bayplan.store import blobs, extraction, layers
from bayplan.store.native import syncfs
from bayplan.store.room import Watch, check, left
from bayplan.store.root import StateRoot
from bayplan.store.staging import claimed

_CHUNK = 1 << 20

Source = Callable[[], Iterable["bytes | memoryview"]]


def is_complete(root: StateRoot, descriptor: Descriptor, diff_id: Digest) -> bool:
    return layers.exists(root, diff_id) and blobs.exists(root, descriptor.digest)


def ingest(root: StateRoot, descriptor: Descriptor, diff_id: Digest, *, source: Source) -> None:
    """Make sure of a layer and its blob; `source` gives the compressed bytes and is asked only if the blob is not here.

    Waits where another process does the same one. Raises Invalid (digest, size, diff_id or archive are wrong), Full, Kernel,
    and whatever `source` raises; nothing of the layer is left then. What is there at the end has been written to the disk
    before it got its name, so that a crash leaves nothing that is believed and wrong.
    """
    with claimed(root, f"layer-{diff_id.hex}") as directory:
        if is_complete(root, descriptor, diff_id):
            return
        keep = not blobs.exists(root, descriptor.digest)
        chunks = source() if keep else _stored(root, descriptor.digest)
        try:
            _unpack(root, directory, descriptor, diff_id, chunks=chunks, keep=keep)
        except OSError as error:
            raise Kernel(f"storing the layer {diff_id.short}", error) from error


def _stored(root: StateRoot, digest: Digest) -> Iterable[bytes]:
    file = blobs.open_blob(root, digest)
    try:
        while chunk := os.read(file, _CHUNK):
            yield chunk
    finally:
        os.close(file)


def _unpack(
    root: StateRoot, directory: str, descriptor: Descriptor, diff_id: Digest, *, chunks: Iterable[bytes | memoryview], keep: bool
) -> None:
    layer, tree, blob = f"{directory}/layer", f"{directory}/layer/diff", f"{directory}/blob"
    os.mkdir(layer, 0o700)
    os.mkdir(tree, 0o755)
    os.chmod(tree, 0o755)
    running = extraction.start(tree, algorithm=diff_id.algorithm, room=room(directory))
    try:
        _pass_on(chunks, descriptor, running, blob if keep else None)
        report = running.finish()
    finally:
        running.abort()
    layers.check_diff_id(report.diff_id, diff_id)
    layers.describe(root, layer, diff_id, size=report.size, implied=report.implied, opaque=report.opaque)
    to_disk(directory)
    if keep:
        blobs.commit(root, blob, descriptor.digest)
    if not layers.exists(root, diff_id):
        layers.commit(root, layer, diff_id)


def _pass_on(chunks: Iterable[bytes | memoryview], descriptor: Descriptor, running: extraction.Extraction, blob: str | None) -> None:
    """Verify the bytes, keep them, and hand them to the process that unpacks them."""
    check = blobs.Check(descriptor.digest, size=descriptor.size)
    watch = Watch(os.path.dirname(blob or ""), "storing a blob")
    file = blobs.create(blob) if blob else -1
    try:
        for chunk in chunks:
            check.take(chunk)
            if blob:
                watch.take(len(chunk))
                blobs.write_all(file, chunk)
            running.feed(chunk)
        check.finish()
    finally:
        if blob:
            os.close(file)


def room(directory: str) -> int:
    """How many bytes a layer may unpack to here: a bomb must not fill the disk. Raises Full."""
    check(directory, "storing a layer")
    return left(directory).bytes


def to_disk(directory: str) -> None:
    """Write all of the directory's file system to its device."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(opened)
    finally:
        os.close(opened)
