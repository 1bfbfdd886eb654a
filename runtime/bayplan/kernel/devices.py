"""The device nodes of a container's root file system, and the links in its /dev."""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Invalid, Kernel, NotFound
from bayplan.kernel import linux, paths, targets
from bayplan.model.runtime import Device
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD = (
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
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_REFUSED = (errno.EPERM, errno.EACCES)


def make_devices(root: int, wanted: tuple[Device, ...], *, bind: bool = False) -> None:
    """Make the nodes beneath `root`, links in the way resolved inside it, with mode and owner whatever the umask is.

    A node that is there stays as it is, and must be the same one (config-linux.md, "Devices"). With `bind`, and where the kernel makes
    no nodes, the host's own node is bound there, verified by its number. Raises Invalid for a device that is none, NotFound where
    the host has no such node to bind, Kernel for what the kernel refuses.
    """
    for device in wanted:
        kind = _verify(device)
        if targets.parts(device.path) == ["dev", "ptmx"]:
            continue  # the link to the container's own, which `make_links` makes: a node would be the host's
        try:
            _make_device(root, device, kind, bind=bind and kind != stat.S_IFIFO)
        except OSError as error:
            raise Kernel(f"making the device {device.path} (linux.devices)", error) from error


def _verify(device: Device) -> int:
    if device.type not in _KINDS:
        raise Invalid(f"making the device {device.path}: its type is {device.type!r}, and c, u, b and p are known (linux.devices)")
    if not device.path.startswith("/") or device.path.endswith("/") or not targets.parts(device.path) or ".." in targets.parts(device.path):
        raise Invalid(f"making the device {device.path!r}: this is no absolute path of a file (linux.devices)")
    if not (0 <= device.major < 1 << 12 and 0 <= device.minor < 1 << 20 and 0 <= device.file_mode <= 0o7777):
        raise Invalid(f"making the device {device.path}: major, minor or fileMode is out of bounds (linux.devices)")
    return _KINDS[device.type]


def _make_device(root: int, device: Device, kind: int, *, bind: bool) -> None:
    directory, _, name = device.path.rpartition("/")
    parent = paths.make_in_root(root, directory or "/", directory=True)
    try:
        if not bind:
            try:
                _make_node(parent, name, device, kind)
                return
            except OSError as error:
                if error.errno not in _REFUSED or kind == stat.S_IFIFO:
                    raise
        if not _is_there(parent, name, device, kind):
            _bind_node(root, device, kind)
    finally:
        os.close(parent)


def _make_node(parent: int, name: str, device: Device, kind: int) -> None:
    if _is_there(parent, name, device, kind):
        return
    os.mknod(name, kind | 0o600, _number(device) if kind != stat.S_IFIFO else 0, dir_fd=parent)
    os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)
    os.chmod(name, device.file_mode, dir_fd=parent)  # after the owner, whose change takes set-id bits away; mknod heeds the umask


def _is_there(parent: int, name: str, device: Device, kind: int) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not _is_device(found, device, kind):
        raise OSError(errno.EEXIST, "something else is there already", device.path)
    return True


def _is_device(found: os.stat_result, device: Device, kind: int) -> bool:
    return stat.S_IFMT(found.st_mode) == kind and (kind == stat.S_IFIFO or found.st_rdev == _number(device))


def _number(device: Device) -> int:
    return os.makedev(device.major, device.minor)


def _bind_node(root: int, device: Device, kind: int) -> None:
    source = _open_node(device, kind)
    target = paths.make_in_root(root, device.path, directory=False)
    try:
        linux.mount(f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", "", linux.MS_BIND)
    finally:
        os.close(source)
        os.close(target)


def _open_node(device: Device, kind: int) -> int:
    """The host's node of this number, wherever in /dev it is; what was opened is what was compared."""
    for path in (device.path, *_paths("/dev")):
        try:
            fd = os.open(path, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        if _is_device(os.fstat(fd), device, kind):
            return fd
        os.close(fd)
    numbers = f"{device.type} {device.major}:{device.minor}"
    raise NotFound(f"making the device {device.path}: a user namespace needs the host's node, and /dev has none of {numbers}")


def _paths(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _paths(entry.path)
                else:
                    yield entry.path
    except OSError:
        return


def make_links(root: int) -> None:
    """The links in /dev that the specification asks for. An image's own file of that name stays, unless /dev is ours."""
    parent = -1
    try:
        parent = paths.make_in_root(root, "/dev", directory=True)
        for name, target in _LINKS:
            _make_link(parent, name, target)
    except OSError as error:
        raise Kernel("making the links in /dev", error) from error
    finally:
        if parent >= 0:
            os.close(parent)


def _make_link(parent: int, name: str, target: str) -> None:
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        if name == "ptmx":  # an image's own node would be the host's: replaced
            os.unlink(name, dir_fd=parent)
            os.symlink(target, name, dir_fd=parent)


def verify_there(root: int, wanted: tuple[Device, ...]) -> None:
    """That a /dev which is the host's has all of these already: nothing is made in it. Invalid otherwise."""
    for device in wanted:
        kind = _verify(device)
        try:
            fd = paths.open_in_root(root, device.path, linux.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            words = "/dev is bound from the host, which has no such device, and none is made there"
            raise Invalid(f"making the device {device.path}: {words}") from error
        except OSError as error:
            raise Kernel(f"looking at the device {device.path}", error) from error
        found = os.fstat(fd)
        os.close(fd)
        if not _is_device(found, device, kind):
            raise Invalid(f"making the device {device.path}: /dev is bound from the host, where this is something else")
