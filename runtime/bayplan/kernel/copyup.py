"""Copying a directory of an image's root file system into a volume, as it is: owners, modes, times, links, devices, attributes.

It happens in a process of its own that has entered the image's tree by chroot, in a mount namespace of its own: every link in the
tree, on the way to the directory too, stays inside, and nothing remains mounted (CVE-2022-23648).
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Kernel
from bayplan.kernel import linux
from bayplan.kernel.rootfs import Overlay, Plain, Rootfs, Step

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


def copy(rootfs: Rootfs, path: str, target: str) -> None:
    """Copy what the image has at `path` into the empty directory `target`, which takes the attributes of `path` too.

    A `path` that is no directory in the image leaves `target` as it is. Raises Kernel; what was copied by then stays.
    """
    destination = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _copy_and_exit(rootfs, path, destination, writer)
    os.close(destination)
    os.close(writer)
    said = os.read(reader, 4096).decode("utf-8", "replace")
    os.close(reader)
    os.waitpid(child, 0)
    if said:
        number, _, where = said.partition(" ")
        raise Kernel(f"filling a volume from {path} of its image", OSError(int(number), os.strerror(int(number)), where))


def _copy_and_exit(rootfs: Rootfs, path: str, destination: int, writer: int) -> None:
    try:
        _enter(rootfs)
        source = _open_directory(path)
        if source >= 0:
            _copy_directory(source, destination)
    except BaseException as error:  # an image's tree may be too deep to walk: half of it must not pass for all
        number, where = getattr(error, "errno", 0) or errno.EIO, getattr(error, "filename", "") or ""
        os.write(writer, f"{number} {where}".encode("utf-8", "replace")[:4096])
    finally:
        os._exit(0)


def _enter(rootfs: Rootfs) -> None:
    """The image alone, read-only: without the container's own layer, which another mount may be using."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    if isinstance(rootfs, Plain):
        os.chdir(rootfs.path)
    elif len(rootfs.lower) == 1:
        os.chdir(f"{rootfs.base}/{rootfs.lower[0]}")
    else:
        _mount_layers(rootfs)
    os.chroot(".")


def _mount_layers(rootfs: Overlay) -> None:
    os.chdir(rootfs.base)
    with Step("mounting the image's layers"):
        linux.mount("overlay", rootfs.work, "overlay", linux.MS_RDONLY, f"lowerdir={':'.join(rootfs.lower)}")
    os.chdir(rootfs.work)


def _open_directory(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _copy_directory(source: int, destination: int) -> None:
    """Copy the entries, then the directory's own attributes; closes both descriptors."""
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=destination)
            inner, outer = (os.open(name, _READ | os.O_DIRECTORY, dir_fd=each) for each in (source, destination))
            _copy_directory(inner, outer)
        else:
            _copy_entry(name, found, source=source, destination=destination)
    found = os.fstat(source)
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            os.setxattr(destination, name, os.getxattr(source, name))
    os.fchown(destination, found.st_uid, found.st_gid)
    os.fchmod(destination, stat.S_IMODE(found.st_mode))
    os.utime(destination, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.close(source)
    os.close(destination)


def _copy_entry(name: str, found: os.stat_result, *, source: int, destination: int) -> None:
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
    elif stat.S_ISREG(found.st_mode):
        _copy_file(name, source=source, destination=destination)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=destination)
    os.chown(name, found.st_uid, found.st_gid, dir_fd=destination, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=destination)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=destination, follow_symlinks=False)


def _copy_file(name: str, *, source: int, destination: int) -> None:
    reading = os.open(name, _READ, dir_fd=source)
    writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=destination)
    try:
        while os.sendfile(writing, reading, None, _CHUNK):
            pass
        for attribute in os.listxattr(reading):
            os.setxattr(writing, attribute, os.getxattr(reading, attribute))
    finally:
        os.close(reading)
        os.close(writing)
