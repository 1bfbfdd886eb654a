"""Where a mount goes: opened once beneath the root, and refused where a mount would lead other parts of a system astray.

What a process believes of /proc decides what it writes where, so that a mount inside /proc redirects somebody's writes
(CVE-2019-16884, CVE-2019-19921, CVE-2025-52881): none is made there, but on the few files which lxcfs and the like replace.
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Invalid
from bayplan.kernel import linux, paths
from bayplan.model.runtime import Mount

_FILES = ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev")
_IN_PROC = (*_FILES, "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled")
_PROC_ROOT = 1  # the inode of a procfs's root, and of nothing else in it: include/linux/proc_ns.h


def open_target(root: int, mount: Mount, source: int | None, *, directory: bool) -> int:
    """An O_PATH descriptor of the place of `mount` beneath `root`, made if it is missing; a relative destination starts at the root.

    Every link on the way stays inside. `source` is the descriptor of what is bound. Raises Invalid for a place where no mount may go.
    """
    target = paths.make_in_root(root, mount.destination, directory=directory)
    try:
        _verify(place(root, target), mount, source)
    except BaseException:
        os.close(target)
        raise
    return target


def exists(root: int, mount: Mount) -> bool:
    """Whether the image has something at the place of `mount`."""
    try:
        os.close(paths.open_in_root(root, mount.destination))
    except OSError:
        return False
    return True


def open_mounted(root: int, mount: Mount) -> int:
    """An O_PATH descriptor of what is mounted at a destination already, for a remount. OSError EINVAL if nothing is."""
    top = paths.open_in_root(root, mount.destination)
    found = place(root, top)
    if found == "/":
        os.close(top)
        _refuse_root()
    return top


def open_top(root: int, target: int) -> int:
    """The root of what was just mounted on `target`. OSError ESTALE where somebody has swapped the way to it meanwhile."""
    expected = place(root, target)
    top = paths.open_in_root(root, expected)
    if place(root, top) != expected or _mount_id(top) == _mount_id(target):
        os.close(top)
        raise OSError(errno.ESTALE, "the target changed while it was mounted", expected)
    return top


def place(root: int, fd: int) -> str:
    """The path of `fd` beneath `root`, without links, as the kernel knows it. OSError ESTALE for one that has left the root."""
    top, there = (os.readlink(f"/proc/self/fd/{each}") for each in (root, fd))
    if there == top:
        return "/"
    if not there.startswith(top.rstrip("/") + "/"):
        raise OSError(errno.ESTALE, "the target was moved out of the root file system while it was mounted", there)
    return there[len(top.rstrip("/")) :]


def parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _verify(found: str, mount: Mount, source: int | None) -> None:
    if found == "/":
        _refuse_root()
    if source is None and mount.type in ("proc", "sysfs") and parts(found) != parts(mount.destination):
        raise Invalid(f"mounting {mount.type} on {mount.destination}: a link leads to {found}, and this needs a plain directory")
    if found == "/proc":
        _verify_procfs(mount, source)
    elif found.startswith("/proc/") and found[6:] not in _IN_PROC:
        raise Invalid(f"mounting on {mount.destination}: {found} is inside /proc, where only {', '.join(_IN_PROC)} may be covered")


def _refuse_root() -> None:
    raise Invalid("mounting over / is not possible: the root file system is the image's (root.path)")


def _verify_procfs(mount: Mount, source: int | None) -> None:
    if source is None:
        real = mount.type == "proc"
    else:
        real = linux.file_system_magic(source) == linux.PROC_MAGIC and os.fstat(source).st_ino == _PROC_ROOT
    if not real:
        raise Invalid(f"mounting {mount.source or mount.type} on {mount.destination}: only a proc file system may be /proc")


def _mount_id(fd: int) -> bytes:
    """Which mount a descriptor belongs to (proc(5), fdinfo; statx has it only since Linux 5.8)."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return next(line for line in os.read(info, 4096).splitlines() if line.startswith(b"mnt_id:"))
    finally:
        os.close(info)


def is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)
