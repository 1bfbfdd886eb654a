"""Reading a tar archive as it streams by: ustar, pax and GNU long names, and nothing that needs seeking.

Sources: POSIX.1-2017 pax, "pax Interchange Format"; OCI image-spec 1.1 layer.md. Archives are hostile: every number,
name and header is bounded before anything is made of it. Sparse files are refused: no builder writes them into layers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from bayplan.errors import Invalid
from bayplan.model.value import NamedTuple

REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK, DIRECTORY, FIFO = "0", "1", "2", "3", "4", "5", "6"

PATH_LIMIT = 4095  # PATH_MAX without its NUL: nothing longer can be named to the kernel
NAME_LIMIT = 255
SPECIAL_LIMIT = 1 << 20  # a pax header or a GNU long name
SIZE_LIMIT = 1 << 40
ID_LIMIT = (1 << 32) - 2  # (uid_t) -1 means "leave it" to chown(2)
TIME_LIMIT = 1 << 34

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_ZEROS = bytes(512)
_KINDS = {b"0": REGULAR, b"\0": REGULAR, b"7": REGULAR, b"1": HARD_LINK, b"2": SYMBOLIC_LINK, b"3": CHARACTER}
_KINDS.update({b"4": BLOCK, b"5": DIRECTORY, b"6": FIFO})

Pax = dict[bytes, bytes]


class Entry(NamedTuple):
    """One member. `path` and `link` are as the archive has them, unchecked; mtime is nanoseconds since 1970."""

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    device: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...]


class Taking(Protocol):
    """What `entries` needs of a stream."""

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes; fewer only at the archive's end."""


class Stream:
    """The archive's bytes, in chunks as they come. `seen` is told every chunk; `limit` bounds their number."""

    def __init__(self, chunks: Iterator[bytes], *, seen: Callable[[bytes], None], limit: int) -> None:
        self.size = 0
        self._chunks = chunks
        self._seen = seen
        self._limit = limit
        self._chunk = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes; fewer only at the archive's end."""
        end = self._at + count
        if end <= len(self._chunk):
            taken = self._chunk[self._at : end]
            self._at = end
            return taken
        parts, missing = [], count
        while missing and self._ready():
            part = self._chunk[self._at : self._at + missing]
            self._at += len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def pour(self, count: int, write: Callable[[memoryview], int]) -> None:
        """Hand over exactly `count` bytes to `write`; raises Invalid where the archive ends before."""
        while count:
            if not self._ready():
                raise Invalid("the archive is truncated")
            view = memoryview(self._chunk)[self._at : self._at + count]
            while view:
                written = write(view)
                view = view[written:]
                self._at += written
                count -= written

    def skip(self, count: int) -> None:
        self.pour(count, len)

    def drain(self) -> None:
        """Read on to the end: what follows the archive belongs to its digest."""
        while self._ready():
            self._at = len(self._chunk)

    def _ready(self) -> bool:
        while self._at == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self.size += len(chunk)
            if self.size > self._limit:
                raise Invalid(f"it unpacks to more than {self._limit} bytes, which is what there is room for")
            self._seen(chunk)
            self._chunk, self._at = chunk, 0
        return True


def entries(stream: Taking) -> Iterator[Entry]:
    """The archive's members in order. The caller takes a member's `size` bytes and their padding before the next one."""
    pax: Pax = {}
    while True:
        header = stream.take(512)
        if not header or header == _ZEROS:
            return
        if len(header) < 512:
            raise Invalid("the archive is truncated")
        fields = _HEADER.unpack(header)
        _verify_checksum(header, fields[6])
        flag = fields[7]
        if flag in b"xgLK":
            _special(stream, flag, _number(fields[4], "size"), pax)
            continue
        yield _entry(fields, pax)
        pax = {}


def padding(size: int) -> int:
    """How many bytes fill up the last block of a member of `size` bytes."""
    return -size % 512


def _verify_checksum(header: bytes, field: bytes) -> None:
    digits = field.replace(b"\0", b" ").strip()
    expected = int(digits, 8) if digits and not digits.strip(b"01234567") else -1
    if sum(header) - sum(field) + 8 * 32 != expected:
        raise Invalid("it is not a tar archive, or it is damaged (a header's checksum is wrong)")


def _number(field: bytes, what: str) -> int:
    """A header's number: octal digits, or base 256 where the first bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:
            raise Invalid(f"a header's {what} is negative")
        return value
    digits = field.replace(b"\0", b" ").strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise Invalid(f"a header's {what} is not a number") from None


def _special(stream: Taking, flag: bytes, size: int, pax: Pax) -> None:
    """Read an extended header into `pax`; global ones are passed over, as Go's reader (and so every engine) does."""
    if size > SPECIAL_LIMIT:
        raise Invalid(f"an extended header has {size} bytes, over the limit of {SPECIAL_LIMIT}")
    data = stream.take(size + padding(size))
    if len(data) < size + padding(size):
        raise Invalid("the archive is truncated")
    if flag == b"L":
        pax.setdefault(b"path", data[:size].partition(b"\0")[0])
    elif flag == b"K":
        pax.setdefault(b"linkpath", data[:size].partition(b"\0")[0])
    elif flag == b"x":
        pax.update(parse_pax(data[:size]))


