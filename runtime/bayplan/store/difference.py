"""What a container has changed of its image's files: found in its upper directory, or by comparing two trees.

Both give the same things in the order of a walk, so that they can be shown (`docker diff`'s A, C and D) or be written as a layer
(pack.write_archive): what is new or changed, the directories on the way to it, and a whiteout for what is gone. A directory's time alone
is no change. `stubs` are what mounts need to be mounted on, which a start makes: the paths of mounts, and of the directories above them;
where nobody has put anything there, they are not the container's doing.
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store.pack import attributes
from bayplan.store.walking import OPAQUE, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from bayplan.store.walking import Found

ADDED, CHANGED, DELETED = "A", "C", "D"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_STUB_MODE = 0o755
NOTHING: AbstractSet[bytes] = frozenset()


class Difference(NamedTuple):
    """`kind` is A, C or D; `found` is a whiteout where the thing is gone."""

    kind: str
    found: Found


def of_upper(upper: str, base: Sequence[str], *, stubs: AbstractSet[bytes] = NOTHING) -> Iterator[Difference]:
    """What an overlay's upper directory changes of the trees `base`, topmost first. What lies below an opaque directory there is not
    named (`hidden` names it). Raises what `walk` raises."""
    below = _Base(base)
    waiting = _Waiting()
    opaque = b"\0"
    try:
        for found in walk((upper,)):
            if found.leaving or not found.path:
                continue
            there = below.status(found.path)
            if found.whiteout:
                if there is not None:
                    yield from waiting.then(Difference(DELETED, found))
                continue
            if not stat.S_ISDIR(found.status.st_mode):
                if not (there is None and _is_stub_file(found, stubs)):
                    yield from waiting.then(Difference(CHANGED if there else ADDED, found))
                continue
            found = found._replace(xattrs=attributes(found.opened, _ignore))
            difference = Difference(CHANGED if there else ADDED, found)
            again = found.path.startswith(opaque)  # below an opaque directory even what is as it was has to be there again
            if found.opaque and not again:
                opaque = found.path + b"/"
            if found.opaque or again or (below.differs(found, there) if there else not _is_stub_directory(found, stubs)):
                yield from waiting.then(difference)
            else:
                waiting.add(difference)
    finally:
        below.close()


def of_tree(tree: str, base: Sequence[str], *, stubs: AbstractSet[bytes] = NOTHING) -> Iterator[Difference]:
    """What a plain tree has otherwise than the trees `base` together, topmost first. Files are the same where their kind, mode, owner,
    size, time and attributes are: content is not read. Raises what `walk` raises."""
    now, before = _Side(walk((tree,), plain=True)), _Side(walk(base) if base else iter(()))
    waiting = _Waiting()
    while now.found or before.found:
        if before.found and (now.found is None or before.key < now.key):
            gone = before.found
            before.skip()
            yield from waiting.then(Difference(DELETED, gone._replace(parent=-1, opened=-1, whiteout=True, opaque=False)))
        elif now.found and (before.found is None or now.key < before.key):
            found = _without_marks(now.found)
            if _is_stub_directory(found, stubs):
                waiting.add(Difference(ADDED, found))
            elif not _is_stub_file(found, stubs):
                yield from waiting.then(Difference(ADDED, found))
            now.step()
        elif now.found and before.found:
            yield from _compared(now, before, waiting)


def hidden(base: Sequence[str], directory: bytes) -> list[bytes]:
    """The paths of what the trees have in a directory: what an opaque one hides, unless it has it again."""
    below = _Base(base)
    try:
        return [directory + b"/" + name for name in sorted(below.names(directory))]
    finally:
        below.close()


def _compared(now: _Side, before: _Side, waiting: _Waiting) -> Iterator[Difference]:
    """Both have the path; both sides go on behind it."""
    found, there = now.found, before.found
    assert found and there
    found = _without_marks(found)
    same = _is_same(found, there)
    both = stat.S_ISDIR(found.status.st_mode) and stat.S_ISDIR(there.status.st_mode)
    if both and same:
        waiting.add(Difference(CHANGED, found))
    elif not same:
        yield from waiting.then(Difference(CHANGED, found))
    if both:
        before.step()
    else:
        before.skip()
    now.step()


class _Waiting:
    """Directories that are only on the way: they are differences once something in them is."""

    def __init__(self) -> None:
        self._directories: list[Difference] = []

    def add(self, difference: Difference) -> None:
        self._leave(difference.found.path)
        self._directories.append(difference)

    def then(self, difference: Difference) -> Iterator[Difference]:
        self._leave(difference.found.path)
        waited, self._directories = self._directories, []
        yield from waited
        yield difference

    def _leave(self, path: bytes) -> None:
        while self._directories and not path.startswith(self._directories[-1].found.path + b"/"):
            self._directories.pop()


class _Side:
    """A walk that stands at one thing, None at its end; directories are seen once, roots and whiteouts not at all."""

    def __init__(self, walked: Iterator[Found]) -> None:
        self._walked = walked
        self.found: Found | None = None
        self.key: list[bytes] = []
        self.step()

    def step(self) -> None:
        self.found = next((each for each in self._walked if each.path and not each.leaving and not each.whiteout), None)
        self.key = self.found.path.split(b"/") if self.found else []

    def skip(self) -> None:
        """Go on behind this and all that is in it."""
        assert self.found
        inside = self.found.path + b"/"
        self.step()
        while self.found and self.found.path.startswith(inside):
            self.step()


class _Base:
    """Looking up, in trees that lie over each other, what a walk of another one finds: the directory that it is in is kept open."""

    def __init__(self, trees: Sequence[str]) -> None:
        self._trees = trees
        self._directory: bytes | None = None
        self._parts: list[int] = []

    def close(self) -> None:
        for part in self._parts:
            os.close(part)
        self._parts, self._directory = [], None

    def status(self, path: bytes) -> os.stat_result | None:
        directory, _, name = path.rpartition(b"/")
        self._move(directory)
        for part in self._parts:
            status = _status(part, name)
            if status is not None:
                return None if _is_whiteout(status) else status
        return None

    def differs(self, found: Found, there: os.stat_result) -> bool:
        """Whether a directory has other attributes than what the trees have there."""
        if not stat.S_ISDIR(there.st_mode) or _traits(found.status) != _traits(there):
            return True
        for part in self._parts:
            try:
                opened = os.open(found.name, _DIRECTORY, dir_fd=part)
            except FileNotFoundError:
                continue
            try:
                return attributes(opened, _ignore) != found.xattrs
            finally:
                os.close(opened)
        return True

    def names(self, directory: bytes) -> set[bytes]:
        self._move(directory)
        shown: set[bytes] = set()
        gone: set[bytes] = set()
        for part in self._parts:
            for name in map(os.fsencode, os.listdir(part)):
                if name not in shown and name not in gone:
                    status = _status(part, name)
                    (gone if status is None or _is_whiteout(status) else shown).add(name)
        return shown

    def _move(self, directory: bytes) -> None:
        if directory == self._directory:
            return
        self.close()
        for tree in self._trees:
            opened, hides = _descend(tree, directory)
            if opened >= 0:
                self._parts.append(opened)
            if hides:
                break
        self._directory = directory


def _descend(tree: str, directory: bytes) -> tuple[int, bool]:
    """The directory of a tree, -1 where it has none, and whether the trees below are hidden there."""
    at, hides = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), False
    for name in directory.split(b"/") if directory else ():
        try:
            below = os.open(name, _DIRECTORY, dir_fd=at)
        except OSError as error:
            os.close(at)
            if error.errno not in _ABSENT:
                raise
            return -1, hides or error.errno != errno.ENOENT
        os.close(at)
        at = below
        hides = hides or _is_opaque(at)
    return at, hides


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE) == b"y"
    except OSError:
        return False


def _status(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_stub_file(found: Found, stubs: AbstractSet[bytes]) -> bool:
    return found.path in stubs and stat.S_ISREG(found.status.st_mode) and not found.status.st_size


def _is_stub_directory(found: Found, stubs: AbstractSet[bytes]) -> bool:
    made = (stat.S_IMODE(found.status.st_mode), found.status.st_uid, found.status.st_gid) == (_STUB_MODE, 0, 0)
    return found.path in stubs and stat.S_ISDIR(found.status.st_mode) and made


def _without_marks(found: Found) -> Found:
    """A directory with its attributes, since it may wait until it is closed."""
    return found._replace(xattrs=attributes(found.opened, _ignore)) if stat.S_ISDIR(found.status.st_mode) else found


def _is_same(one: Found, other: Found) -> bool:
    if _traits(one.status) != _traits(other.status):
        return False
    kind = stat.S_IFMT(one.status.st_mode)
    if kind == stat.S_IFDIR:
        return one.xattrs == attributes(other.opened, _ignore)
    if one.status.st_mtime_ns != other.status.st_mtime_ns or one.status.st_size != other.status.st_size:
        return False
    if kind == stat.S_IFLNK:
        return _link(one) == _link(other)
    return kind != stat.S_IFREG or _file_attributes(one) == _file_attributes(other)


def _traits(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_rdev


def _link(found: Found) -> bytes | None:
    try:
        return os.readlink(found.name, dir_fd=found.parent)
    except OSError:
        return None


def _file_attributes(found: Found) -> list[tuple[str, bytes]]:
    """Without opening it: a process may hold a lease on it."""
    path = os.path.join(b"/proc/self/fd/%d" % found.parent, found.name)
    try:
        names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith(("trusted.overlay.", "user.overlay."))]
        return sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    except OSError:
        return []


def _ignore(name: str) -> None:
    """Said when the archive is written."""
