"""A container's root file system, made inside the container's own mount namespace.

Nothing here touches the host's mount namespace. Everything in the image's tree is hostile: each target is opened once,
beneath the root, and acted upon by descriptor. `/proc/self/fd` below is the host's procfs, until `enter_root`.
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Kernel
from bayplan.kernel import linux, mounts, paths
from bayplan.model.runtime import Config, Device, Mount
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

_DEVICES = (
    Device("/dev/null", "c", 1, 3),
    Device("/dev/zero", "c", 1, 5),
    Device("/dev/full", "c", 1, 7),
    Device("/dev/random", "c", 1, 8),
    Device("/dev/urandom", "c", 1, 9),
    Device("/dev/tty", "c", 5, 0),
)
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441


class Overlay(NamedTuple):
    """An overlay of `lower` (names relative to the directory `base`, topmost first), `upper` and `work`.

    `upper` doubles as the place where it is mounted, unseen by anything else. `nosuid` for the strict profile.
    """

    base: str
    lower: tuple[str, ...]
    upper: str
    work: str
    nosuid: bool = False


class Plain(NamedTuple):
    """A directory that is the root file system already (the copying driver, an OCI bundle)."""

    path: str
    nosuid: bool = False


Rootfs: TypeAlias = "Overlay | Plain"


class Step:
    """`with Step("mounting /proc"):` turns an OSError inside into Kernel with these words."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            raise Kernel(self.doing, error) from error


def mount_rootfs(rootfs: Rootfs) -> int:
    """Mount it, in this process's own mount namespace, and return an O_PATH descriptor of its root."""
    linux.mount("", "/", "", linux.MS_REC | linux.MS_SLAVE)
    if isinstance(rootfs, Plain):
        with Step(f"binding the root file system {rootfs.path}"):
            linux.mount(rootfs.path, rootfs.path, "", linux.MS_BIND | linux.MS_REC)
            linux.mount("", rootfs.path, "", linux.MS_PRIVATE)
            return paths.open_root(rootfs.path)
    with Step(f"mounting {len(rootfs.lower)} layers of the root file system"):
        _mount_overlay(rootfs)
        return paths.open_root(rootfs.upper)


def overlay_data(rootfs: Overlay) -> str:
    """The options of mount(2), for a current directory of `base`. Characters that the option syntax uses are escaped."""
    lower = ":".join(_escape(name) for name in rootfs.lower)
    return (
        f"lowerdir={lower},upperdir={_escape(rootfs.upper)},workdir={_escape(rootfs.work)},redirect_dir=off,index=off"
    )


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _mount_overlay(rootfs: Overlay) -> None:
    data = overlay_data(rootfs)
    if len(data) > 4000:
        raise OSError(errno.E2BIG, "the layers' names do not fit into a page", rootfs.base)
    os.chdir(rootfs.base)
    try:
        linux.mount("overlay", rootfs.upper, "overlay", 0, data + ",metacopy=off")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        linux.mount("overlay", rootfs.upper, "overlay", 0, data)  # metacopy is of Linux 4.19


def populate(root: int, config: Config, sources: dict[int, int]) -> None:
    """All mounts of `config` but cgroup's, its devices, links, masks; `sources` maps a bind's place in `config.mounts`
    to its descriptor."""
    for index, mount in enumerate(config.mounts):
        if not _is_cgroup(mount):
            mounts.apply(root, mount, sources.get(index))
    if not any(mounts.is_bind(m) and m.destination.rstrip("/") == "/dev" for m in config.mounts):
        make_devices(root, _DEVICES)
        make_links(root)
    make_devices(root, config.linux.devices)
    for path in config.linux.readonly_paths:
        make_readonly(root, path)
    for path in config.linux.masked_paths:
        mask(root, path)


def populate_cgroups(root: int, config: Config) -> None:
    """The cgroup mounts, which show what they should only once the process is in its cgroup and cgroup namespace."""
    own = any(namespace.type == "cgroup" for namespace in config.linux.namespaces)
    for mount in filter(_is_cgroup, config.mounts):
        mount_cgroups(root, mount, own=own)


def _is_cgroup(mount: Mount) -> bool:
    return mount.type in ("cgroup", "cgroup2") and not mounts.is_bind(mount)


def make_devices(root: int, devices: tuple[Device, ...]) -> None:
    """Make the nodes beneath `root`, links in the way resolved inside it. A node that is there must be the same one."""
    for device in devices:
        with Step(f"making the device {device.path}"):
            directory, _, name = device.path.rstrip("/").rpartition("/")
            parent = paths.make_in_root(root, directory or "/", directory=True)
            try:
                _make_device(parent, name, device)
            finally:
                os.close(parent)


def _make_device(parent: int, name: str, device: Device) -> None:
    kind = {"b": stat.S_IFBLK, "p": stat.S_IFIFO}.get(device.type, stat.S_IFCHR)
    number = os.makedev(device.major, device.minor) if device.type != "p" else 0
    try:
        os.mknod(name, kind | device.file_mode, number, dir_fd=parent)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_IFMT(found.st_mode) != kind or (device.type != "p" and found.st_rdev != number):
            raise
        return
    if device.uid or device.gid:
        os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, device.file_mode, dir_fd=parent)


def make_links(root: int) -> None:
    """The links in /dev that the specification asks for. An image's own file of that name stays, unless /dev is ours."""
    with Step("making the links in /dev"):
        parent = paths.make_in_root(root, "/dev", directory=True)
        try:
            for name, target in _LINKS:
                try:
                    os.symlink(target, name, dir_fd=parent)
                except FileExistsError:
                    if name == "ptmx":  # an image's own node would be the host's: replaced
                        os.unlink(name, dir_fd=parent)
                        os.symlink(target, name, dir_fd=parent)
        finally:
            os.close(parent)


