"""Copying a directory of an image's root file system into a volume, as it is: owners, modes, times, links, devices, attributes.

It happens in a process of its own that has entered the image's tree by chroot, in a mount namespace of its own: every link in the
tree, on the way to the directory too, stays inside, and nothing remains mounted (CVE-2022-23648).
"""

from __future__ import annotations

import errno
import os

from bayplan.errors import Kernel
from bayplan.kernel import linux, tree
from bayplan.kernel.rootfs import PAGE, Overlay, Plain, Step


def copy(rootfs: Overlay | Plain, path: str, target: str) -> None:
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


def _copy_and_exit(rootfs: Overlay | Plain, path: str, destination: int, writer: int) -> None:
    try:
        _enter(rootfs)
        source = _open_directory(path)
        if source >= 0:
            tree.copy_directory(source, destination)
    except BaseException as error:  # an image's tree may be too deep to walk: half of it must not pass for all
        number, where = getattr(error, "errno", 0) or errno.EIO, getattr(error, "filename", "") or ""
        os.write(writer, f"{number} {where}".encode("utf-8", "replace")[:4096])
    finally:
        os._exit(0)


def _enter(rootfs: Overlay | Plain) -> None:
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
    data = f"lowerdir={':'.join(rootfs.lower)}"
    with Step("mounting the image's layers"):
        if len(data) > PAGE:
            from bayplan.kernel import overlay  # for those who have hundreds of layers

            overlay.mount_many(rootfs.lower, overlay.shortened(rootfs.work, rootfs.base), readonly=True)
        else:
            linux.mount("overlay", rootfs.work, "overlay", linux.MS_RDONLY, data)
    os.chdir(rootfs.work)


def _open_directory(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return -1
