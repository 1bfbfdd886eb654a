"""OCI layouts and archives as places that images are copied to (engine/transfer.py); no state and no root is needed.

Sources: OCI image-spec 1.1 image-layout.md; Docker's `manifest.json`, as docker-load(1) has it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat

from bayplan.engine.archives import blob_name, index_entry
from bayplan.engine.layouts import REF_NAME, read_index
from bayplan.errors import Conflict, Invalid, Kernel, Unavailable
from bayplan.model.document import load_object
from bayplan.model.image import INDEX_TYPES, MANIFEST_LIMIT, OCI_INDEX, Descriptor
from bayplan.model.location import DOCKER_ARCHIVE, Location
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING
from bayplan.registry.protocol_push import EXISTS, PUSHED, Content, Outcome
from bayplan.store import blobs, tar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bayplan.engine.transfer import Document, Read

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@contextlib.contextmanager
def _writing(location: Location) -> Iterator[None]:
    """Errors of the file system, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"writing {location}: the disk is full; free some space and try again") from error
        raise Kernel(f"writing {location}", error) from error


class LayoutTarget:
    """An OCI layout's directory, made where there is none. No link below it is followed; a lock keeps its index whole."""

    parallel = True

    def __init__(self, location: Location) -> None:
        self._location = location
        with _writing(location):
            os.makedirs(location.path, exist_ok=True)
            self._root = _open_directory(location.path, "a layout's directory")
        self._blobs: dict[str, int] = {}

    def begin(self, documents: tuple[Document, ...], read: Read) -> None:
        self._check()
        below = _made(self._root, "blobs")
        try:
            algorithms = {each.descriptor.digest.algorithm for each in documents}
            algorithms |= {blob.digest.algorithm for each in documents for blob in each.linked.blobs}
            self._blobs = {each: _made(below, each) for each in sorted(algorithms)}
        finally:
            os.close(below)

    def _check(self) -> None:
        """What is there has to be a layout, or nothing."""
        try:
            data = self._read("oci-layout", 4096)
        except FileNotFoundError:
            if os.listdir(self._root):
                raise Conflict(f"copying to {self._location}: the directory is not empty, and is no OCI layout") from None
            self._write(self._root, "oci-layout", [_LAYOUT])
            return
        if not load_object(data, 4096, "oci-layout").string("imageLayoutVersion").startswith("1."):
            raise Invalid(f"copying to {self._location}: the layout there is not of version 1.x")

    def has(self, document: Document) -> bool:
        return False  # a directory may have lost a blob: each is looked for

    def take(self, descriptor: Descriptor, content: Content) -> Outcome:
        if self._size(descriptor) == descriptor.size:
            return Outcome(EXISTS)
        self._write(self._blobs[descriptor.digest.algorithm], descriptor.digest.hex, content.pieces(0, content.size))
        return Outcome(PUSHED)

    def _size(self, descriptor: Descriptor) -> int:
        try:
            found = os.stat(descriptor.digest.hex, dir_fd=self._blobs[descriptor.digest.algorithm], follow_symlinks=False)
        except FileNotFoundError:
            return -1
        return found.st_size if stat.S_ISREG(found.st_mode) else -1

    def finish(self, documents: tuple[Document, ...]) -> None:
        for each in documents:
            self._write(self._blobs[each.descriptor.digest.algorithm], each.descriptor.digest.hex, [each.data])
        fcntl.flock(self._root, fcntl.LOCK_EX)
        try:
            self._name(documents[-1].descriptor)
        finally:
            fcntl.flock(self._root, fcntl.LOCK_UN)

    def _name(self, top: Descriptor) -> None:
        """Put the image into the index, in the place of what had its name, or is the same without one."""
        name = self._location.name
        try:
            data = self._read("index.json", MANIFEST_LIMIT)
            read_index(data)
            document = json.loads(data)
        except FileNotFoundError:
            document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        entries = [each for each in document["manifests"] if not _is_replaced(each, name, str(top.digest))]
        document["manifests"] = [*entries, _entry(top, name)]
        self._write(self._root, "index.json", [json.dumps(document, separators=(",", ":")).encode()])

    def _read(self, name: str, limit: int) -> bytes:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._root)
        with open(file, "rb") as opened:
            return opened.read(limit + 1)

    def _write(self, directory: int, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Under a name of its own first, so that nobody sees half of it."""
        part = f".{name}.{os.urandom(4).hex()}.part"
        with _writing(self._location):
            self._write_part(directory, part, name, pieces)

    def _write_part(self, directory: int, part: str, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=directory)
        try:
            for piece in pieces:
                blobs.write_all(file, piece)
            os.fsync(file)
            os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(part, dir_fd=directory)
            raise
        finally:
            os.close(file)

    def close(self) -> None:
        for directory in (*self._blobs.values(), self._root):
            os.close(directory)


def _open_directory(path: str, what: str, at: int | None = None) -> int:
    link = os.O_NOFOLLOW if at is not None else 0  # the directory itself is the user's word
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | link, dir_fd=at)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise Invalid(f"opening {path}: it is not {what}") from error


def _made(at: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=at)
    return _open_directory(name, "a directory of the layout, but a link or a file", at)


def _is_replaced(entry: Mapping[str, object], name: str, digest: str) -> bool:
    annotations = entry.get("annotations")
    called = annotations.get(REF_NAME, "") if isinstance(annotations, dict) else ""
    return called == name and (bool(name) or entry.get("digest") == digest)


def _entry(top: Descriptor, name: str) -> dict[str, object]:
    found: dict[str, object] = {"mediaType": top.media_type, "digest": str(top.digest), "size": top.size}
    if name:
        found["annotations"] = {REF_NAME: name}
    return found


class ArchiveTarget:
    """A tar archive that is a layout; a docker-archive has `manifest.json` too. It has its name only when it is whole."""

    parallel = False

    def __init__(self, location: Location) -> None:
        self._location = location
        self._part = f"{location.path}.{os.urandom(4).hex()}.part"  # not to be foreseen, and made anew: no link waits there
        with _writing(location):
            self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def begin(self, documents: tuple[Document, ...], read: Read) -> None:
        top, name = documents[-1], self._location.name
        docker = self._location.transport == DOCKER_ARCHIVE
        if docker and top.linked.media_type in INDEX_TYPES:
            raise Invalid(f"copying to {self._location}: a docker-archive holds one platform; copy without --all, or to oci-archive:")
        entries = [_entry(top.descriptor, name)]
        if docker:
            entries = index_entry(top.descriptor, (parse_reference(name).canonical,) if name else ())
        self._member("oci-layout", _LAYOUT)
        self._member("index.json", _dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))
        if docker:
            config, *layers = (blob_name(each.digest) for each in top.linked.blobs)
            self._member("manifest.json", _dump([{"Config": config, "RepoTags": [name] if name else None, "Layers": layers}]))

    def _member(self, name: str, data: bytes) -> None:
        self._put(tar.header(name, len(data)) + data + bytes(tar.padding(len(data))))

    def _put(self, data: bytes | memoryview) -> None:
        with _writing(self._location):
            blobs.write_all(self._file, data)

    def has(self, document: Document) -> bool:
        return False

    def take(self, descriptor: Descriptor, content: Content) -> Outcome:
        self._put(tar.header(blob_name(descriptor.digest), descriptor.size))
        for piece in content.pieces(0, descriptor.size):
            self._put(piece)
        self._put(bytes(tar.padding(descriptor.size)))
        return Outcome(PUSHED)

    def finish(self, documents: tuple[Document, ...]) -> None:
        for each in documents:
            self._member(blob_name(each.descriptor.digest), each.data)
        self._put(tar.end())
        with _writing(self._location):
            os.fsync(self._file)
            os.rename(self._part, self._location.path)

    def close(self) -> None:
        os.close(self._file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part)


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
