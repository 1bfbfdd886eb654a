"""A container's root file system, made inside the container's own mount namespace.

Nothing here touches the host's mount namespace. Everything in the image's tree is hostile: each target is opened once,
beneath the root, and acted upon by descriptor. `/proc/self/fd` below is the host's procfs, until `enter_root`.
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import BayplanError, Kernel
from bayplan.kernel import cgroupmounts, devices, linux, mountoptions, mounts, paths, targets
from bayplan.model.runtime import Config, Mount
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_KERNELS = {"proc": ("proc", linux.PROC_MAGIC), "sys": ("sysfs", linux.SYSFS_MAGIC)}
_INHERITED = (linux.MS_SLAVE | linux.MS_REC, linux.MS_SHARED | linux.MS_REC)
PAGE = 4000  # of the 4096 bytes that mount(2) takes as options, so that what is added behind has room
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
    """A directory that is the root file system already (the copying driver, an OCI bundle). `idmapped`: in a user namespace, its files
    are to have the ids inside that they have here."""

    path: str
    nosuid: bool = False
    idmapped: bool = False


class Tree(NamedTuple):
    """A detached mount that is it (userns.py)."""

    fd: int
    nosuid: bool = False


Rootfs: TypeAlias = "Overlay | Plain | Tree"


class Step:
    """`with Step("mounting /proc"):` turns an OSError inside into Kernel with these words."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            raise Kernel(self.doing, error) from error


