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
    "mount": linux.CLONE_NEWNS,
    "pid": linux.CLONE_NEWPID,
    "network": linux.CLONE_NEWNET,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "cgroup": linux.CLONE_NEWCGROUP,
}
_FILES = {"mount": "mnt", "network": "net"}
_ORDER = (
    "ipc",
    "uts",
    "network",
    "cgroup",
    "pid",
    "mount",
)  # the mount namespace last: after it paths are the container's


def clone_flags(wanted: Iterable[Namespace]) -> int:
    """The flags of the namespaces to make at the clone; the cgroup namespace comes later, from inside the cgroup."""
    return sum(FLAGS[n.type] for n in wanted if not n.path and n.type in FLAGS and n.type != "cgroup")


def open_joined(wanted: Iterable[Namespace], opened: list[int]) -> dict[int, int]:
    """Descriptors of the namespaces that are to be joined, by their CLONE_NEW flag; all are added to `opened`."""
    joined = {}
    for namespace in wanted:
        if namespace.path and namespace.type in FLAGS:
            joined[FLAGS[namespace.type]] = _open(namespace.path, opened)
    return joined


def open_all(pid: int, pidfd: int, opened: list[int]) -> dict[int, int]:
    """Descriptors of those namespaces of process `pid` that differ from this one's, in the order to join them."""
    joined = {}
    for kind in _ORDER:
        name = _FILES.get(kind, kind)
        fd = _open(f"/proc/{pid}/ns/{name}", opened)
        there, here = os.fstat(fd), os.stat(f"/proc/self/ns/{name}")
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            joined[FLAGS[kind]] = fd
    _verify_alive(pid, pidfd)
    return joined


def join(joined: dict[int, int]) -> None:
    """Join all but the pid namespace, which the parent has set for its children. The kernel checks each one's type."""
    for flag, fd in joined.items():
        if flag != linux.CLONE_NEWPID:
            linux.setns(fd, flag)


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
