"""Walking trees that somebody hostile wrote, and may still write to: one, or several that lie over each other as overlayfs shows them.

    for found in walk(["upper", "lower"]): ...

Nothing is reached but by a descriptor of its directory, and no link is followed; a directory that was closed meanwhile (depth costs
descriptors) is opened again from its root, component by component, and has to be the same one. What vanishes while it is looked at was
not there. Whiteouts are overlay's (Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import tar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPAQUE, WHITEOUT = "trusted.overlay.opaque", "trusted.overlay.whiteout"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
_NAMES_LIMIT = 512 << 20  # bytes of memory for the names of all directories from the root to where the walk is
_NAME_COST = 120  # of a name in memory, beside its own bytes
_DESCRIPTORS = 400
_ROOT_MODE = 0o755


class Found(NamedTuple):
    """A thing in the merged tree.

    path is relative to the root, b"" for the root itself; tree is the number of the one that it is from, 0 the topmost. It is `name` in
    the directory `parent`; a directory is open as `opened`. Both descriptors are valid until the walk goes on. A `whiteout` hides what
    trees below all of these may have there; so does an `opaque` directory with what is in theirs. `leaving` is a directory for the
    second time, after all that is in it, and without its parent. Who looked at a directory's extended attributes may keep them here.
    """

    path: bytes
    status: os.stat_result
    tree: int
    parent: int
    name: bytes
    opened: int = -1
    whiteout: bool = False
    opaque: bool = False
    leaving: bool = False
    xattrs: tuple[tuple[str, bytes], ...] | None = None


class _Part(NamedTuple):
    """A directory in one of the trees. `marked`: whiteouts in it may be files with an attribute."""

    tree: int
    opened: int
    status: os.stat_result
    marked: bool


class _Level:
    """A directory of the merged tree on the way to where the walk is, topmost part first; what is left of its names is last first.

    `face` is the part whose attributes it has: the topmost, but the topmost that somebody changed for the root, which every tree has.
    """

    def __init__(self, path: bytes, name: bytes, parts: list[_Part], *, opaque: bool) -> None:
        self.path, self.name, self.parts, self.opaque = path, name, parts, opaque
        self.names: list[bytes] = []
        self.holders: dict[bytes, list[int]] = {}
        self.cost = self.face = 0
        self.open = True


def walk(trees: Sequence[str], *, opaque: bool = False, plain: bool = False) -> Iterator[Found]:
    """Everything in the trees, topmost tree first, as they show when they lie over each other: a directory before what is in it, names
    sorted by their bytes. `opaque`: the lowest one hides whatever would be below it. `plain`: nothing in it is a whiteout or opaque.

    The trees' own paths are trusted. Raises Invalid where a path or a directory is over the limits, and OSError.
    """
    walker = _Walker(plain)
    try:
        yield from walker.run(trees, opaque)
    finally:
        walker.close()


class _Walker:
    def __init__(self, plain: bool) -> None:
        self._plain = plain
        self._roots: list[int] = []
        self._levels: list[_Level] = []
        self._cost = 0

    def close(self) -> None:
        for level in self._levels[1:]:
            _close(level)
        for root in self._roots:
            os.close(root)

    def run(self, trees: Sequence[str], opaque: bool) -> Iterator[Found]:
        for path in trees:
            self._roots.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        parts = [_Part(tree, root, os.fstat(root), self._mark(root) == b"x") for tree, root in enumerate(self._roots)]
        root = _Level(b"", b".", parts, opaque=opaque)
        root.face = next((number for number, part in enumerate(parts) if is_changed_root(part.status)), 0)
        self._enter(root)
        yield self._directory(self._levels[-1])
        while self._levels:
            level = self._levels[-1]
            if not level.names:
                if level.parts:
                    yield self._directory(level)._replace(leaving=True, parent=-1)
                self._leave()
                continue
            found = self._look(level, level.names.pop())
            if found is not None:
                yield found

    def _directory(self, level: _Level) -> Found:
        top = level.parts[level.face]
        parent = self._levels[-2].parts[0].opened if len(self._levels) > 1 else -1
        return Found(level.path, top.status, top.tree, parent, level.name, top.opened, opaque=level.opaque)

    def _enter(self, level: _Level) -> None:
        self._levels.append(level)  # first: its descriptors are closed with the rest, whatever happens
        several = len(level.parts) > 1
        for number, part in enumerate(level.parts):
            with os.scandir(part.opened) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    level.cost += len(name) + _NAME_COST
                    if several:
                        level.holders.setdefault(name, []).append(number)
                    else:
                        level.names.append(name)
                    if self._cost + level.cost > _NAMES_LIMIT:
                        raise Invalid(f"walking {_shown(level.path)}: its directories hold too many names; remove some of them")
        if several:
            level.names = list(level.holders)
        level.names.sort(reverse=True)
        self._cost += level.cost
        self._economize()

    def _leave(self) -> None:
        level = self._levels.pop()
        self._cost -= level.cost
        if self._levels:
            _close(level)
            self._reopen(self._levels[-1])

    def _economize(self) -> None:
        """Close the directories furthest from here, where too many are open."""
        count = sum(len(level.parts) for level in self._levels[1:] if level.open)
        for level in self._levels[1:-2]:
            if count <= _DESCRIPTORS:
                return
            if level.open:
                _close(level)
                count -= len(level.parts)

    def _reopen(self, level: _Level) -> None:
        """Open a directory again that was closed; where it is another one now, or gone, nothing more is in it."""
        if level.open:
            return
        parts: list[_Part] = []
        try:
            for part in level.parts:
                parts.append(part._replace(opened=_descend(self._roots[part.tree], level.path)))
                if not os.path.samestat(os.fstat(parts[-1].opened), part.status):
                    raise FileNotFoundError(errno.ENOENT, "it was moved")
        except OSError as error:
            for each in parts:
                os.close(each.opened)
            if error.errno not in _VANISHED:
                raise
            parts, level.names = [], []
        level.parts, level.open = parts, True

    def _look(self, level: _Level, name: bytes) -> Found | None:
        """What the merged tree has as `name`; a directory is entered. None where it vanished."""
        path = level.path + b"/" + name if level.path else name
        if len(path) > tar.PATH_LIMIT:
            raise Invalid(f"walking {_shown(path)}: a path of over {tar.PATH_LIMIT} bytes, which nothing could unpack; remove it")
        holders = level.holders.pop(name) if level.holders else (0,)
        for position, number in enumerate(holders):
            part = level.parts[number]
            status = _status(part, name)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                below = [level.parts[each] for each in holders[position:]]
                if self._descend(path, name, below, level):
                    return self._directory(self._levels[-1])
                continue
            whiteout = not self._plain and _is_whiteout(part, name, status)
            return Found(path, status, part.tree, part.opened, name, whiteout=whiteout)
        return None

    def _mark(self, directory: int) -> bytes:
        return b"" if self._plain else _marked(directory)

    def _descend(self, path: bytes, name: bytes, holders: list[_Part], level: _Level) -> bool:
        """Enter a directory, merged of those that `holders` have down to what hides the rest; says whether the topmost is there still."""
        parts: list[_Part] = []
        hides = False
        try:
            for holder in holders:
                opened = _open_directory(holder, name)
                if opened is None:
                    hides = _status(holder, name) is not None
                    if hides or not parts:
                        break
                    continue
                mark = self._mark(opened)
                parts.append(_Part(holder.tree, opened, os.fstat(opened), mark == b"x"))
                hides = mark == b"y"
                if hides:
                    break
        except BaseException:
            for part in parts:
                os.close(part.opened)
            raise
        if parts:
            self._enter(_Level(path, name, parts, opaque=hides))
        return bool(parts)


def is_changed_root(status: os.stat_result) -> bool:
    """Whether somebody gave the root of a tree another mode or owner than it is made with."""
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (_ROOT_MODE, 0, 0)


def _close(level: _Level) -> None:
    if level.open:
        for part in level.parts:
            os.close(part.opened)
        level.open = False


def _status(part: _Part, name: bytes) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=part.opened)
    except OSError as error:
        if error.errno in _VANISHED:
            return None
        raise


def _open_directory(part: _Part, name: bytes) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=part.opened)
    except OSError as error:
        if error.errno in _VANISHED:
            return None
        raise


def _descend(root: int, path: bytes) -> int:
    at = os.dup(root)
    for name in path.split(b"/") if path else ():
        try:
            below = os.open(name, _DIRECTORY, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def _marked(directory: int) -> bytes:
    """overlay's mark of a directory: `y` is opaque, `x` is one that may hold whiteouts which are files, b"" is neither."""
    try:
        return os.getxattr(directory, OPAQUE)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return b""
        raise


def _is_whiteout(part: _Part, name: bytes, status: os.stat_result) -> bool:
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not part.marked or not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    try:
        os.getxattr(os.path.join(b"/proc/self/fd/%d" % part.opened, name), WHITEOUT, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, *_VANISHED):
            return False
        raise
    return True


def _shown(path: bytes) -> str:
    return repr("/" + os.fsdecode(path[:100] + b"..." + path[-60:] if len(path) > 200 else path))
