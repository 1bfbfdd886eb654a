"""Directories in which something is made before it is renamed to its final place.

One that is in use is locked, and the lock dies with its holder, so what a crash has left is known by its being free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from bayplan.model.value import TYPE_CHECKING
from bayplan.store.root import StateRoot
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def claimed(root: StateRoot, name: str) -> Iterator[str]:
    """An empty directory for making the thing called `name`, which nobody else makes meanwhile.

    Waits while another process does. It is removed with all its content afterwards, whatever happened.
    """
    path = f"{root.staging}/{name}"
    lock = _lock(path)
    try:
        for left in os.listdir(path):  # by somebody who was killed
            remove_tree(f"{path}/{left}", scratch=root.staging)
        yield path
    finally:
        remove_tree(path, scratch=root.staging)
        os.close(lock)


def try_claim(root: StateRoot, name: str) -> int:
    """A descriptor that holds the name until it is closed, -1 where somebody else has it. What is left is for the next sweep."""
    path = f"{root.staging}/{name}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # a sweep was quicker
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    if _is_at(lock, path):
        return lock
    os.close(lock)
    return -1


def _lock(path: str) -> int:
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its last user has just removed it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_at(lock, path):
            return lock
        os.close(lock)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether the path still leads to what was opened: its last user may have removed it before we had the lock."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (opened.st_dev, opened.st_ino) == (found.st_dev, found.st_ino)


def sweep(root: StateRoot) -> None:
    """Remove what killed processes have left in staging; what is in use stays."""
    try:
        names = os.listdir(root.staging)
    except FileNotFoundError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            _remove_if_free(root, f"{root.staging}/{name}")


def _remove_if_free(root: StateRoot, path: str) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(lock, path):
            remove_tree(path, scratch=root.staging)
    finally:
        os.close(lock)
