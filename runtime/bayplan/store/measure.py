"""How much room a directory takes, whatever is in it, and however much."""

from __future__ import annotations

import os
import stat
import time

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 256  # a descriptor each
_BLOCK = 512  # what st_blocks counts, whatever the file system's own blocks are


class Size(NamedTuple):
    """`whole` is False where there is more than could be looked at."""

    bytes: int = 0
    whole: bool = True


def tree(path: str, *, deadline: float = float("inf"), changed_since: int = -1) -> Size:
    """The room on the disk of everything below `path`, files with several names once; nothing there is nothing.

    With `changed_since` only what has changed after that time counts (ctime, in nanoseconds).

    Looks until `deadline` (of time.monotonic). No link is followed and no other file system entered; a container may change
    everything meanwhile.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except OSError:
        return Size()
    return _Walk(deadline, changed_since).run(top)


class _Walk:
    def __init__(self, deadline: float, changed_since: int) -> None:
        self._deadline, self._since = deadline, changed_since
        self._bytes, self._whole = 0, True
        self._seen: set[int] = set()
        self._device = 0

    def run(self, top: int) -> Size:
        self._device = os.fstat(top).st_dev
        open_now = [top]
        below = [iter(self._directory(top))]
        try:
            while below:
                name = next(below[-1], None)
                if name is None:
                    below.pop()
                    os.close(open_now.pop())
                elif time.monotonic() > self._deadline:
                    return Size(self._bytes, whole=False)
                else:
                    self._enter(name, open_now, below)
        finally:
            for directory in open_now:
                os.close(directory)
        return Size(self._bytes, self._whole)

    def _enter(self, name: str, open_now: list[int], below: list[Iterator[str]]) -> None:
        if len(open_now) >= _DEEPEST:
            self._whole = False
            return
        try:
            directory = os.open(name, _DIRECTORY, dir_fd=open_now[-1])
        except OSError:
            return  # gone meanwhile, or a link now
        open_now.append(directory)
        below.append(iter(self._directory(directory)))

    def _directory(self, directory: int) -> list[str]:
        """Count what is in the directory; the names of its subdirectories."""
        subdirectories = []
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if status.st_dev != self._device:
                    continue
                self._count(status)
                if stat.S_ISDIR(status.st_mode):
                    subdirectories.append(entry.name)
        return subdirectories

    def _count(self, status: os.stat_result) -> None:
        if status.st_ctime_ns <= self._since:
            return
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in self._seen:
                return
            self._seen.add(status.st_ino)
        self._bytes += status.st_blocks * _BLOCK
