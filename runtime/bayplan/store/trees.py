"""Removing directory trees of any depth, made by anybody."""

from __future__ import annotations

import fcntl
import os
from itertools import count

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: bytes | str, *, scratch: bytes | str) -> None:
    """Remove `path`, a file or a directory with everything below it; nothing there is no error.

    It vanishes at once, by a rename into `scratch`, a directory of the same file system. Depth does not matter: each
    subdirectory is moved up to its first level, so nothing recurses and two descriptors are open at most. Links are
    removed, never followed. What a crash leaves in `scratch` is unlocked (see store/staging.py).
    """
    trash = os.fsencode(scratch) + b"/.remove-" + os.urandom(8).hex().encode()
    os.mkdir(trash, 0o700)
    directory = os.open(trash, _DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        os.rename(path, "0", dst_dir_fd=directory)
        _empty(directory)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
    finally:
        os.rmdir(trash)
        os.close(directory)


def _empty(trash: int) -> None:
    numbers = count(1)
    pending = ["0"]
    while pending:
        name = pending.pop()
        try:
            os.unlink(name, dir_fd=trash)
        except IsADirectoryError:
            pending += _lift(trash, name, numbers)
            os.rmdir(name, dir_fd=trash)


def _lift(trash: int, name: str, numbers: count[int]) -> list[str]:
    """Unlink the files of the directory `name`, move its subdirectories beside it, and say what those are called now."""
    lifted = []
    directory = os.open(name, _DIRECTORY, dir_fd=trash)
    try:
        with os.scandir(directory) as found:
            names = [(each.name, each.is_dir(follow_symlinks=False)) for each in found]
        for each, is_directory in names:
            if is_directory:
                lifted.append(str(next(numbers)))
                os.rename(each, lifted[-1], src_dir_fd=directory, dst_dir_fd=trash)
            else:
                os.unlink(each, dir_fd=directory)
    finally:
        os.close(directory)
    return lifted
