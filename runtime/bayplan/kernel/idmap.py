"""Mappings of user and group ids, as user namespaces and as mounts that show their files through one (mount_setattr(2)).

A mapping reaches the kernel only as a user namespace, and a user namespace needs a process to be born in: a clone that does
nothing but wait until its mapping is written and its namespace opened. The descriptor keeps the namespace after that.
"""

from __future__ import annotations

import errno
import os

from bayplan.errors import Invalid, Kernel, Unavailable
from bayplan.kernel import linux
from bayplan.model.runtime import IdMapping
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

_MOST = 340  # lines of a map: user_namespaces(7)
_IDS = (1 << 32) - 1  # the last number is nobody's: -1
_SIGKILL = 9


def open_mapping(uid_mappings: tuple[IdMapping, ...], gid_mappings: tuple[IdMapping, ...]) -> int:
    """A descriptor of a new user namespace with these mappings, close-on-exec; nothing else of it remains.

    To be called where /proc is of this process's own pid namespace: not in a container that is being built. Raises Invalid for
    a mapping that is none, Kernel where the kernel refuses one.
    """
    uids, gids = map_lines(uid_mappings), map_lines(gid_mappings)
    reader, writer = os.pipe()
    try:
        pid = _clone(reader, writer)
        try:
            _write_map(pid, "uid_map", uids)
            _write_map(pid, "gid_map", gids)
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.kill(pid, _SIGKILL)  # its end of file would wait for whoever has inherited the pipe meanwhile
            os.waitpid(pid, 0)
    except OSError as error:
        raise Kernel("making a user namespace for a mapping of ids (user.max_user_namespaces bounds their number)", error) from error
    finally:
        os.close(reader)
        os.close(writer)


def map_lines(mappings: tuple[IdMapping, ...]) -> bytes:
    """What uid_map and gid_map are written: user_namespaces(7). Invalid for none, too many, sizes of nothing, overlapping ranges."""
    if not mappings:
        raise Invalid("mapping ids: a mapping of users and one of groups are needed, and one of them is empty")
    if len(mappings) > _MOST:
        raise Invalid(f"mapping ids: {len(mappings)} ranges, of which the kernel takes {_MOST}")
    for mapping in mappings:
        if mapping.size < 1 or min(mapping.container, mapping.host) < 0 or max(mapping.container, mapping.host) + mapping.size > _IDS:
            raise Invalid(f"mapping ids: {_spell(mapping)} is not a range of ids from 0 to {_IDS - 1}")
    for side in ("container", "host"):
        _verify_apart(mappings, side)
    return b"".join(b"%d %d %d\n" % mapping for mapping in mappings)


def _verify_apart(mappings: tuple[IdMapping, ...], side: str) -> None:
    ordered = sorted(mappings, key=lambda mapping: int(getattr(mapping, side)))
    for one, following in zip(ordered, ordered[1:]):
        if getattr(one, side) + one.size > getattr(following, side):
            raise Invalid(f"mapping ids: {_spell(one)} and {_spell(following)} have {side} ids in common")


def _spell(mapping: IdMapping) -> str:
    return f"{mapping.container}:{mapping.host}:{mapping.size}"


def _clone(reader: int, writer: int) -> int:
    pid = linux.clone(linux.CLONE_NEWUSER)
    if pid == 0:
        _wait_and_exit(reader, writer)
    return pid


def _wait_and_exit(reader: int, writer: int) -> NoReturn:
    """Until it is killed, or its parent has ended."""
    try:
        os.close(writer)
        os.read(reader, 1)
    finally:
        os._exit(0)


def _write_map(pid: int, name: str, lines: bytes) -> None:
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, lines)  # the kernel takes one write only
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{name}: {lines.decode().strip()}") from error
    finally:
        os.close(fd)


def idmapped(source: int | str, userns: int, *, recursive: bool, map_all: bool = True) -> int:
    """A detached mount of the directory or file `source` (a path, or a descriptor; O_PATH will do) that shows ids through `userns`.

    To be attached with `linux.move_mount`, or given to an overlay as a layer (Linux 5.19) by its /proc/self/fd; close-on-exec.
    With `recursive` the mounts beneath come too, mapped likewise unless `map_all` is false. Raises Unavailable before Linux 5.12 and
    for a file system that cannot be mapped, OSError for a path that is absent.
    """
    flags = linux.OPEN_TREE_CLONE | (linux.AT_RECURSIVE if recursive else 0)
    path, directory = (source, -100) if isinstance(source, str) else ("", source)
    try:
        mount = linux.open_tree(path, flags if path else flags | linux.AT_EMPTY_PATH, directory)
    except OSError as error:
        raise _refusal(error, source) from error
    try:
        linux.mount_setattr(mount, set_flags=linux.MOUNT_ATTR_IDMAP, recursive=map_all, userns=userns)
    except OSError as error:
        os.close(mount)
        raise _refusal(error, source) from error
    return mount


def _refusal(error: OSError, source: int | str) -> Exception:
    if error.errno == errno.ENOSYS:
        return Unavailable("mounting with mapped ids needs Linux 5.12, which this kernel is not")
    if error.filename != "mount_setattr":
        return error
    name = source if isinstance(source, str) else os.readlink(f"/proc/self/fd/{source}")
    if error.errno == errno.EINVAL:
        able = "ext4, xfs and btrfs can, and a tmpfs since Linux 6.3"
        return Unavailable(f"mounting {name} with mapped ids: its file system cannot do that on this kernel ({able})")
    if error.errno == errno.EPERM:
        return Unavailable(f"mounting {name} with mapped ids: a mount there has mapped ids already, or is another user namespace's")
    return Kernel(f"mounting {name} with mapped ids", error)
