"""Locks between processes: flock(2) on files of the state, gone with the process that held them, however it ended.

containers/ID/lock   held by whoever makes, starts, changes or removes the container, and by its monitor for as long as it runs
content.lock         shared by pulls and loads, exclusive for the sweep of blobs and layers
converge.lock        one converge at a time
"""

from __future__ import annotations

import fcntl
import os
import time

CONTAINER_LOCK = "lock"
_BETWEEN_TRIES = 0.05  # seconds


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


def new_container(directory: str, *, staging: str) -> int:
    """Make the container's directory, in `staging` first, so that it is locked before anybody else can see it."""
    making = f"{staging}/container-{os.urandom(8).hex()}"
    os.mkdir(making, 0o700)
    fd = os.open(f"{making}/{CONTAINER_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(making, directory)
    return fd


def content(root: str, *, exclusive: bool) -> Held:
    """Held shared while blobs and layers are being added, exclusive while what nothing refers to is removed."""
    return Held(f"{root}/content.lock", fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)


def content_within(root: str, patience: float) -> HeldSoon:
    """The content's lock, exclusive, waited for at most `patience` seconds; `with` gives whether we have it."""
    return HeldSoon(f"{root}/content.lock", patience)


def converge(root: str) -> Held:
    """One converge of a state at a time; the others wait here."""
    return Held(f"{root}/converge.lock", fcntl.LOCK_EX)


def network(directory: str) -> Held:
    """Held while a network's names are written anew."""
    return Held(f"{directory}/lock", fcntl.LOCK_EX)


class Held:
    """Holds a lock inside a `with`; waits for it there. Raises OSError."""

    def __init__(self, path: str, mode: int) -> None:
        self._path, self._mode, self._fd = path, mode, -1

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, self._mode)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class HeldSoon:
    """Holds a lock inside a `with`, where it can be had within a time. Raises OSError."""

    def __init__(self, path: str, patience: float) -> None:
        self._path, self._patience, self._fd = path, patience, -1

    def __enter__(self) -> bool:
        deadline = time.monotonic() + self._patience
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while not _taken(self._fd):
                if time.monotonic() > deadline:
                    return False
                time.sleep(_BETWEEN_TRIES)
        except BaseException:
            os.close(self._fd)
            raise
        return True

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _try(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    if _taken(fd):
        return fd
    os.close(fd)
    return -1


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