class Entry:
    """`with Entry(3):` says of every error inside that it is about `mounts[3]` of the configuration."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, BayplanError):
            error.args = (f"{error} (mounts[{self.index}])",)


def mount_rootfs(rootfs: Rootfs, *, propagation: str = "private") -> int:
    """Mount it, in this process's own mount namespace, and return an O_PATH descriptor of its root.

    With the `propagation` "slave" or "rslave" a plain directory receives what the host mounts beneath it."""
    linux.mount("", "/", "", linux.MS_REC | linux.MS_SLAVE)
    if isinstance(rootfs, Tree):
        with Step("attaching the root file system"):  # unseen on top of the host's root, which it is about to replace
            linux.move_mount(rootfs.fd, paths.open_root("/"))
            _cut(f"/proc/self/fd/{rootfs.fd}", propagation)  # it was copied from the host, whose mounts systemd shares
            return rootfs.fd
    if isinstance(rootfs, Plain):
        with Step(f"binding the root file system {rootfs.path}"):
            linux.mount(rootfs.path, rootfs.path, "", linux.MS_BIND | linux.MS_REC)
            _cut(rootfs.path, propagation)
            return paths.open_root(rootfs.path)
    with Step(f"mounting {len(rootfs.lower)} layers of the root file system"):
        _mount_overlay(rootfs)
        return paths.open_root(rootfs.upper)


def _cut(path: str, propagation: str) -> None:
    """Let nothing that is mounted there reach the host, and, of the top, what the host mounts reach it only where that is asked for."""
    linux.mount("", path, "", linux.MS_REC | linux.MS_SLAVE)
    if not propagation.endswith("slave"):
        linux.mount("", path, "", linux.MS_PRIVATE)


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
    os.chdir(rootfs.base)
    if len(data) > PAGE:
        _mount_many(rootfs)
        return
    try:
        linux.mount("overlay", rootfs.upper, "overlay", 0, data + ",metacopy=off")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        linux.mount("overlay", rootfs.upper, "overlay", 0, data)  # metacopy is of Linux 4.19


def _mount_many(rootfs: Overlay) -> None:
    from bayplan.kernel import overlay  # for those who have hundreds of layers

    upper, work = (overlay.shortened(path, rootfs.base) for path in (rootfs.upper, rootfs.work))
    options = (("upperdir", upper), ("workdir", work), ("redirect_dir", "off"), ("index", "off"), ("metacopy", "off"))
    overlay.mount_many(rootfs.lower, rootfs.upper, options)


def populate(root: int, config: Config, sources: dict[int, int]) -> None:
    """All mounts of `config` but cgroup's, its devices, links, masks; `sources` maps a bind's place in `config.mounts`
    to its descriptor."""
    late = []
    chosen = mountoptions.parse_propagation(config.linux.rootfs_propagation)
    inherited = chosen if chosen in _INHERITED else linux.MS_PRIVATE | linux.MS_REC
    for index, mount in enumerate(config.mounts):
        if not cgroupmounts.is_cgroup(mount):
            with Entry(index):
                late.append(mounts.apply(root, mount, sources.get(index), propagation=inherited))
    _make_devices(root, config)
    if config.process.terminal:
        with Step("making a place for the terminal"):  # while /dev can be written
            os.close(paths.make_in_root(root, "/dev/console", directory=False))
    for top in late:
        if top >= 0:
            with Step("making a mount read-only"):
                mountoptions.change(top, linux.MS_RDONLY, 0)
                os.close(top)
    _restrict(root, config)


def _restrict(root: int, config: Config) -> None:
    """Read-only and masked paths. Those in /proc and /sys are looked for in the file systems that were mounted there, whatever has
    been done to the names meanwhile: what is not found is not masked."""
    last = {mount.destination.strip("/"): mount for mount in config.mounts}
    fixed = {name: _open_kernels(root, last.get(name), name) for name in _KERNELS}
    try:
        for path in config.linux.readonly_paths:
            make_readonly(*_locate(root, fixed, path), path)
        for path in config.linux.masked_paths:
            mask(*_locate(root, fixed, path), path)
    finally:
        for fd in fixed.values():
            if fd >= 0:
                os.close(fd)


def _open_kernels(root: int, last: Mount | None, name: str) -> int:
    """The root of the procfs or sysfs that is mounted on /`name`, verified; -1 where the `last` mount there is none."""
    kind, magic = _KERNELS[name]
    if last is None or last.type != kind or mounts.is_bind(last):
        return -1
    with Step(f"looking for what was mounted on /{name}"):
        fd = paths.open_in_root(root, name)
        if linux.file_system_magic(fd) != magic:
            os.close(fd)
            raise OSError(errno.ESTALE, f"somebody has put something else than {kind} there", f"/{name}")
        return fd


def _locate(root: int, fixed: dict[str, int], path: str) -> tuple[int, str]:
    first, *rest = targets.parts(path) or [""]
    if rest and ".." not in rest and fixed.get(first, -1) >= 0:
        return fixed[first], "/".join(rest)
    return root, path


def _make_devices(root: int, config: Config) -> None:
    bind = any(namespace.type == "user" for namespace in config.linux.namespaces)  # where mknod(2) is EPERM
    wanted = config.linux.devices
    if any(mounts.is_bind(mount) and targets.parts(mount.destination) == ["dev"] for mount in config.mounts):
        devices.verify_there(root, wanted)
        return
    asked = {device.path for device in wanted}
    devices.make_devices(root, tuple(device for device in devices.STANDARD if device.path not in asked), bind=bind)
    devices.make_links(root)
    devices.make_devices(root, wanted, bind=bind)


def populate_cgroups(root: int, config: Config, joined: tuple[str, ...] | None = None) -> None:
    """The cgroup mounts, which show what they should only once the process is in its cgroup and cgroup namespace.
    `joined` as in cgroupmounts.py."""
    own = any(namespace.type == "cgroup" for namespace in config.linux.namespaces)
    for index, mount in enumerate(config.mounts):
        if cgroupmounts.is_cgroup(mount):
            with Entry(index):
                cgroupmounts.mount_cgroups(root, mount, own=own, joined=joined)


def mask(base: int, path: str, name: str) -> None:
    """Hide `path` beneath `base`: a file behind the null device, a directory behind an empty read-only tmpfs. Absent is fine.

    `name` is what the configuration calls it. The null device is the host's, verified to be character device 1:3 (CVE-2025-31133).
    """
    with Step(f"masking {name}"):
        target = _open_existing(base, path)
        if target is None:
            return
        try:
            if targets.is_directory(target):
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


def make_readonly(base: int, path: str, name: str) -> None:
    """Bind `path` beneath `base` on itself, read-only. Absent is fine."""
    with Step(f"making {name} read-only"):
        target = _open_existing(base, path)
        if target is None:
            return
        try:
            top = mounts.bind_on_itself(base, target)
            mountoptions.change(top, linux.MS_RDONLY, 0)
            os.close(top)
        finally:
            os.close(target)


def _open_existing(base: int, path: str) -> int | None:
    try:
        return paths.open_in_root(base, path)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


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
        chosen = mountoptions.parse_propagation(propagation)
        every = chosen & linux.MS_UNBINDABLE  # only now: what is masked was bound on itself. Other words the mounts have had
        linux.mount("", "/", "", chosen if every else chosen & ~linux.MS_REC)