def mask(root: int, path: str) -> None:
    """Hide `path`: a file behind the null device, a directory behind an empty read-only tmpfs. Absent is fine.

    The null device is the host's, verified to be character device 1:3 (CVE-2025-31133).
    """
    with Step(f"masking {path}"):
        target = _open_existing(root, path)
        if target is None:
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                linux.mount("tmpfs", f"/proc/self/fd/{target}", "tmpfs", linux.MS_RDONLY, "size=0,mode=755,nr_inodes=2")
                return
            null = _open_null()
            linux.mount(f"/proc/self/fd/{null}", f"/proc/self/fd/{target}", "", linux.MS_BIND)
            os.close(null)
        finally:
            os.close(target)


def _open_null() -> int:
    null = os.open("/dev/null", linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise OSError(errno.ENODEV, "not the null device", "/dev/null")
    return null


def make_readonly(root: int, path: str) -> None:
    """Bind `path` on itself, read-only. Absent is fine."""
    with Step(f"making {path} read-only"):
        target = _open_existing(root, path)
        if target is None:
            return
        try:
            link, expected = f"/proc/self/fd/{target}", os.fstat(target)
            linux.mount(link, link, "", linux.MS_BIND | linux.MS_REC)
            top = mounts.open_mounted(root, path, expected)
            kept = os.fstatvfs(top).f_flag & (linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
            flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | kept
            linux.mount("", f"/proc/self/fd/{top}", "", flags)
            os.close(top)
        finally:
            os.close(target)


def _open_existing(root: int, path: str) -> int | None:
    try:
        return paths.open_in_root(root, path)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def mount_cgroups(root: int, mount: Mount, *, own: bool) -> None:
    """The cgroup file system as the container may see it: beneath its own cgroup namespace, or the host's if it has none."""
    host = "/sys/fs/cgroup"
    fd = os.open(host, linux.O_PATH | os.O_CLOEXEC)
    unified = linux.file_system_magic(fd) == linux.CGROUP2_MAGIC
    if not own:
        options = (*mount.options, "rbind", *(("rro",) if "ro" in mount.options else ()))
        mounts.apply(root, mount._replace(type="bind", source=host, options=options), fd)
    elif unified:
        mounts.apply(root, mount._replace(type="cgroup2", source="cgroup"), None)
    else:
        _mount_cgroup_v1(root, mount)
    os.close(fd)


def _mount_cgroup_v1(root: int, mount: Mount) -> None:
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        hierarchies = [line.split(":")[1] for line in file]
    options = tuple(option for option in mount.options if option != "ro")
    mounts.apply(root, mount._replace(type="tmpfs", source="tmpfs", options=(*options, "mode=755", "size=64k")), None)
    for controllers in filter(None, hierarchies):
        name = controllers[5:] if controllers.startswith("name=") else controllers
        data = f"none,{controllers}" if controllers.startswith("name=") else controllers
        one = mount._replace(type="cgroup", source="cgroup", destination=f"{mount.destination}/{name}")
        mounts.apply(root, one._replace(options=(*mount.options, *data.split(","))), None)
        _link_controllers(root, mount.destination, name)
    if "ro" in mount.options:
        make_superblock_readonly(root, mount.destination)


def _link_controllers(root: int, directory: str, name: str) -> None:
    if "," in name:  # "cpu,cpuacct" is one hierarchy with two names
        parent = paths.open_in_root(root, directory)
        for alias in name.split(","):
            os.symlink(name, alias, dir_fd=parent)
        os.close(parent)


def make_superblock_readonly(root: int, path: str) -> None:
    """Remount the tmpfs at `path`, which only this container has, read-only."""
    with Step(f"making {path} read-only"):
        top = paths.open_in_root(root, path)
        flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        linux.mount("", f"/proc/self/fd/{top}", "", flags)
        os.close(top)


def open_terminal(root: int, *, size: tuple[int, int] | None) -> tuple[int, int]:
    """A new terminal of the container's own devpts: descriptors of its master and of its other end.

    The other end is opened from the master, never by name (CVE-2025-52565), and the master from a verified devpts.
    """
    with Step("opening a terminal in the container's /dev/pts"):
        master = paths.open_in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        if linux.file_system_magic(master) != linux.DEVPTS_MAGIC:
            raise OSError(errno.ENODEV, "not a devpts file system", "/dev/pts")
        linux.ioctl_bytes(master, _TIOCSPTLCK, bytes(4))
        slave = linux.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if size:
            linux.set_window_size(master, rows=size[0], columns=size[1])
        return master, slave


def mount_console(root: int, slave: int) -> None:
    """Bind the terminal on /dev/console, as images expect."""
    with Step("binding the terminal on /dev/console"):
        target = paths.make_in_root(root, "/dev/console", directory=False)
        linux.mount(f"/proc/self/fd/{slave}", f"/proc/self/fd/{target}", "", linux.MS_BIND)
        os.close(target)


def enter_root(root: int, *, readonly: bool, nosuid: bool, propagation: str) -> None:
    """pivot_root(2) into `root`, the host's tree gone from the namespace. The current directory is the new /."""
    with Step("entering the root file system"):
        os.fchdir(root)
        linux.pivot_root(".", ".")
        linux.umount(".", linux.MNT_DETACH)
        os.chdir("/")
        if readonly or nosuid:
            flags = (linux.MS_RDONLY if readonly else 0) | (linux.MS_NOSUID if nosuid else 0)
            linux.mount("", "/", "", linux.MS_REMOUNT | linux.MS_BIND | flags)
        chosen = mounts.parse_options((propagation,)).propagation
        if chosen and not chosen & linux.MS_PRIVATE:
            linux.mount("", "/", "", chosen)
