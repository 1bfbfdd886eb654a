"""A directory becomes a layer's archive (OCI image-spec 1.1 layer.md): what unpack.py takes apart, put together.

    with open(target, "wb") as file:
        packed = pack("containers/ID/upper", file.write)

Equal trees make equal archives, byte for byte, and that for ever: the digest of a layer that was made here is found again when the layer
is packed again (tests/unit/test_headers.py keeps an archive). So the order is that of the names' bytes, times have their nanoseconds, as
the tree has them and as unpack.py sets them (whole seconds, as other tools write, would make a tree and what is unpacked of it two
things), and what has no meaning in a layer has one value: a whiteout's attributes, and the time of the root.

The root is an entry only where somebody changed its mode, owner or attributes. Not written are

    sockets                      there is no such entry
    what is called .wh.SOMETHING a layer cannot say it: it would be a whiteout of SOMETHING
    overlay's own attributes     trusted.overlay.*, user.overlay.*: an image must not set these
    the host's own attributes    SELinux's label, IMA's and EVM's signatures, NFS's lists
    attributes named with a `=`  pax cannot say them
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Conflict, Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import headers, tar
from bayplan.store.tar import Entry
from bayplan.store.unpack import DIRECTORIES_LIMIT, ENTRIES_LIMIT, HOSTS_OWN_XATTRS, REFUSED_XATTRS
from bayplan.store.walking import is_changed_root, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bayplan.store.walking import Found

WHITEOUT_PREFIX, OPAQUE_MARKER = b".wh.", b".wh..wh..opq"

_CHUNK = 1 << 20
_LINKS_LIMIT = 256 << 20  # bytes of memory for files of which further links may come
_LINK_COST = 400
_LEFT_OUT_LIMIT = 100
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {stat.S_IFCHR: tar.CHARACTER, stat.S_IFBLK: tar.BLOCK, stat.S_IFIFO: tar.FIFO}


class LeftOut(NamedTuple):
    """Something of the tree that the archive does not have, and why."""

    path: str
    reason: str


class Packed(NamedTuple):
    """What was written: bytes, entries, and what was left out (the first hundred things)."""

    size: int
    entries: int
    left_out: tuple[LeftOut, ...]


def pack(tree: str, write: Callable[[bytes], object], *, epoch: int | None = None, opaque: bool = False) -> Packed:
    """Write the tree of an overlay's upper directory, or of a layer, as a layer's archive.

    `epoch` is SOURCE_DATE_EPOCH: later times become it. `opaque`: the root hides all below. A file that shrinks meanwhile is filled up
    with zeros, one that grows is cut, one that vanishes is not there. Raises Invalid (more entries, directories, or longer paths than
    unpack.py takes), Conflict (a process keeps a file from being read, by a lease), OSError, and what `write` raises.
    """
    return write_archive(walk((tree,), opaque=opaque), write, epoch=epoch)


def pack_merged(
    trees: Sequence[str],
    write: Callable[[bytes], object],
    *,
    epoch: int | None = None,
    whiteouts: bool = False,
    opaque: bool = False,
    plain: bool = False,
) -> Packed:
    """As `pack`, of trees that lie over each other, the topmost first. Without `whiteouts` nothing is below the trees: it is a whole
    root file system then, and a file may be called .wh.SOMETHING. In a `plain` tree nothing is a whiteout."""
    return write_archive(walk(trees, opaque=opaque, plain=plain), write, epoch=epoch, whiteouts=whiteouts)


def write_archive(found: Iterable[Found], write: Callable[[bytes], object], *, epoch: int | None = None, whiteouts: bool = True) -> Packed:
    """Write what a walk finds, or a part of it in the same order; see `pack`."""
    archive = _Archive(write, epoch, whiteouts)
    for each in found:
        if not each.leaving:
            archive.add(each)
    return archive.finish()


def why_left_out(path: bytes, status: os.stat_result, *, whiteouts: bool = True) -> str:
    """Why a layer cannot have this file or directory, "" where it can; it is no whiteout."""
    if stat.S_ISSOCK(status.st_mode):
        return "a socket: it would have no process behind it"
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return "the device 0:0: a layer would take it for a whiteout"
    if whiteouts and path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
        return "a layer would take its name for a whiteout's"
    return ""


def clamped(mtime: int, epoch: int | None) -> int:
    """A time as an archive has it, in nanoseconds; before 1970 there is none."""
    latest = tar.TIME_LIMIT if epoch is None else epoch
    return max(0, min(mtime, latest * headers.NANOSECONDS))


class _Archive:
    """The archive so far. Hard links are found by inode: the first name is the file, the others lead to it."""

    def __init__(self, write: Callable[[bytes], object], epoch: int | None, whiteouts: bool) -> None:
        self._write = write
        self._epoch = epoch
        self._whiteouts = whiteouts
        self._size = self._entries = self._directories = 0
        self._links: dict[tuple[int, int, int], tuple[Entry, int]] = {}
        self._links_cost = 0
        self._left_out: list[LeftOut] = []
        self._without = b"\0"  # what a directory's content begins with that is left out; no path begins so

    def finish(self) -> Packed:
        self._put(tar.end())
        return Packed(self._size, self._entries, tuple(self._left_out))

    def add(self, found: Found) -> None:
        if found.path.startswith(self._without):
            return
        if found.whiteout:
            self._whiteout(found)
        elif reason := why_left_out(found.path, found.status, whiteouts=self._whiteouts):
            self._leave_out(found.path, reason)
            self._without = found.path + b"/"
        elif stat.S_ISDIR(found.status.st_mode):
            self._directory(found)
        else:
            self._file(found)

    def _put(self, data: bytes) -> None:
        self._size += len(data)
        self._write(data)

    def _member(self, entry: Entry, content: bytes = b"") -> None:
        self._entries += 1
        if self._entries > ENTRIES_LIMIT:
            raise Invalid(f"packing a tree: it has over {ENTRIES_LIMIT} entries, which nothing here could unpack; remove some")
        self._put(headers.header(entry) + content)

    def _leave_out(self, path: bytes, reason: str) -> None:
        if len(self._left_out) < _LEFT_OUT_LIMIT:
            self._left_out.append(LeftOut("/" + os.fsdecode(path), reason))

    def _marker(self, directory: bytes, name: bytes) -> None:
        self._member(_nothing(directory + b"/" + name if directory else name))

    def _whiteout(self, found: Found) -> None:
        if self._whiteouts and not found.name.startswith(WHITEOUT_PREFIX):  # no layer has such a name to hide
            self._marker(found.path.rpartition(b"/")[0], WHITEOUT_PREFIX + found.name)

    def _directory(self, found: Found) -> None:
        self._directories += 1
        if self._directories > DIRECTORIES_LIMIT:
            raise Invalid(f"packing a tree: it has over {DIRECTORIES_LIMIT} directories, which nothing here could unpack; remove some")
        xattrs = attributes(found.opened, self._noter(found)) if found.xattrs is None else found.xattrs
        entry = self._entry(found.path or b".", tar.DIRECTORY, found.status, xattrs)
        if found.path or xattrs or is_changed_root(found.status):
            self._member(entry)
        if found.opaque and self._whiteouts:
            self._marker(found.path, OPAQUE_MARKER)

    def _file(self, found: Found) -> None:
        if found.status.st_nlink > 1 and self._link(found, found.status):
            return
        if stat.S_ISREG(found.status.st_mode):
            self._regular(found)
        elif stat.S_ISLNK(found.status.st_mode):
            self._symbolic_link(found)
        else:
            number = found.status.st_rdev
            entry = self._entry(found.path, _KINDS[stat.S_IFMT(found.status.st_mode)], found.status)
            self._member(entry if entry.kind == tar.FIFO else entry._replace(device=(os.major(number), os.minor(number))))
            self._remember(found, found.status, entry)

    def _symbolic_link(self, found: Found) -> None:
        try:
            target = os.readlink(found.name, dir_fd=found.parent)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):  # EINVAL: it is no link any more
                return
            raise
        entry = self._entry(found.path, tar.SYMBOLIC_LINK, found.status)
        self._member(entry._replace(link=target))
        self._remember(found, found.status, entry)

    def _regular(self, found: Found) -> None:
        """Look what it is before it is opened: to open a device that took its place may do anything to the host."""
        try:
            place = os.open(found.name, _PATH, dir_fd=found.parent)
        except FileNotFoundError:
            return
        try:
            status = os.fstat(place)
            if not stat.S_ISREG(status.st_mode):
                return
            file = _open(place, found.path)
        finally:
            os.close(place)
        try:
            entry = self._entry(found.path, tar.REGULAR, status, attributes(file, self._noter(found)))
            self._content(entry._replace(size=status.st_size), file)
        finally:
            os.close(file)
        self._remember(found, status, entry)

    def _content(self, entry: Entry, file: int) -> None:
        size = entry.size
        if size > tar.SIZE_LIMIT:
            shown = os.fsdecode(entry.path[-200:])
            raise Invalid(f"packing {shown!r}: it has {size} bytes, over the limit of {tar.SIZE_LIMIT}; remove it")
        head = os.read(file, min(size, _CHUNK)) if size else b""
        if len(head) == size:
            self._member(entry, head + bytes(tar.padding(size)))
            return
        self._member(entry, head)
        left = size - len(head)
        while left:
            chunk = os.read(file, min(left, _CHUNK)) or bytes(min(left, _CHUNK))
            self._put(chunk)
            left -= len(chunk)
        self._put(bytes(tar.padding(size)))

    def _entry(self, path: bytes, kind: str, status: os.stat_result, xattrs: tuple[tuple[str, bytes], ...] = ()) -> Entry:
        mtime = clamped(status.st_mtime_ns, self._epoch)
        return Entry(path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, 0, mtime, b"", (0, 0), xattrs)

    def _noter(self, found: Found) -> Callable[[str], None]:
        return lambda name: self._leave_out(found.path, f"its attribute {name!r}: an archive cannot say a name with a `=`")

    def _link(self, found: Found, status: os.stat_result) -> bool:
        """Write a further link to a file that is in the archive already; says whether it is. Attributes are written again, as
        everywhere: Docker sets them again."""
        key = (found.tree, status.st_dev, status.st_ino)
        there = self._links.get(key)
        if there is None:
            return False
        first, left = there
        self._member(first._replace(path=found.path, kind=tar.HARD_LINK, link=first.path))
        if left > 1:
            self._links[key] = (first, left - 1)
        else:
            del self._links[key]
            self._links_cost -= _link_cost(first)
        return True

    def _remember(self, found: Found, status: os.stat_result, entry: Entry) -> None:
        if status.st_nlink < 2:
            return
        self._links[(found.tree, status.st_dev, status.st_ino)] = (entry, status.st_nlink - 1)
        self._links_cost += _link_cost(entry)
        if self._links_cost > _LINKS_LIMIT:
            raise Invalid("packing a tree: it has too many files with several hard links; remove some")


def _link_cost(entry: Entry) -> int:
    return _LINK_COST + len(entry.path) + sum(len(value) + _LINK_COST for _, value in entry.xattrs)


def _nothing(path: bytes) -> Entry:
    return Entry(path, tar.REGULAR, 0o644, 0, 0, 0, 0, b"", (0, 0), ())


def _open(place: int, path: bytes) -> int:
    try:
        return os.open(f"/proc/self/fd/{place}", _READ)
    except BlockingIOError as error:  # fcntl(2), F_SETLEASE: waiting for its holder takes up to 45 s, for each file
        shown = os.fsdecode(path[-200:])
        raise Conflict(f"packing {shown!r}: a process holds a lease on it; stop the container first") from error


def attributes(file: int, refused: Callable[[str], None]) -> tuple[tuple[str, bytes], ...]:
    """The extended attributes of an open file or directory that an image may have, sorted; `refused` is told of those that cannot be
    written."""
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    return tuple((name, value) for name in sorted(names) if (value := _xattr(file, name, refused)) is not None) if names else ()


def _xattr(file: int, name: str, refused: Callable[[str], None]) -> bytes | None:
    if name.startswith(REFUSED_XATTRS) or name in HOSTS_OWN_XATTRS:
        return None
    if "=" in name:
        refused(name)
        return None
    try:
        return os.getxattr(file, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise
