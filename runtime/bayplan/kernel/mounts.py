"""One entry of a configuration's `mounts`, put into a root file system by descriptor."""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Invalid, Kernel, NotFound, Unavailable
from bayplan.kernel import linux, paths
from bayplan.model.runtime import Mount
from bayplan.model.value import NamedTuple

_SET = {
    "ro": linux.MS_RDONLY,
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "relatime": linux.MS_RELATIME,
    "strictatime": linux.MS_STRICTATIME,
    "sync": 16,
    "mand": 64,
    "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC,
}
_CLEAR = {"rw": linux.MS_RDONLY, "suid": linux.MS_NOSUID, "dev": linux.MS_NODEV, "exec": linux.MS_NOEXEC}
_CLEAR.update({"atime": linux.MS_NOATIME, "diratime": linux.MS_NODIRATIME, "async": 16, "nomand": 64})
_PROPAGATION = {
    "private": linux.MS_PRIVATE,
    "slave": linux.MS_SLAVE,
    "shared": linux.MS_SHARED,
    "unbindable": linux.MS_UNBINDABLE,
}
_PROPAGATION.update({"r" + name: flag | linux.MS_REC for name, flag in list(_PROPAGATION.items())})
_KEPT = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_RECURSIVE = {"rro": 1, "rnosuid": 2, "rnodev": 4, "rnoexec": 8}  # MOUNT_ATTR_* have mount(2)'s values here


class Options(NamedTuple):
    """`options` of a mount, sorted: mount(2) flags to set and to clear, propagation, recursive attributes, the file
    system's own data, and what the image's own directory gives (`copy`: nothing yet)."""

    flags: int
    cleared: int
    propagation: int
    recursive: int
    data: str


def parse_options(options: tuple[str, ...]) -> Options:
    """mount(8)'s words; what is none of them belongs to the file system."""
    flags = cleared = recursive = propagation = 0
    data = []
    for option in options:
        if option in _SET:
            flags |= _SET[option]
        elif option in _CLEAR:
            flags &= ~_CLEAR[option]
            cleared |= _CLEAR[option]
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option in _RECURSIVE:
            recursive |= _RECURSIVE[option]
        elif option not in ("defaults", "rrw", "nofail"):
            data.append(option)
    return Options(flags, cleared, propagation, recursive, ",".join(data))


def is_bind(mount: Mount) -> bool:
    return mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options


def open_source(mount: Mount) -> int:
    """An O_PATH descriptor of a bind mount's source on the host; with shared propagation a clone of the mount itself.

    Taken in the host's mount namespace, because a copy of it no longer shares: a detached clone does (Linux 5.2).
    """
    try:
        if not parse_options(mount.options).propagation & linux.MS_SHARED:
            return _open_source(mount)
        recursive = linux.AT_RECURSIVE if "rbind" in mount.options or mount.type == "bind" else 0
        found = _open_source(mount)
        try:
            return linux.open_tree(f"/proc/self/fd/{found}", linux.OPEN_TREE_CLONE | recursive)
        finally:
            os.close(found)
    except FileNotFoundError as error:
        raise NotFound(f"mounting {mount.destination}: source {mount.source} does not exist on the host") from error
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise Unavailable(f"mounting {mount.destination}: shared propagation needs Linux 5.2") from error
        raise Kernel(f"opening {mount.source} to mount it on {mount.destination}", error) from error


def _open_source(mount: Mount) -> int:
    """In this process's mount namespace; links stop at `mount.beneath` where it is given (CVE-2017-1002101)."""
    if not mount.beneath:
        return os.open(mount.source, linux.O_PATH | os.O_CLOEXEC)
    assert mount.source.startswith(f"{mount.beneath}/"), f"{mount.source} is not beneath {mount.beneath}"
    root = paths.open_root(mount.beneath)
    try:
        return paths.open_in_root(root, mount.source[len(mount.beneath) :])
    finally:
        os.close(root)


