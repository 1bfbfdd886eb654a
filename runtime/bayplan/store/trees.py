"""Removing directory trees of any depth, made by anybody, subvolumes of btrfs among them."""

from __future__ import annotations

import errno
import fcntl
import os
from itertools import count

from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUBVOLUME_TOP = 256  # the inode number of each subvolume's top directory (BTRFS_FIRST_FREE_OBJECTID)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: bytes | str, *, scratch: bytes | str) -> None:
    """Remove `path`, a file or a directory with everything below it; nothing there is no error.

    It vanishes at once, by a rename into `scratch`, a directory of the same file system. Depth does not matter: each
    subdirectory is moved up to its first level, so nothing recurses and two descriptors are open at most. Links are
    removed, never followed. What a crash leaves in `scratch` is unlocked (see store/staging.py).
    """
    trash = os.fsencode(scratch) + b"/.remove-" + os.urandom(8).hex().encode()
    try:
        os.mkdir(trash, 0o700)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _remove_in_place(path, trash)
        return
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


def _remove_in_place(path: bytes | str, aside: bytes) -> None:
    """Where the disk has no room even for a directory, which removing is to change: `path` itself is renamed, and emptied."""
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    try:
        os.unlink(aside)
    except IsADirectoryError:
        directory = os.open(aside, _DIRECTORY)
        try:
            _lock(directory)
            own = (f".lifted-{os.urandom(8).hex()}-{number}" for number in count())
            pending = os.listdir(directory)
            while pending:
                name = pending.pop()
                try:
                    os.unlink(name, dir_fd=directory)
                except IsADirectoryError:
                    pending += _lift(directory, name, own)
                    os.rmdir(name, dir_fd=directory)
            os.rmdir(aside)
        finally:
            os.close(directory)


def _lock(directory: int) -> None:
    """Keep sweeps away, unless our caller has done that (store/staging.py)."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return


def _empty(trash: int) -> None:
    """Remove everything in the directory `trash`; names of ours are numbers."""
    numbers = map(str, count(1))
    pending = ["0"]
    while pending:
        name = pending.pop()
        try:
            os.unlink(name, dir_fd=trash)
        except IsADirectoryError:
            if not _is_subvolume(trash, name):
                pending += _lift(trash, name, numbers)
                os.rmdir(name, dir_fd=trash)
            elif not _destroyed(trash, name):
                pending += [*_lift_subvolumes(trash, name, numbers), name]


def _lift(trash: int, name: str, numbers: Iterator[str]) -> list[str]:
    """Unlink the files of the directory `name`, move its subdirectories beside it, and say what those are called now."""
    lifted = []
    directory = os.open(name, _DIRECTORY, dir_fd=trash)
    try:
        with os.scandir(directory) as found:
            names = [(each.name, each.is_dir(follow_symlinks=False)) for each in found]
        for each, is_directory in names:
            if is_directory:
                lifted.append(next(numbers))
                os.rename(each, lifted[-1], src_dir_fd=directory, dst_dir_fd=trash)
            else:
                os.unlink(each, dir_fd=directory)
    finally:
        os.close(directory)
    return lifted


def _is_subvolume(directory: int, name: str) -> bool:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return status.st_ino == _SUBVOLUME_TOP and status.st_dev != os.fstat(directory).st_dev


def _destroyed(trash: int, name: str) -> bool:
    """Remove a subvolume at once; that does not go while another is in it, which whoever had the tree may have made."""
    from bayplan.store import subvolumes

    try:
        subvolumes.destroy(trash, name)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _lift_subvolumes(trash: int, name: str, numbers: Iterator[str]) -> list[str]:
    """Empty the subvolume `name` but for the subvolumes in it, which are moved beside it; what those are called now.

    Nothing else can be moved out of a subvolume, so its directories are lifted to its own first level.
    """
    lifted = []
    own = (f".lifted-{os.urandom(8).hex()}-{number}" for number in count())
    top = os.open(name, _DIRECTORY, dir_fd=trash)
    try:
        pending = os.listdir(top)
        while pending:
            each = pending.pop()
            try:
                os.unlink(each, dir_fd=top)
            except IsADirectoryError:
                if _is_subvolume(top, each):
                    lifted.append(next(numbers))
                    os.rename(each, lifted[-1], src_dir_fd=top, dst_dir_fd=trash)
                else:
                    pending += _lift(top, each, own)
                    os.rmdir(each, dir_fd=top)
    finally:
        os.close(top)
    return lifted
