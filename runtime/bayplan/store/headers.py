"""Writing a tar archive's headers: ustar, and pax records for what ustar cannot say (POSIX.1-2017 pax, "pax Interchange Format").

Equal entries have equal headers, for ever: what a layer was called by (its diff_id) has to be found again when it is packed again.
"""

from __future__ import annotations

import os
import struct

from bayplan.errors import Invalid
from bayplan.store import tar
from bayplan.store.tar import Entry

NANOSECONDS = 1_000_000_000

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_SMALL, _LARGE = 0o7777777, 0o77777777777  # what seven and eleven octal digits hold
_CHECKSUM_AT = 148
_XATTR = b"SCHILY.xattr."


def header(entry: Entry) -> bytes:
    """The blocks that stand before an entry's content. Its path and link are written as they are, a directory's with a slash behind it.

    Raises Invalid where the entry has more extended attributes than a reader takes (`tar.SPECIAL_LIMIT`).
    """
    path = entry.path + b"/" if entry.kind == tar.DIRECTORY else entry.path
    records = _records(entry, path)
    if not records:
        return _ustar(entry, path)
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    if len(data) > tar.SPECIAL_LIMIT:
        shown = os.fsdecode(entry.path[-200:])
        raise Invalid(f"packing {shown!r}: its extended attributes have {len(data)} bytes, over the limit of {tar.SPECIAL_LIMIT}")
    extended = _block(b"PaxHeader", b"x", size=len(data))
    return extended + data + bytes(tar.padding(len(data))) + _ustar(entry, path)


def _records(entry: Entry, path: bytes) -> dict[bytes, bytes]:
    """What has to be said beyond ustar. Names need no character set: every reader takes them as they are."""
    seconds, nanoseconds = divmod(entry.mtime, NANOSECONDS)
    found = {_XATTR + os.fsencode(name): value for name, value in entry.xattrs}
    if len(path) > 100:
        found[b"path"] = path
    if len(entry.link) > 100:
        found[b"linkpath"] = entry.link
    if entry.uid > _SMALL:
        found[b"uid"] = b"%d" % entry.uid
    if entry.gid > _SMALL:
        found[b"gid"] = b"%d" % entry.gid
    if entry.size > _LARGE:
        found[b"size"] = b"%d" % entry.size
    if nanoseconds or seconds > _LARGE:
        found[b"mtime"] = b"%d.%09d" % (seconds, nanoseconds)
    return found


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE newline`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(entry: Entry, path: bytes) -> bytes:
    return _block(
        path[:100],
        entry.kind.encode(),
        mode=entry.mode,
        uid=entry.uid if entry.uid <= _SMALL else 0,
        gid=entry.gid if entry.gid <= _SMALL else 0,
        size=entry.size if entry.size <= _LARGE else 0,
        mtime=min(entry.mtime // NANOSECONDS, _LARGE),
        link=entry.link[:100],
        device=entry.device,
    )


def _block(
    name: bytes,
    flag: bytes,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    numbers = (b"%07o" % mode, b"%07o" % uid, b"%07o" % gid, b"%011o" % size, b"%011o" % mtime)
    devices = (b"%07o" % device[0], b"%07o" % device[1])
    block = _HEADER.pack(name, *numbers, b" " * 8, flag, link, b"ustar\x0000", b"", b"", *devices, b"")
    return block[:_CHECKSUM_AT] + b"%06o\0 " % sum(block) + block[_CHECKSUM_AT + 8 :]
