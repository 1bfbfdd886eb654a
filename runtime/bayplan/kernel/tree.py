"""Copying a directory by descriptor, as it is: owners, modes, times, links, devices, attributes. No link is ever followed."""

from __future__ import annotations

import errno
import os
import stat

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


def copy_directory(source: int, destination: int) -> None:
    """Copy the entries of one directory into another, then its own attributes; closes both descriptors.

    A directory on which something else is mounted is made and stays empty. OSError for what cannot be copied, a tree deeper than
    descriptors last included; what was copied by then stays.
    """
    try:
        device = os.fstat(source).st_dev
        for name in os.listdir(source):
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                _copy_inner(name, device, source=source, destination=destination)
            else:
                _copy_entry(name, found, source=source, destination=destination)
        _copy_attributes(source, destination)
    finally:
        os.close(source)
        os.close(destination)


def _copy_inner(name: str, device: int, *, source: int, destination: int) -> None:
    os.mkdir(name, 0o700, dir_fd=destination)
    inner = os.open(name, _READ | os.O_DIRECTORY, dir_fd=source)
    if os.fstat(inner).st_dev != device:
        os.close(inner)
        return
    copy_directory(inner, os.open(name, _READ | os.O_DIRECTORY, dir_fd=destination))


def _copy_attributes(source: int, destination: int) -> None:
    found = os.fstat(source)
    _copy_extended(source, destination)
    os.fchown(destination, found.st_uid, found.st_gid)
    os.fchmod(destination, stat.S_IMODE(found.st_mode))
    os.utime(destination, ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_extended(source: int, destination: int) -> None:
    for name in os.listxattr(source):
        if name.startswith("trusted.overlay."):
            continue
        try:
            os.setxattr(destination, name, os.getxattr(source, name))
        except OSError as error:  # a tmpfs has had users' own attributes since Linux 6.6
            if error.errno != errno.ENOTSUP or not name.startswith("user."):
                raise


def _copy_entry(name: str, found: os.stat_result, *, source: int, destination: int) -> None:
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
    elif stat.S_ISREG(found.st_mode):
        _copy_file(name, found, source=source, destination=destination)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=destination)
    if not stat.S_ISREG(found.st_mode):
        os.chown(name, found.st_uid, found.st_gid, dir_fd=destination, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=destination)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=destination, follow_symlinks=False)


def _copy_file(name: str, found: os.stat_result, *, source: int, destination: int) -> None:
    reading = os.open(name, _READ, dir_fd=source)
    writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=destination)
    try:
        while os.sendfile(writing, reading, None, _CHUNK):
            pass
        os.fchown(writing, found.st_uid, found.st_gid)  # it takes capabilities(7) of a file away, which come with the attributes
        _copy_extended(reading, writing)
    finally:
        os.close(reading)
        os.close(writing)
