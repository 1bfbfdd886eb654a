"""A container with user ids of its own (user_namespaces(7)): its first process is made inside, its root file system is brought there.

    the caller ── fork ──► the one between: cgroup, namespaces to join, as the host's root; then the user namespace, as its root
       ▲                      └─ clone with CLONE_PARENT ──► the first process: its other namespaces belong to the user namespace
       └── it is the caller's child all the same

What the first process may not reach as nobody's root on the host (directories of root's alone) comes as detached mounts.
"""

from __future__ import annotations

import _socket
import os
import stat

from bayplan.errors import Invalid, Unavailable
from bayplan.kernel import idmap, linux, namespaces, wire
from bayplan.kernel.cgroups import Cgroup, join
from bayplan.kernel.rootfs import Overlay, Rootfs, Step, Tree, overlay_data
from bayplan.model.runtime import IdMapping, Linux
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def open_own(wanted: Linux, joined: dict[int, int], opened: list[int]) -> int:
    """A descriptor of the container's user namespace, made or to be joined, added to `opened`; -1 where it has none of its own.

    Invalid where it is to be made and `uidMappings` or `gidMappings` are missing.
    """
    if linux.CLONE_NEWUSER in joined:
        return joined.pop(linux.CLONE_NEWUSER)
    if not namespaces.makes(wanted.namespaces, "user"):
        return -1
    if not wanted.uid_mappings or not wanted.gid_mappings:
        raise Invalid("making a user namespace: linux.uidMappings and linux.gidMappings say whose ids its are, and one is missing")
    opened.append(idmap.open_mapping(wanted.uid_mappings, wanted.gid_mappings))
    return opened[-1]


def read_mapping(pid: int) -> tuple[IdMapping, ...]:
    """The user ids of the namespace that process `pid` is in."""
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        return tuple(IdMapping(*(int(word) for word in line.split())) for line in file)


def _root(mappings: tuple[IdMapping, ...]) -> int:
    """Who its root is on the host; -1 where it has none."""
    return next((each.host for each in mappings if each.container == 0), -1)


class Place(NamedTuple):
    """Where the first process begins: its cgroup, what it joins (by CLONE_NEW flag), and what only the host's root can do for it."""

    cgroup: Cgroup | None
    joined: dict[int, int]
    prepare: Callable[[], None]


def fork(flags: int, userns: int, place: Place, theirs: _socket.socket) -> int:
    """Clone a child with namespace `flags` into `userns`: 0 in it, its pid here; -1 where that failed, which `theirs` has been told."""
    reader, writer = os.pipe()
    between = linux.clone(0)
    if between == 0:
        _go_between(flags, userns, place, theirs, writer)
        return 0
    os.close(writer)
    told = os.read(reader, 16)
    os.close(reader)
    os.waitpid(between, 0)
    return int(told or -1)


def _go_between(flags: int, userns: int, place: Place, theirs: _socket.socket, writer: int) -> None:
    """Returns in the first process only."""
    try:
        if place.cgroup:
            join(place.cgroup)
        place.prepare()
        with Step("joining namespaces"):
            for flag, fd in place.joined.items():  # the pid namespace takes effect for the clone
                if flag != linux.CLONE_NEWNS:
                    linux.setns(fd, flag)
        with Step("making the container's first process in its user namespace"):
            namespaces.join({linux.CLONE_NEWUSER: userns})
            pid = linux.clone(flags | linux.CLONE_PARENT)
        if pid:
            os.write(writer, b"%d" % pid)
            os._exit(0)
    except BaseException as error:
        wire.send_error(theirs, error)
        os._exit(127)


def give_streams(stdio: tuple[int, int, int] | None, mappings: tuple[IdMapping, ...]) -> None:
    """Pipes become its root's, who can then give them to the user that the process becomes (process.give_stdio)."""
    owner = _root(mappings)
    for fd in stdio or ():
        if owner >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, owner, -1)


def bring(rootfs: Rootfs, userns: int, wanted: Linux) -> Tree:
    """`rootfs` as a detached mount, which a mount namespace of another user namespace can attach. With layers of ours, or where it says
    so, its files have the ids that the container's have inside (Linux 5.19). Unavailable on kernels before 5.2."""
    if isinstance(rootfs, Tree):
        return rootfs
    if isinstance(rootfs, Overlay):
        return Tree(_bring_overlay(rootfs, userns, (_root(wanted.uid_mappings), _root(wanted.gid_mappings))), rootfs.nosuid)
    with Step(f"opening the root file system {rootfs.path}"):
        if rootfs.idmapped:
            return Tree(idmap.idmapped(rootfs.path, userns, recursive=False), rootfs.nosuid)
        try:
            return Tree(linux.open_tree(rootfs.path, linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE), rootfs.nosuid)
        except OSError as error:
            if error.errno == 38:
                raise Unavailable("a user namespace of the container's own needs Linux 5.2, which this kernel is not") from error
            raise


def _bring_overlay(rootfs: Overlay, userns: int, root: tuple[int, int]) -> int:
    """Mount it in a mount namespace that ends with the process that has it; what is mounted there lives on in the descriptor."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    pid = linux.clone(linux.CLONE_NEWNS)
    if pid == 0:
        _stage(rootfs, userns, root, theirs)
    theirs.close()
    message, fds = wire.receive(ours)
    ours.close()
    os.waitpid(pid, 0)
    if not fds:
        raise wire.decode_error(message)
    return fds[0]


def _stage(rootfs: Overlay, userns: int, root: tuple[int, int], theirs: _socket.socket) -> NoReturn:
    try:
        with Step(f"mounting {len(rootfs.lower)} layers of the root file system with the container's ids"):
            wire.send(theirs, wire.READY, _mount_mapped(rootfs, userns, root))
    except BaseException as error:
        wire.send_error(theirs, error)
    finally:
        os._exit(0)


def _mount_mapped(rootfs: Overlay, userns: int, root: tuple[int, int]) -> int:
    """The layers are attached to a file system of our own under their numbers, and the directory of `upper` and `work` beside them.

    What overlayfs makes for itself, it makes as whoever has mounted it: its root inside, with the capabilities of the host's.
    """
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    place, upper = os.path.split(rootfs.upper)
    other, work = os.path.split(rootfs.work)
    assert place == other, "one mount has both, as overlayfs wants it"
    layers = [idmap.idmapped(os.path.join(rootfs.base, name), userns, recursive=False) for name in rootfs.lower]
    own = idmap.idmapped(place, userns, recursive=False)
    linux.mount("tmpfs", place, "tmpfs", 0, "mode=700")
    os.chdir(place)
    for name, mount in (("own", own), *((str(number), mount) for number, mount in enumerate(layers))):
        os.mkdir(name)
        target = os.open(name, linux.O_PATH | os.O_CLOEXEC)
        linux.move_mount(mount, target)
        os.close(target)
    os.mkdir("merged")
    linux.prctl(linux.PR_SET_SECUREBITS, linux.SECBIT_NO_SETUID_FIXUP)
    linux.set_identity(*root, ())
    mapped = Overlay(place, tuple(str(number) for number in range(len(layers))), f"own/{upper}", f"own/{work}")
    linux.mount("overlay", "merged", "overlay", 0, overlay_data(mapped) + ",metacopy=off")
    return linux.open_tree("merged", linux.OPEN_TREE_CLONE)
