"""Namespaces to make and to join (namespaces(7)), always verified by type through their descriptor."""

from __future__ import annotations

import errno
import os

from bayplan.errors import Kernel, NotFound
from bayplan.kernel import linux
from bayplan.model.runtime import Namespace
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FLAGS = {
    "user": linux.CLONE_NEWUSER,
    "mount": linux.CLONE_NEWNS,
    "pid": linux.CLONE_NEWPID,
    "network": linux.CLONE_NEWNET,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "cgroup": linux.CLONE_NEWCGROUP,
    "time": linux.CLONE_NEWTIME,
}
_FILES = {"mount": "mnt", "network": "net"}
# the pid namespace first: it may belong to an outer user namespace than the others; then the user namespace, which the others belong to;
# the mount namespace last: after it paths are the container's
_ORDER = ("pid", "user", "ipc", "uts", "network", "cgroup", "time", "mount")
_LATER = ("user", "cgroup", "time")  # not made by the clone: sandbox.py, and build.py once the process is in its cgroup


def clone_flags(wanted: Iterable[Namespace]) -> int:
    """The flags of the namespaces to make at the clone."""
    return sum(FLAGS[n.type] for n in wanted if not n.path and n.type not in _LATER)


def makes(wanted: Iterable[Namespace], kind: str) -> bool:
    """Whether a namespace of that kind is to be made, not joined or shared."""
    return any(n.type == kind and not n.path for n in wanted)


def open_joined(wanted: Iterable[Namespace], opened: list[int]) -> dict[int, int]:
    """Descriptors of the namespaces that are to be joined, by their CLONE_NEW flag; all are added to `opened`."""
    joined = {}
    for namespace in wanted:
        if namespace.path:
            joined[FLAGS[namespace.type]] = _open(namespace.path, opened)
    return joined


def open_all(pid: int, pidfd: int, opened: list[int]) -> dict[int, int]:
    """Descriptors of those namespaces of process `pid` that differ from this one's, in the order to join them."""
    joined = {}
    for kind in _ORDER:
        name = _FILES.get(kind, kind)
        try:
            here = os.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue  # the kernel has none of that kind
        fd = _open(f"/proc/{pid}/ns/{name}", opened)
        there = os.fstat(fd)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            joined[FLAGS[kind]] = fd
    _verify_alive(pid, pidfd)
    return joined


def join(joined: dict[int, int]) -> None:
    """Join all; the pid namespace is for children only (setns(2)). The kernel checks each one's type.

    In a user namespace this process is its root: outside it still was the host's, which inside is nobody.
    """
    for flag, fd in joined.items():
        linux.setns(fd, flag)
        if flag == linux.CLONE_NEWUSER:
            linux.set_identity(0, 0, ())


def enter_time(offsets: tuple[tuple[str, int, int], ...]) -> None:
    """Enter a new time namespace whose clocks are ahead by `offsets` (time_namespaces(7)). This process has one thread."""
    linux.unshare(linux.CLONE_NEWTIME)
    if offsets:
        fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, "".join(f"{clock} {seconds} {nanoseconds}\n" for clock, seconds, nanoseconds in offsets).encode())
        os.close(fd)
    fd = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
    linux.setns(fd, linux.CLONE_NEWTIME)
    os.close(fd)


def _open(path: str, opened: list[int]) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"joining the namespace {path}: its process has ended") from error
    except OSError as error:
        raise Kernel(f"opening the namespace {path}", error) from error
    opened.append(fd)
    if linux.file_system_magic(fd) != linux.NSFS_MAGIC:
        raise Kernel("joining a namespace", OSError(errno.EINVAL, "not a namespace", path))
    return fd


def _verify_alive(pid: int, pidfd: int) -> None:
    if pidfd < 0:
        return
    try:
        linux.pidfd_send_signal(pidfd, 0)
    except OSError as error:
        raise NotFound(f"entering the container: process {pid} has ended") from error
