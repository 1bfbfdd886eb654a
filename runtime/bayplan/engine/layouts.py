"""OCI layouts and archives as places that images are copied from and to (engine/transfer.py); no state and no root is needed.

Sources: OCI image-spec 1.1 image-layout.md; Docker's `manifest.json`, as docker-save(1) and docker-load(1) have it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import tempfile

from bayplan.engine.archives import Held, blob_name, docker_entries, docker_image, index_entry
from bayplan.errors import Conflict, Invalid, NotFound
from bayplan.model.document import load_object
from bayplan.model.image import INDEX_TYPES, MANIFEST_LIMIT, OCI_INDEX, Descriptor, Index, parse_manifest
from bayplan.model.location import DOCKER_ARCHIVE, Location
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING
from bayplan.registry.protocol_push import EXISTS, PUSHED, Content, Outcome
from bayplan.store import archive, blobs, tar
from bayplan.store.archive import Members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bayplan.engine.transfer import Document, Read, Source

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20


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
        index = _read_index(archive.read(self._members, "index.json", limit=MANIFEST_LIMIT))
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
    found = [annotations[key] for key in (_REF_NAME, _CONTAINERD_NAME) if key in annotations]
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


def _read_index(data: bytes) -> Index:
    index = parse_manifest(data, media_type=OCI_INDEX)
    if not isinstance(index, Index):
        raise Invalid("reading the OCI layout: index.json is no index")
    return index


class LayoutTarget:
    """An OCI layout's directory, made where there is none. No link below it is followed; a lock keeps its index whole."""

    parallel = True

    def __init__(self, location: Location) -> None:
        self._location = location
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
            _read_index(data)
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
    called = annotations.get(_REF_NAME, "") if isinstance(annotations, dict) else ""
    return called == name and (bool(name) or entry.get("digest") == digest)


def _entry(top: Descriptor, name: str) -> dict[str, object]:
    found: dict[str, object] = {"mediaType": top.media_type, "digest": str(top.digest), "size": top.size}
    if name:
        found["annotations"] = {_REF_NAME: name}
    return found


class ArchiveTarget:
    """A tar archive that is a layout; a docker-archive has `manifest.json` too. It has its name only when it is whole."""

    parallel = False

    def __init__(self, location: Location) -> None:
        self._location = location
        self._part = f"{location.path}.{os.urandom(4).hex()}.part"  # not to be foreseen, and made anew: no link waits there
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
        blobs.write_all(self._file, tar.header(name, len(data)) + data + bytes(tar.padding(len(data))))

    def has(self, document: Document) -> bool:
        return False

    def take(self, descriptor: Descriptor, content: Content) -> Outcome:
        blobs.write_all(self._file, tar.header(blob_name(descriptor.digest), descriptor.size))
        for piece in content.pieces(0, descriptor.size):
            blobs.write_all(self._file, piece)
        blobs.write_all(self._file, bytes(tar.padding(descriptor.size)))
        return Outcome(PUSHED)

    def finish(self, documents: tuple[Document, ...]) -> None:
        for each in documents:
            self._member(blob_name(each.descriptor.digest), each.data)
        blobs.write_all(self._file, tar.end())
        os.fsync(self._file)
        os.rename(self._part, self._location.path)

    def close(self) -> None:
        os.close(self._file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part)


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
