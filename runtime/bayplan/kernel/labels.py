"""AppArmor profiles and SELinux labels: what a process becomes when it executes the next program, and what its mounts are labelled.

A container's procfs may be anything that a mount makes of it (CVE-2019-16884, CVE-2025-52881): the file is opened on the host's,
verified, before the process joins or leaves anything, and written later by its descriptor. The kernel accepts that from the very
process that opened it only. Both take effect with the trampoline, which must then be allowed to execute the container's program:
AppArmor's `file,` rule and container-selinux both say so.
"""

from __future__ import annotations

import errno
import os

from bayplan.errors import Invalid, Unavailable
from bayplan.kernel import linux
from bayplan.kernel.rootfs import Step
from bayplan.model.runtime import Process
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SELINUX_MAGIC = 0xF97CFF8C
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_XDEV | linux.RESOLVE_NO_MAGICLINKS
_UNLABELLED = ("proc", "sysfs", "mqueue", "bind")  # refuse `context=`, or have labels of their own


def open_labels(process: Process) -> Callable[[], None]:
    """Open what says to the kernel which profile and label `process` runs as, and return what says it, for the next program.

    To be called by the very process that will execute that program, with the host's procfs at /proc. Unavailable names the member of
    config.json that this kernel cannot fulfil; what is returned raises Kernel where the kernel does not know the profile or label.
    """
    opened: list[tuple[str, int, str]] = []
    profile, label = process.apparmor_profile, process.selinux_label
    if profile and (profile != "unconfined" or _has_apparmor()):
        _demand(_has_apparmor(), f"process.apparmorProfile is {profile!r}", "AppArmor")
        doing = f"setting process.apparmorProfile {profile} (is that profile loaded?)"
        opened.append((doing, _open_attribute("apparmor/exec", "exec"), f"exec {profile}"))
    if label:
        _demand(has_selinux(), f"process.selinuxLabel is {label!r}", "SELinux")
        opened.append((f"setting process.selinuxLabel {label}", _open_attribute("exec"), label))
    return lambda: _write(opened)


def _write(opened: list[tuple[str, int, str]]) -> None:
    for doing, fd, text in opened:
        with Step(doing):
            os.write(fd, text.encode())
            os.close(fd)


def mount_data(data: str, *, kind: str, label: str) -> str:
    """The options `data` of a mount of a file system of type `kind`, with linux.mountLabel where that type takes one."""
    if not label:
        return data
    _demand(has_selinux(), f"linux.mountLabel is {label!r}", "SELinux")
    if any(character in label for character in '"\\\n'):
        raise Invalid(f"linux.mountLabel {label!r} is not a label: it has a quote, a backslash or a line's end")
    if kind in _UNLABELLED:
        return data
    return f'{data},context="{label}"' if data else f'context="{label}"'  # a label's categories have commas


def has_selinux() -> bool:
    """Whether a policy is loaded: only then is there anything at the place of selinuxfs."""
    return _magic("/sys/fs/selinux") == _SELINUX_MAGIC


def _has_apparmor() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled", "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return False


def _demand(has: bool, member: str, what: str) -> None:
    if not has:
        raise Unavailable(f"{member}, but this kernel runs without {what}; leave it out, or enable {what} on the host")


def _magic(path: str) -> int:
    try:
        fd = os.open(path, linux.O_PATH | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return linux.file_system_magic(fd)
    finally:
        os.close(fd)


def _open_attribute(*names: str) -> int:
    """The first of `names` that is in this thread's attr directory of /proc, nothing mounted over it, opened for writing."""
    with Step("opening /proc/thread-self/attr"):
        proc = os.open("/proc", linux.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if linux.file_system_magic(proc) != linux.PROC_MAGIC:
                raise Unavailable("/proc on this host is not a proc file system: labels of processes are set there")
            for name in names[:-1]:
                try:
                    return _open_beneath(proc, f"thread-self/attr/{name}")
                except FileNotFoundError:  # the directory of AppArmor's own is of Linux 5.8
                    continue
            return _open_beneath(proc, f"thread-self/attr/{names[-1]}")
        finally:
            os.close(proc)


def _open_beneath(proc: int, path: str) -> int:
    try:
        fd = linux.openat2(proc, path, os.O_WRONLY, _RESOLVE)
    except OSError as error:
        if error.errno != errno.ENOSYS:  # before Linux 5.6 a mount over it cannot be told; only the host's root could make one
            raise
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=proc)
    if linux.file_system_magic(fd) != linux.PROC_MAGIC:
        os.close(fd)
        raise Unavailable(f"/proc/{path} is not the kernel's: something is mounted over it")
    return fd