def parse_pax(data: bytes) -> Pax:
    """Read pax records, `LENGTH KEY=VALUE newline` each; raises Invalid."""
    found: Pax = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 10)
        digits = data[at:space] if space > 0 else b""
        end = at + (int(digits) if digits.isdigit() else 0)
        record = data[space + 1 : end]
        key, equals, value = record.partition(b"=")
        if not equals or not key or end > len(data) or record[-1:] != b"\n":
            raise Invalid("an extended header is malformed")
        if key.startswith(b"GNU.sparse."):
            raise Invalid("it holds a sparse file, which bayplan does not unpack: make the archive without --sparse")
        found[key] = value[:-1]
        at = end
    return found


def _entry(fields: tuple[bytes, ...], pax: Pax) -> Entry:
    name, mode, uid, gid, size, mtime, _, flag, link, magic, _, _, major, minor, prefix = fields
    path = pax[b"path"] if b"path" in pax else _path(name, prefix, magic)
    kind = _KINDS.get(flag)
    if kind is None:
        sparse = " (a sparse file)" if flag == b"S" else ""
        raise Invalid(f"{_shown(path)} is of a kind that bayplan does not unpack: {flag!r}{sparse}")
    if kind == REGULAR and flag == b"\0" and path.endswith(b"/"):
        kind = DIRECTORY  # before POSIX, tar had no other way to say so
    return Entry(
        path=path,
        kind=kind,
        mode=_number(mode, "mode") & 0o7777,
        uid=_bounded(pax.get(b"uid"), uid, "uid", ID_LIMIT),
        gid=_bounded(pax.get(b"gid"), gid, "gid", ID_LIMIT),
        size=_bounded(pax.get(b"size"), size, "size", SIZE_LIMIT) if kind == REGULAR else 0,
        mtime=_time(pax[b"mtime"]) if b"mtime" in pax else _header_time(mtime),
        link=pax[b"linkpath"] if b"linkpath" in pax else link.partition(b"\0")[0],
        device=(_number(major, "device"), _number(minor, "device")) if kind in (CHARACTER, BLOCK) else (0, 0),
        xattrs=_xattrs(pax) if pax else (),
    )


def _path(name: bytes, prefix: bytes, magic: bytes) -> bytes:
    name = name.partition(b"\0")[0]
    if magic.startswith(b"ustar\0") and prefix[0]:  # GNU's magic is "ustar ", and it keeps times there
        return prefix.partition(b"\0")[0] + b"/" + name
    return name


def _bounded(text: bytes | None, field: bytes, what: str, limit: int) -> int:
    if text is None:
        value = _number(field, what)
    elif text.isdigit() and len(text) < 20:
        value = int(text)
    else:
        raise Invalid(f"a header's {what} is not a number: {_shown(text)}")
    if value > limit:
        raise Invalid(f"a header's {what} is {value}, over the limit of {limit}")
    return value


def _header_time(field: bytes) -> int:
    """A header's time; one before 1970 or absurdly late is no reason to refuse an image."""
    try:
        return min(_number(field, "mtime"), TIME_LIMIT) * 1_000_000_000
    except Invalid:
        return 0


def _time(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    if not whole.isdigit() or len(whole) > 12:
        return 0
    nanoseconds = int(fraction[:9].ljust(9, b"0")) if fraction[:9].isdigit() else 0
    return min(int(whole), TIME_LIMIT) * 1_000_000_000 + nanoseconds


def _xattrs(pax: Pax) -> tuple[tuple[str, bytes], ...]:
    return tuple((os.fsdecode(key[13:]), value) for key, value in pax.items() if key.startswith(b"SCHILY.xattr."))


def _shown(path: bytes) -> str:
    return repr(os.fsdecode(path[:200]))


def header(name: str, size: int) -> bytes:
    """A header for a regular file that we write ourselves: mode 0644, root's, from 1970, so that equal content is equal."""
    number = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    fields = (name.encode(), b"0000644\0", b"0000000\0", b"0000000\0", number, b"%011o\0" % 0)
    rest = (b"0", b"", b"ustar\0" + b"00", b"", b"", b"0000000\0", b"0000000\0", b"")
    checksum = sum(_HEADER.pack(*fields, b" " * 8, *rest))
    return _HEADER.pack(*fields, b"%06o\0 " % checksum, *rest)


def end() -> bytes:
    """What ends an archive."""
    return _ZEROS * 2
