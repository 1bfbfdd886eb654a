"""Looking a path up in layers that are stacked, without mounting them: as overlayfs would show it, links followed inside.

The trees are hostile: each part is looked up beneath a descriptor of the directory before it, and no link is followed by the kernel.
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.model.value import NamedTuple

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"
_MAX_LINKS = 40


class Found(NamedTuple):
    """`path` is without links, relative to the root. `tree` is the topmost that has it, "" where none has; `status` then is None.
    What is missing is named by the path that it would have."""

    path: str
    tree: str
    status: os.stat_result | None


def look_up(trees: tuple[str, ...], path: str) -> Found:
    """`trees` are directories, topmost first. Raises OSError: ELOOP for links without an end, ENOTDIR for a path through a file."""
    done: list[str] = []
    todo = _parts(path)
    links = 0
    found = Found("", trees[0], os.stat(trees[0]))
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = done[:-1]
            found = _at(trees, done)
            continue
        found = _at(trees, [*done, part])
        status = found.status
        if status is None:
            return Found("/".join([*done, part, *todo]), "", None)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(f"{found.tree}/{found.path}")
            done = [] if target.startswith("/") else done
            todo = _parts(target) + todo
            found = _at(trees, done)
            continue
        if todo and not stat.S_ISDIR(status.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        done.append(part)
    return found


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _at(trees: tuple[str, ...], parts: list[str]) -> Found:
    """No part but the last is a link or a file in the topmost tree that has it."""
    path = "/".join(parts)
    for tree in trees:
        status, covered = _in_tree(tree, parts)
        if status is not None:
            return Found(path, tree, status)
        if covered:
            break
    return Found(path, "", None)


def _in_tree(tree: str, parts: list[str]) -> tuple[os.stat_result | None, bool]:
    """What one tree has there, and whether it hides what the trees below have."""
    covered = False
    at = os.open(tree, _DIRECTORY)
    try:
        status = os.fstat(at)
        for index, part in enumerate(parts):
            try:
                status = os.stat(part, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                return None, covered
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                return None, True
            if index == len(parts) - 1:
                break
            if not stat.S_ISDIR(status.st_mode):
                return None, True
            inner = os.open(part, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
            covered = covered or _is_opaque(at)
        return status, covered
    finally:
        os.close(at)


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False
