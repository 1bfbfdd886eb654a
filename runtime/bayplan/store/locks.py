"""Locks between processes: flock(2) on files of the state, gone with the process that held them, however it ended.

containers/ID/lock   held by whoever makes, starts, changes or removes the container, and by its monitor for as long as it runs
content.lock         shared by pulls and loads, exclusive for the sweep of blobs and layers
converge.lock        one converge at a time
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager

from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTAINER_LOCK = "lock"


def try_container(directory: str) -> int:
    """A descriptor that holds the container's lock, or -1 where another process has it. Raises FileNotFoundError where it is gone."""
    return _try(f"{directory}/{CONTAINER_LOCK}")


def container_is_held(directory: str) -> bool:
    """Whether a process works on the container, its monitor included."""
    try:
        fd = os.open(f"{directory}/{CONTAINER_LOCK}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def new_container(directory: str) -> int:
    """Make the container's directory and lock it before anybody else can see it."""
    os.mkdir(directory, 0o700)
    fd = os.open(f"{directory}/{CONTAINER_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


@contextmanager
def content(root: str, *, exclusive: bool) -> Iterator[None]:
    """Held shared while blobs and layers are being added, exclusive while what nothing refers to is removed."""
    with _held(f"{root}/content.lock", fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
        yield


@contextmanager
def converge(root: str) -> Iterator[None]:
    """One converge of a state at a time; the others wait here."""
    with _held(f"{root}/converge.lock", fcntl.LOCK_EX):
        yield


@contextmanager
def network(directory: str) -> Iterator[None]:
    """Held while a network's names are written anew."""
    with _held(f"{directory}/lock", fcntl.LOCK_EX):
        yield


@contextmanager
def _held(path: str, mode: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, mode)
        yield
    finally:
        os.close(fd)


def _try(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd
