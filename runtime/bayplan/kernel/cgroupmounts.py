"""The cgroup file systems as a container sees them, on both versions (cgroups(7), config-linux.md "Default Filesystems")."""

from __future__ import annotations

import errno
import os

from bayplan.errors import Kernel, Unavailable
from bayplan.kernel import linux, mountoptions, mounts, paths
from bayplan.model.runtime import Mount

_HOST = "/sys/fs/cgroup"
_SYSTEMD = "name=systemd"
_INITIAL = 0xEFFFFFFB  # the first cgroup namespace's number: PROC_CGROUP_INIT_INO of the kernel's include/linux/proc_ns.h


def is_cgroup(mount: Mount) -> bool:
    return mount.type in ("cgroup", "cgroup2") and not mounts.is_bind(mount) and "remount" not in mount.options


def mount_cgroups(root: int, mount: Mount, *, own: bool, joined: tuple[str, ...] | None = None) -> None:
    """To be called when this process is where it belongs: in its cgroup, and, with `own`, in a cgroup namespace of its own.

    On version 2 a container sees the tree beneath its cgroup namespace; on version 1 its own cgroup of each hierarchy that the host has
    mounted, with or without a namespace, by the hierarchy's name and by each of its controllers', as runc shows them. `joined` are the
    controllers in whose hierarchies it has a cgroup (None: all): of the others it would be shown the host's.
    """
    if _SYSTEMD in mount.options:
        _open_for_systemd(root, os.path.dirname(mount.destination), joined)
        return
    if mount.type == "cgroup2" or _is_unified():
        _mount_unified(root, mount)
        return
    writable = tuple(option for option in mount.options if option != "ro")
    tmpfs = mount._replace(type="tmpfs", source="tmpfs", options=(*writable, "ro", "mode=755", "size=64k"))
    top = mounts.apply(root, tmpfs, None)
    try:
        for name, controllers, path in _hierarchies(joined):
            one = mount._replace(destination=f"{mount.destination}/{name}")
            if own:
                mounts.apply(root, one._replace(type="cgroup", source="cgroup", options=(*mount.options, *controllers)), None)
            else:
                _bind(root, one._replace(type="bind", source=path, options=(*mount.options, "rbind")))
            _link_controllers(top, name)
        if "ro" in mount.options:
            mountoptions.change(top, linux.MS_RDONLY, 0)
    finally:
        os.close(top)


def _open_for_systemd(root: int, directory: str, joined: tuple[str, ...] | None) -> None:
    """Let systemd as process 1 write to what is mounted at `directory`: on version 2 to all of it, on version 1 to the hierarchy of its
    name, its own cgroup there, which limits nothing."""
    name = "" if _is_unified() else next((f"/{name}" for name, words, _ in _hierarchies(joined) if _SYSTEMD in words), None)
    if name is None:
        remedy = f"mount -t cgroup -o none,{_SYSTEMD} cgroup {_HOST}/systemd"
        raise Unavailable(f"mounting {directory} for systemd: this host has no hierarchy for it ({remedy})")
    try:
        top = paths.open_in_root(root, directory + name)
        mountoptions.change(top, 0, linux.MS_RDONLY)
    except OSError as error:
        raise Kernel(f"making {directory}{name} writable for systemd", error) from error
    os.close(top)


def _is_unified() -> bool:
    fd = os.open(_HOST, linux.O_PATH | os.O_CLOEXEC)
    try:
        return linux.file_system_magic(fd) == linux.CGROUP2_MAGIC
    finally:
        os.close(fd)


def _mount_unified(root: int, mount: Mount) -> None:
    """In the host's cgroup namespace a new mount would set the options of the host's, too: nsdelegate, which keeps every container on
    the host from lifting its own limits, would be gone (cgroups(7)). And a user namespace without a cgroup namespace may not mount it.
    It is bound then, as it is on the host.
    """
    try:
        if os.stat("/proc/self/ns/cgroup").st_ino != _INITIAL:
            mounts.apply(root, mount._replace(type="cgroup2", source="cgroup"), None)
            return
    except Kernel as error:
        if error.errno not in (errno.EPERM, errno.EBUSY):
            raise
    recursive = ("rbind", "rro") if "ro" in mount.options else ("rbind",)
    _bind(root, mount._replace(type="bind", source=_HOST, options=(*mount.options, *recursive)))


def _bind(root: int, mount: Mount) -> None:
    source = mounts.open_source(mount)
    try:
        mounts.apply(root, mount, source)
    finally:
        os.close(source)


def _hierarchies(joined: tuple[str, ...] | None) -> list[tuple[str, tuple[str, ...], str]]:
    """Of each hierarchy of version 1 on the host its directory's name, what mount(2) calls it, and this process's cgroup in it."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = {controllers: path for _, controllers, path in (line.rstrip("\n").split(":", 2) for line in file)}
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.split(" ", 2)
            top, point = fields.split(" ")[3:5]
            controllers = _controllers(own, options) if kind == "cgroup" else ""
            if joined is not None and not set(controllers.split(",")) & set(joined):
                continue
            if controllers and os.path.dirname(point) == _HOST:
                words = ("none", controllers) if controllers.startswith("name=") else tuple(controllers.split(","))
                found.append((os.path.basename(point), words, f"{point}/{os.path.relpath(own[controllers], top)}"))
    return found


def _controllers(own: dict[str, str], options: str) -> str:
    """Which line of /proc/PID/cgroup a mount's super block is: the one whose controllers are all among its options."""
    has = options.strip().split(",")
    return next((name for name in own if name and all(each in has for each in name.split(","))), "")


def _link_controllers(directory: int, name: str) -> None:
    if "," in name:  # "cpu,cpuacct" is one hierarchy with two names
        for alias in name.split(","):
            os.symlink(name, alias, dir_fd=directory)
