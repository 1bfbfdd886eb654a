"""What COPY takes: the files that its sources name beneath a root, in order, and one digest of all that a copy depends on.

A root is the context's directory or another stage's file system. Links on the way to a source are followed inside of the root; what is
found beneath it is taken as it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat

from bayplan.errors import Invalid, NotFound
from bayplan.kernel import linux, paths
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Excludes = Callable[[str], bool]

_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
CAPABILITY = "security.capability"
ALL_ATTRIBUTES = ("user.", CAPABILITY)


def nothing(path: str) -> bool:
    """Excludes no path."""
    return False


class Source(NamedTuple):
    """One thing to copy: `path` beneath the root, as it was named and matched; `excludes` says of a path beneath the root whether it stays
    behind. `owned`: owners come along. `unpack`: an archive stands for what is in it. Where it
    `skips` a directory, all of it stays behind. `attributes` are what the names of extended attributes begin with that come along;
    `archive`: it has been unpacked."""

    root: int
    path: str
    excludes: Excludes
    owned: bool = False
    unpack: bool = False
    skips: Excludes = nothing
    attributes: tuple[str, ...] = ()
    archive: bool = False


class Item(NamedTuple):
    """A file of a source: `path` relative to the source ("" is the source itself), and a descriptor of its parent with its name there, -1
    for the source itself, whose own descriptor is `fd`. Valid until the next one is asked for."""

    path: str
    status: os.stat_result
    parent: int
    name: str
    fd: int = -1


def match(root: int, pattern: str, *, excludes: Excludes) -> tuple[str, ...]:
    """The paths beneath `root` that a source names: itself, or what Go's path.Match finds for it. NotFound where nothing is there."""
    cleaned = clean(pattern)
    starred = re.search(r"[*?\[]", cleaned)
    found = tuple(dict.fromkeys(_matched(root, cleaned))) if starred else (cleaned,)
    found = tuple(path for path in found if not (path and excludes(path)) and _exists(root, path))
    if not found and not starred:  # optional files can be named by a star
        raise NotFound(f"copying {pattern}: there is no such file; is it named in .dockerignore, or outside of the context?")
    return found


def clean(path: str) -> str:
    """Beneath its root: without `.`, `..` and slashes at the ends."""
    return "/".join(part for part in os.path.normpath("/" + path).split("/") if part)


def _exists(root: int, path: str) -> bool:
    try:
        os.close(paths.open_in_root(root, path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _matched(root: int, pattern: str) -> Iterator[str]:
    found = [""]
    for part in pattern.split("/"):
        if part == "**":  # for --parents: any directories, or none
            found = [inner for path in found for inner in _directories(root, path)]
            continue
        expression = _expression(part)
        found = [f"{path}/{name}".lstrip("/") for path in found for name in _names(root, path) if expression.fullmatch(name)]
    yield from found


def _directories(root: int, path: str) -> Iterator[str]:
    yield path
    for name in _names(root, path):
        inner = f"{path}/{name}".lstrip("/")
        try:
            fd = paths.open_in_root(root, inner, linux.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # a file, or a link
            continue
        os.close(fd)
        yield from _directories(root, inner)


def _names(root: int, path: str) -> list[str]:
    try:
        fd = paths.open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def _expression(part: str) -> re.Pattern[str]:
    """One component of Go's path.Match: * ? [a-z] [^a] and the backslash."""
    text, at = "", 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            text += ".*"
        elif character == "?":
            text += "."
        elif character == "[":
            end = part.find("]", at + 1)
            if end < 0:
                raise Invalid(f"matching {part}: the bracket is not closed")
            inner = part[at:end].replace("\\", "")
            negated = inner.startswith("^")
            text += f"[{'^' * negated}{re.escape(inner[negated:])}]".replace("\\-", "-")
            at = end + 1
        else:
            if character == "\\" and at < len(part):
                character, at = part[at], at + 1
            text += re.escape(character)
    return re.compile(text, re.DOTALL)


def items(source: Source) -> Iterator[Item]:
    """The source itself, then what is beneath it, each directory before its content, by name. Raises OSError."""
    top = paths.open_in_root(source.root, source.path)
    try:
        status = os.fstat(top)
        yield Item("", status, -1, "", top)
        if stat.S_ISDIR(status.st_mode):
            yield from _beneath(os.open(f"/proc/self/fd/{top}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "", source)
    finally:
        os.close(top)


def _beneath(directory: int, path: str, source: Source) -> Iterator[Item]:
    try:
        for name in sorted(os.listdir(directory)):
            inner = f"{path}/{name}".lstrip("/")
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISSOCK(status.st_mode):
                continue
            left_out = source.excludes(f"{source.path}/{inner}".lstrip("/"))
            if not left_out:
                yield Item(inner, status, directory, name)
            if stat.S_ISDIR(status.st_mode) and not (left_out and source.skips(f"{source.path}/{inner}".lstrip("/"))):
                yield from _beneath(os.open(name, _READ | os.O_DIRECTORY, dir_fd=directory), inner, source)
    finally:
        os.close(directory)



def digest(source: Source) -> str:
    """Of names, kinds, modes, links, attributes and contents; of owners where they come along. Not of times."""
    found = hashlib.sha256()
    linked: dict[tuple[int, int], str] = {}
    for item in items(source):
        mode = item.status.st_mode
        owner = (item.status.st_uid, item.status.st_gid) if source.owned else ()
        device = item.status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
        which = identity(item)
        same = linked.setdefault(which, item.path) if which else ""
        header = (item.path, stat.S_IFMT(mode), stat.S_IMODE(mode), owner, device, link(item), same, xattrs(item, source))
        found.update(repr(header).encode("utf-8", "surrogateescape"))
        if stat.S_ISREG(mode):
            found.update(_content(item))
    return found.hexdigest()


def identity(item: Item) -> tuple[int, int] | None:
    """What hard links of one file have in common; None for a file of one name."""
    status = item.status
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 and stat.S_ISREG(status.st_mode) else None


def _content(item: Item) -> bytes:
    found = hashlib.sha256()
    file = open_item(item)
    try:
        while chunk := os.read(file, _CHUNK):
            found.update(chunk)
    finally:
        os.close(file)
    return found.digest()


def open_item(item: Item) -> int:
    """A regular file, or a directory, for reading."""
    if item.parent < 0:
        return os.open(f"/proc/self/fd/{item.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.open(item.name, _READ | os.O_NONBLOCK, dir_fd=item.parent)


def link(item: Item) -> str:
    if not stat.S_ISLNK(item.status.st_mode):
        return ""
    return os.readlink("", dir_fd=item.fd) if item.parent < 0 else os.readlink(item.name, dir_fd=item.parent)


def xattrs(item: Item, source: Source) -> tuple[tuple[str, bytes], ...]:
    """Those that come along; of regular files and directories."""
    if not source.attributes or not (stat.S_ISREG(item.status.st_mode) or stat.S_ISDIR(item.status.st_mode)):
        return ()
    file = open_item(item)
    try:
        names = sorted(name for name in os.listxattr(file) if name.startswith(source.attributes))
        return tuple((name, os.getxattr(file, name)) for name in names)
    except OSError:  # a file system without any
        return ()
    finally:
        os.close(file)


def open_root(path: str) -> int:
    return os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
