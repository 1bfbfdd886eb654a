"""The store as a place that images are copied from and to (engine/transfer.py)."""

from __future__ import annotations

import os

from bayplan.engine.pull import Pulled, Resolved, check_image, keep
from bayplan.errors import Invalid, Kernel
from bayplan.model.digest import Digest
from bayplan.model.image import Descriptor, Index, Manifest, choose_platform, machine_platform, parse_image_config, parse_manifest
from bayplan.model.reference import Reference
from bayplan.model.value import TYPE_CHECKING
from bayplan.registry.protocol_push import EXISTS, PUSHED, Content, Outcome
from bayplan.store import blobs, room
from bayplan.store.ingest import ingest, is_complete
from bayplan.store.root import StateRoot
from bayplan.store.staging import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bayplan.engine.transfer import Document, Read

_CHUNK = 1 << 20
_LIMIT = 16 << 20


class StoreSource:
    """An image whose blobs are all in the store; `top` is its manifest or its index."""

    def __init__(self, root: StateRoot, top: Descriptor) -> None:
        self._root = root
        self._top = top

    def top(self) -> tuple[bytes, str]:
        return self.document(self._top), self._top.media_type

    def document(self, descriptor: Descriptor) -> bytes:
        return blobs.read(self._root, descriptor.digest, limit=_LIMIT)

    def pieces(self, descriptor: Descriptor, start: int, end: int) -> Iterator[bytes]:
        file = blobs.open_blob(self._root, descriptor.digest)
        try:
            while start < end and (piece := os.pread(file, min(_CHUNK, end - start), start)):
                start += len(piece)
                yield piece
        finally:
            os.close(file)

    def close(self) -> None:
        return


class StoreTarget:
    """The store, which unpacks the layers of this machine's platform and keeps the rest as it came. Records nothing: see `pulled`."""

    parallel = True

    def __init__(self, root: StateRoot, reference: Reference) -> None:
        self._root = root
        self._reference = reference
        self._resolved: Resolved | None = None
        self._diff_ids: dict[Digest, Digest] = {}
        self._blobs: tuple[Digest, ...] = ()

    def begin(self, documents: tuple[Document, ...], read: Read) -> None:
        manifest, chosen = _manifest(documents)
        config_bytes = read(manifest.config)
        config = parse_image_config(config_bytes)
        check_image(manifest, config, str(self._reference))
        self._diff_ids = {each.digest: diff_id for each, diff_id in zip(manifest.layers, config.diff_ids)}
        kept = [(each.descriptor.digest, each.data) for each in documents if each in (documents[-1], chosen)]
        kept.append((manifest.config.digest, config_bytes))
        self._resolved = Resolved(self._reference, documents[-1].descriptor.digest, manifest, config, config_bytes, tuple(kept))
        every = [(each.descriptor.digest, *(blob.digest for blob in each.linked.blobs)) for each in documents]
        self._blobs = tuple(dict.fromkeys(digest for several in every for digest in several))

    def has(self, document: Document) -> bool:
        return False

    def take(self, descriptor: Descriptor, content: Content) -> Outcome:
        diff_id = self._diff_ids.get(descriptor.digest)
        if diff_id:
            there = is_complete(self._root, descriptor, diff_id)
            ingest(self._root, descriptor, diff_id, source=lambda: content.pieces(0, content.size))
        else:
            there = blobs.exists(self._root, descriptor.digest)
            _keep(self._root, content)
        return Outcome(EXISTS if there else PUSHED)

    def finish(self, documents: tuple[Document, ...]) -> None:
        for document in documents:
            blobs.put(self._root, document.descriptor.digest, document.data)

    def pulled(self) -> Pulled:
        """What there is to record, after `finish`."""
        assert self._resolved, "nothing has begun"
        found = keep(self._root, self._resolved)
        return found._replace(blobs=tuple(dict.fromkeys((*found.blobs, *self._blobs))))

    def close(self) -> None:
        return


def _manifest(documents: tuple[Document, ...]) -> tuple[Manifest, Document]:
    """The manifest of this machine's platform, or the only one."""
    top = documents[-1]
    wanted = top.descriptor.digest
    document = parse_manifest(top.data, media_type=top.descriptor.media_type)
    if isinstance(document, Index):
        wanted = choose_platform(document, machine_platform(os.uname().machine)).digest
    chosen = next(each for each in documents if each.descriptor.digest == wanted)
    found = parse_manifest(chosen.data, media_type=chosen.descriptor.media_type)
    if not isinstance(found, Manifest):
        raise Invalid(f"copying {top.descriptor.digest} to the store: an index within an index")
    return found, chosen


def _keep(root: StateRoot, content: Content) -> None:
    """A blob that nothing here unpacks, as it is. Raises Full, Kernel."""
    doing = f"storing the blob {content.digest.short}"
    with claimed(root, f"blob-{content.digest.hex}") as directory:
        if blobs.exists(root, content.digest):
            return
        try:
            _write(f"{directory}/blob", content, room.Watch(directory, doing))
        except OSError as error:
            raise Kernel(doing, error) from error
        blobs.commit(root, f"{directory}/blob", content.digest)


def _write(path: str, content: Content, watch: room.Watch) -> None:
    file = blobs.create(path)
    try:
        for piece in content.pieces(0, content.size):
            watch.take(len(piece))
            blobs.write_all(file, piece)
        os.fsync(file)
    finally:
        os.close(file)
