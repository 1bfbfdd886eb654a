"""Opening paths inside a root that somebody hostile has filled.

A path is used once: what matters is opened here, beneath the root, and everything after acts on the descriptor.
openat2 (Linux 5.6) resolves inside the kernel; before it, a walk that opens every component without following it
gives the same answers, links with `..` and absolute links included, because it keeps a descriptor of every parent.
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.kernel import linux

_RESOLVE = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
_MAX_LINKS = 40
_ATTEMPTS = 32  # where mounts and renames elsewhere race the kernel for longer, we walk


def open_root(path: str) -> int:
    """An O_PATH descriptor of the directory `path`."""
    return os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_in_root(root: int, path: str, flags: int = linux.O_PATH, mode: int = 0) -> int:
    """A descriptor of `path` as a process chrooted into `root` would see it, last link followed unless O_NOFOLLOW.

    `..` and absolute links stop at `root`; a magic link (`/proc/self/exe`) is ELOOP. OSError otherwise.
    """
    for _ in range(_ATTEMPTS):
        try:
            return linux.openat2(root, path.lstrip("/") or ".", flags, _RESOLVE, mode)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                return _walk(root, path, flags, mode)
            if error.errno != errno.EAGAIN:  # a rename elsewhere raced the kernel's check of `..`: it says try again
                raise
    return _walk(root, path, flags, mode)


def make_in_root(root: int, path: str, *, directory: bool) -> int:
    """An O_PATH descriptor of `path` beneath `root`, made with its missing parents (0755; an empty file 0644).

    A dangling link's target is made inside `root` too. What exists is returned as it is, of whatever kind.
    """
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        pass
    return _make(root, settle(root, path), directory)


def _make(root: int, parts: list[str], directory: bool) -> int:
    current = os.dup(root)
    os.set_inheritable(current, False)
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        _make_one(current, part, directory or not last)
        following = _open_beneath(current, part)
        os.close(current)
        current = following
    return current


def _make_one(parent: int, name: str, directory: bool) -> None:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(
                os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY, 0o644, dir_fd=parent)
            )
    except FileExistsError:
        pass


def _open_beneath(parent: int, name: str) -> int:
    fd = os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    if stat.S_ISLNK(os.fstat(fd).st_mode):  # swapped in after `settle`: somebody is racing us
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return fd


def settle(root: int, path: str) -> list[str]:
    """The components of `path` without links or `..`, beneath `root`; those that do not exist stay as they are."""
    done: list[str] = []
    todo = _components(path)
    links = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        target = _link_target(root, [*done, part])
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        done = [] if target.startswith("/") else done
        todo = _components(target) + todo
    return done


def _link_target(root: int, parts: list[str]) -> str | None:
    try:
        fd = open_in_root(root, "/".join(parts), linux.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _walk(root: int, path: str, flags: int, mode: int) -> int:
    """What openat2 does, for kernels without it."""
    parents = [os.dup(root)]
    os.set_inheritable(parents[0], False)
    try:
        return _walk_parts(parents, _components(path), flags, mode, path)
    finally:
        for fd in parents:
            os.close(fd)


def _walk_parts(parents: list[int], todo: list[str], flags: int, mode: int, path: str) -> int:
    links = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            if len(parents) > 1:
                os.close(parents.pop())
            continue
        try:
            fd = os.open(part, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parents[-1])
        except FileNotFoundError:
            if todo or not flags & os.O_CREAT:
                raise
            return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parents[-1])
        target = _read_link(fd, parents[-1]) if todo or not flags & os.O_NOFOLLOW else None
        if target is None:
            parents.append(fd)
            continue
        os.close(fd)
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            while len(parents) > 1:
                os.close(parents.pop())
        todo = _components(target) + todo
    return _reopen(parents[-1], flags)


def _read_link(fd: int, parent: int) -> str | None:
    if not stat.S_ISLNK(os.fstat(fd).st_mode):
        return None
    target = os.readlink("", dir_fd=fd)
    # magic links live in procfs only and do not lead where their text says; procfs has no other links but
    # `self`, `thread-self`, `mounts`, `net`: all relative
    if linux.file_system_magic(fd) == linux.PROC_MAGIC and (target.startswith("/") or ":" in target):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), target)
    return target


def _reopen(fd: int, flags: int) -> int:
    if flags & os.O_CREAT and flags & os.O_EXCL:
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    if flags & os.O_DIRECTORY and not stat.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if flags & linux.O_PATH:
        copy = os.dup(fd)
        os.set_inheritable(copy, False)
        return copy
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    kept = flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
    if _held:
        return os.open(str(fd), kept | os.O_CLOEXEC, dir_fd=_held[0])
    return os.open(f"/proc/self/fd/{fd}", kept | os.O_CLOEXEC)


_held: list[int] = []


def hold_descriptors() -> None:
    """To be called before this process enters a mount namespace whose /proc does not know it, or whose /proc is not to be believed:
    without openat2 a file is opened by the name that its descriptor has there."""
    _held[:] = [os.open("/proc/self/fd", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
