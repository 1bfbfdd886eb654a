"""Files that hold images, as named members that can be read in any order: a directory, or a tar archive, packed or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Protocol

from bayplan.errors import Invalid, NotFound
from bayplan.model.value import NamedTuple
from bayplan.store import codecs, tar
from bayplan.store.room import Watch

_CHUNK = 1 << 20
_MEMBERS_LIMIT = 100_000
_LINKS_LIMIT = 8


class Members(Protocol):
    """What is in an archive. Names are relative paths as the formats have them, `blobs/sha256/HEX`."""

    def size(self, name: str) -> int | None:
        """How many bytes a member has; None if there is none of this name."""

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        """A member's bytes from `start` on; raises NotFound if there is none of this name."""

    def close(self) -> None: ...


def read(members: Members, name: str, *, limit: int) -> bytes:
    """A small member whole; raises NotFound, or Invalid if it is over `limit` bytes."""
    size = members.size(name)
    if size is not None and size > limit:
        raise Invalid(f"reading {name[:100]!r} of the archive: it is over the limit of {limit} bytes")
    return b"".join(members.chunks(name))


class Directory:
    """An unpacked layout. Nothing below it that is a link is read."""

    def __init__(self, path: str) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def size(self, name: str) -> int | None:
        try:
            file = self._open(name)
        except NotFound:
            return None
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        file = self._open(name)
        try:
            if start:
                os.lseek(file, start, os.SEEK_SET)
            while chunk := os.read(file, _CHUNK):
                yield chunk
        finally:
            os.close(file)

    def close(self) -> None:
        os.close(self._root)

    def _open(self, name: str) -> int:
        """Component by component, so that no link is followed."""
        parts = _normal(name).split("/")
        at = os.dup(self._root)
        try:
            for position, part in enumerate(parts):
                last = position + 1 == len(parts)
                kind = os.O_NONBLOCK if last else os.O_DIRECTORY
                below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=at)
                os.close(at)
                at = below
        except OSError as error:
            os.close(at)
            raise NotFound(f"reading the layout: {name[:200]!r} is not there ({error.strerror})") from error
        return at


class _Place(NamedTuple):
    """A regular member's bytes in the file, or the name that a link leads to."""

    offset: int
    size: int
    link: str = ""


class _Seeking:
    """A tar archive's headers, read without its content."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.at = 0

    def take(self, count: int) -> bytes:
        data = os.pread(self._file, count, self.at)
        self.at += len(data)
        return data


class TarFile:
    """A plain tar archive in a file that can be read anywhere. The last of several members of one name counts."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._places: dict[str, _Place] = {}
        size = os.fstat(file).st_size
        seeking = _Seeking(file)
        for entry in tar.entries(seeking):
            self._note(entry, seeking.at)
            seeking.at += entry.size + tar.padding(entry.size)
            if seeking.at - tar.padding(entry.size) > size:
                raise Invalid("reading the archive: it is truncated")
            if len(self._places) > _MEMBERS_LIMIT:
                raise Invalid(f"reading the archive: it has over {_MEMBERS_LIMIT} members, so it is no archive of images")

    def _note(self, entry: tar.Entry, offset: int) -> None:
        try:
            name = _normal(os.fsdecode(entry.path))
        except Invalid:
            return  # a name that nothing can ask for
        if entry.kind == tar.REGULAR:
            self._places[name] = _Place(offset, entry.size)
        elif entry.kind == tar.SYMBOLIC_LINK:
            self._places[name] = _Place(0, 0, os.path.normpath(f"{os.path.dirname(name)}/{os.fsdecode(entry.link)}").lstrip("/"))
        elif entry.kind == tar.HARD_LINK:
            self._places[name] = _Place(0, 0, os.path.normpath(os.fsdecode(entry.link)).lstrip("/"))

    def _place(self, name: str) -> _Place | None:
        """Where a member is, through links between members (Docker wrote these for layers that come twice)."""
        name = _normal(name)
        for _ in range(_LINKS_LIMIT):
            place = self._places.get(name)
            if place is None or not place.link:
                return place
            name = place.link
        return None

    def size(self, name: str) -> int | None:
        place = self._place(name)
        return place.size if place else None

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        place = self._place(name)
        if place is None:
            raise NotFound(f"reading the archive: {name[:200]!r} is not in it")
        at, end = place.offset + start, place.offset + place.size
        while at < end:
            chunk = os.pread(self._file, min(_CHUNK, end - at), at)
            if not chunk:
                raise Invalid("reading the archive: it is truncated")
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        os.close(self._file)


def _normal(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in name:
        raise Invalid(f"reading the archive: {name[:200]!r} is no name of a member")
    return "/".join(parts)


def open_members(source: str, *, spool: Callable[[], int]) -> Members:
    """Open a directory, a file, or standard input ("-"). `spool` gives an empty file for what cannot be read anywhere.

    Raises NotFound, or Invalid where it is no archive.
    """
    if source != "-" and os.path.isdir(source):
        return Directory(source)
    return TarFile(seekable(source, spool=spool, packed=False))


def seekable(source: str, *, spool: Callable[[], int], packed: bool) -> int:
    """A descriptor of a file with the source's bytes, decompressed unless `packed` ones will do; the caller closes it."""
    file = _open_source(source)
    try:
        chunks = _read(file)
        head = next(chunks, b"")
        name = "" if packed else codecs.compression(head)
        if not name and _rewind(file):
            return os.dup(file)
        target = spool()
        watch = Watch(f"/proc/self/fd/{target}", f"reading the archive {source}")
        for chunk in codecs.decoder(name)(_joined(head, chunks)):
            watch.take(len(chunk))
            _write_all(target, chunk)
        return target
    finally:
        if file:
            os.close(file)


def _open_source(source: str) -> int:
    if source == "-":
        return 0
    try:
        return os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"opening the archive {source}: there is no such file") from None
    except OSError as error:
        raise Invalid(f"opening the archive {source}: {error.strerror}") from error


def _rewind(file: int) -> bool:
    try:
        os.lseek(file, 0, os.SEEK_SET)
    except OSError:
        return False  # a pipe
    return True


def _read(file: int) -> Iterator[bytes]:
    while chunk := os.read(file, _CHUNK):
        yield chunk


def _joined(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