def apply(root: int, mount: Mount, source: int | None) -> None:
    """Mount it beneath the directory descriptor `root`; `source` as `open_source` gave it, for a bind.

    A missing target is made inside `root`. Every link in the target stays inside. Kernel or Invalid otherwise.
    """
    if not [part for part in mount.destination.split("/") if part not in ("", ".")]:
        raise Invalid("mounting over / is not possible: the root file system is the image's")
    try:
        if source is not None:
            _bind(root, mount, source)
        else:
            _fresh(root, mount)
    except OSError as error:
        raise Kernel(f"mounting {mount.source or mount.type} on {mount.destination}", error) from error


def _fresh(root: int, mount: Mount) -> None:
    options = parse_options(mount.options)
    target = paths.make_in_root(root, mount.destination, directory=True)
    try:
        data = _tmpfs_data(target, options.data) if mount.type == "tmpfs" else options.data
        linux.mount(mount.source or mount.type, f"/proc/self/fd/{target}", mount.type, options.flags, data)
    finally:
        os.close(target)


def _tmpfs_data(target: int, data: str) -> str:
    # without mode= a tmpfs would be 1777: the directory that it covers says better
    if "mode=" in data:
        return data
    return f"{data},mode={os.fstat(target).st_mode & 0o7777:o}".lstrip(",")


def _bind(root: int, mount: Mount, source: int) -> None:
    options = parse_options(mount.options)
    kind = os.fstat(source)
    target = paths.make_in_root(root, mount.destination, directory=stat.S_ISDIR(kind.st_mode))
    try:
        if options.propagation & linux.MS_SHARED:
            linux.move_mount(source, target)
        else:
            recursive = linux.MS_REC if options.flags & linux.MS_REC or options.recursive else 0
            # A mount of another mount namespace cannot be bound: the source is opened again in this one, and compared below.
            here = _open_source(mount)
            linux.mount(f"/proc/self/fd/{here}", f"/proc/self/fd/{target}", "", linux.MS_BIND | recursive)
            os.close(here)
    finally:
        os.close(target)
    top = open_mounted(root, mount.destination, kind)
    try:
        _adjust(top, options)
    finally:
        os.close(top)


def open_mounted(root: int, destination: str, expected: os.stat_result) -> int:
    """The root of what was just mounted: the same file as its source, or somebody has swapped the way to it."""
    top = paths.open_in_root(root, destination)
    found = os.fstat(top)
    if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino):
        os.close(top)
        raise OSError(errno.ESTALE, "the target changed while it was mounted", destination)
    return top


def _adjust(top: int, options: Options) -> None:
    path = f"/proc/self/fd/{top}"
    has = os.fstatvfs(top).f_flag & _KEPT
    wanted = (has | (options.flags & _KEPT)) & ~options.cleared
    other = options.flags & ~(_KEPT | linux.MS_BIND | linux.MS_REC)
    if wanted != has or other:
        linux.mount("", path, "", linux.MS_REMOUNT | linux.MS_BIND | wanted | other)
    if options.recursive:
        _adjust_recursively(top, options.recursive)
    if not options.propagation & linux.MS_SHARED:
        linux.mount("", path, "", options.propagation or linux.MS_PRIVATE | linux.MS_REC)


def _adjust_recursively(top: int, attributes: int) -> None:
    try:
        linux.mount_setattr(top, set_flags=attributes, recursive=True)
        return
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    for path in submounts(os.readlink(f"/proc/self/fd/{top}")):  # before Linux 5.12: one by one
        fd = os.open(path, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        flags = (os.fstatvfs(fd).f_flag & _KEPT) | attributes
        linux.mount("", f"/proc/self/fd/{fd}", "", linux.MS_REMOUNT | linux.MS_BIND | flags)
        os.close(fd)


def submounts(path: str) -> list[str]:
    """The mount points at and beneath `path` of this process, from its mountinfo (proc(5))."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [_unescape(line.split(" ")[4]) for line in file]
    return [point for point in points if point == path or point.startswith(path.rstrip("/") + "/")]


def _unescape(field: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field
