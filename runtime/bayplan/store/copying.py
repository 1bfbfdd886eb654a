"""Root file systems without overlayfs: layers copied onto each other. Files share their blocks where the file system can do that."""

from __future__ import annotations

import fcntl
import os
import stat

from bayplan.store.trees import remove_tree

_OPAQUE = "trusted.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409
_CHUNK = 16 << 20


def merge(layer: str, target: str, *, scratch: str) -> None:
    """Copy a layer's tree, with overlay's whiteouts, onto the directory `target`; raises OSError.

    No link is ever followed: each directory of the target is made sure of before anything is put into it.
    """
    copier = _Copier(layer, target, scratch)
    try:
        copier.run()
    finally:
        copier.close()


class _Copier:
    """One layer on its way. Paths are relative to the two roots, so PATH_MAX is not a matter of where these are."""

    def __init__(self, layer: str, target: str, scratch: str) -> None:
        self._layer = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._target = os.open(target, _DIRECTORY)
        self._target_path = target
        self._scratch = scratch
        self._links: dict[int, str] = {}

    def close(self) -> None:
        os.close(self._layer)
        os.close(self._target)

    def run(self) -> None:
        pending, directories = ["."], []
        while pending:
            path = pending.pop()
            directories.append(path)
            pending += self._directory(path)
        for path in reversed(directories):
            self._attributes(path, os.lstat(path, dir_fd=self._layer))

    def _directory(self, path: str) -> list[str]:
        """Copy what the directory holds but for its subdirectories, which are made and returned."""
        below = []
        opened = os.open(path, _DIRECTORY, dir_fd=self._layer)
        try:
            with os.scandir(opened) as entries:
                found = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
            for name, status in found:
                inner = name if path == "." else f"{path}/{name}"
                if stat.S_ISDIR(status.st_mode):
                    self._make_directory(inner, opened, name)
                    below.append(inner)
                else:
                    self._replace(inner, status)
        finally:
            os.close(opened)
        return below

    def _make_directory(self, path: str, parent: int, name: str) -> None:
        there = self._kind(path)
        if there is not None and (not stat.S_ISDIR(there) or _is_opaque(parent, name)):
            self._remove(path)
            there = None
        if there is None:
            os.mkdir(path, 0o700, dir_fd=self._target)

    def _kind(self, path: str) -> int | None:
        try:
            return os.lstat(path, dir_fd=self._target).st_mode
        except FileNotFoundError:
            return None

    def _remove(self, path: str) -> None:
        try:
            os.unlink(path, dir_fd=self._target)
        except IsADirectoryError:
            remove_tree(f"{self._target_path}/{path}", scratch=self._scratch)

    def _replace(self, path: str, status: os.stat_result) -> None:
        if self._kind(path) is not None:
            self._remove(path)
        mode = status.st_mode
        if stat.S_ISCHR(mode) and status.st_rdev == 0:
            return  # a whiteout
        if status.st_nlink > 1 and status.st_ino in self._links:
            os.link(self._links[status.st_ino], path, src_dir_fd=self._target, dst_dir_fd=self._target, follow_symlinks=False)
            return
        if stat.S_ISREG(mode):
            self._copy_file(path)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(path, dir_fd=self._layer), path, dir_fd=self._target)
        else:
            os.mknod(path, mode, status.st_rdev, dir_fd=self._target)
        self._links[status.st_ino] = path
        self._attributes(path, status)

    def _copy_file(self, path: str) -> None:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._layer)
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._target)
        try:
            if not _share_blocks(source, target):
                while os.sendfile(target, source, None, _CHUNK):
                    continue
        finally:
            os.close(source)
            os.close(target)

    def _attributes(self, path: str, status: os.stat_result) -> None:
        os.chown(path, status.st_uid, status.st_gid, dir_fd=self._target, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=self._target, follow_symlinks=False)
            return
        os.chmod(path, stat.S_IMODE(status.st_mode), dir_fd=self._target)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            self._xattrs(path)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=self._target, follow_symlinks=False)

    def _xattrs(self, path: str) -> None:
        """chown(2) drops security.capability, so the attributes are set after it."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        source = os.open(path, flags, dir_fd=self._layer)
        target = os.open(path, flags, dir_fd=self._target)
        try:
            _copy_xattrs(source, target)
        finally:
            os.close(source)
            os.close(target)


def _share_blocks(source: int, target: int) -> bool:
    """ioctl_ficlone(2): btrfs and some xfs can."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _is_opaque(parent: int, name: str) -> bool:
    opened = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        return os.getxattr(opened, _OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(opened)


def _copy_xattrs(source: int, target: int) -> None:
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name))
