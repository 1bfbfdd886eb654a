"""One entry of a configuration's `mounts`, put into a root file system by descriptor."""

from __future__ import annotations

import errno
import os

from bayplan.errors import Invalid, Kernel, NotFound, Unavailable
from bayplan.kernel import linux, paths, targets, tree
from bayplan.kernel.mountoptions import OPTIONS as OPTIONS
from bayplan.kernel.mountoptions import Options, adjust, parse_options
from bayplan.model.runtime import Linux, Mount

_PRIVATE = linux.MS_PRIVATE | linux.MS_REC
_PAGE = 4096  # what mount(2) reads of a file system's options, a null character included
_SUPERBLOCK = (
    (linux.MS_SYNCHRONOUS, "sync"),
    (linux.MS_MANDLOCK, "mand"),
    (linux.MS_DIRSYNC, "dirsync"),
    (linux.MS_I_VERSION, "iversion"),
    (linux.MS_LAZYTIME, "lazytime"),
)


def is_bind(mount: Mount) -> bool:
    return mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options


def open_source(mount: Mount, container: Linux | None = None) -> int:
    """A descriptor of a bind mount's source on the host: a detached clone of it, or, before Linux 5.2, the file itself.

    To be taken in the host's mount namespace: what is bound is what is there now, still sharing mounts where its propagation says so,
    and mapped where it is idmapped (to the mapping of `container` where the mount has none of its own). Close-on-exec.
    Raises NotFound for a source that is absent, Invalid for a mapping without ids, Unavailable for what this kernel cannot do.
    """
    options = parse_options(mount.options)
    try:
        if options.flags & linux.MS_REMOUNT:
            return _open_source(mount)
        if options.idmap or mount.uid_mappings or mount.gid_mappings:
            return _idmapped(mount, options, container)
        if _clones():
            return _clone(mount, recursive=bool(options.flags & linux.MS_REC))
        if any(flags & linux.MS_SHARED for flags in options.propagation):
            raise Unavailable(f"mounting {mount.destination}: shared propagation needs Linux 5.2")
        return _open_source(mount)
    except FileNotFoundError as error:
        raise NotFound(f"mounting {mount.destination}: source {mount.source} does not exist on the host") from error
    except OSError as error:
        raise Kernel(f"opening {mount.source} to mount it on {mount.destination}", error) from error


def _open_source(mount: Mount) -> int:
    """In this process's mount namespace; links stop at `mount.beneath` where it is given (CVE-2017-1002101)."""
    if not mount.beneath:
        return os.open(mount.source, linux.O_PATH | os.O_CLOEXEC)
    assert mount.source.startswith(f"{mount.beneath}/"), f"{mount.source} is not beneath {mount.beneath}"
    root = paths.open_root(mount.beneath)
    try:
        return paths.open_in_root(root, mount.source[len(mount.beneath) :])
    finally:
        os.close(root)


def _clones() -> bool:
    """Whether this kernel has open_tree(2)."""
    try:
        linux.open_tree("", linux.AT_EMPTY_PATH, -1)
    except OSError as error:
        return error.errno != errno.ENOSYS
    raise AssertionError("-1 is no descriptor")


def _clone(mount: Mount, *, recursive: bool) -> int:
    found = _open_source(mount)
    try:
        flags = linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH | (linux.AT_RECURSIVE if recursive else 0)
        return linux.open_tree("", flags, found)
    finally:
        os.close(found)


def _idmapped(mount: Mount, options: Options, container: Linux | None) -> int:
    from bayplan.kernel import idmap

    found = _open_source(mount)
    userns = -1
    try:
        userns = _open_mapping(mount, options, container)
        return idmap.idmapped(found, userns, recursive=bool(options.flags & linux.MS_REC), map_all=options.idmap == "ridmap")
    finally:
        os.close(found)
        if userns >= 0:
            os.close(userns)


def _open_mapping(mount: Mount, options: Options, container: Linux | None) -> int:
    from bayplan.kernel import idmap

    if mount.uid_mappings or mount.gid_mappings:
        return idmap.open_mapping(mount.uid_mappings, mount.gid_mappings)
    for namespace in container.namespaces if container else ():
        if namespace.type == "user" and namespace.path:
            return os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    if not container or not container.uid_mappings:
        needed = "uidMappings and gidMappings, of the mount or of the container's user namespace"
        raise Invalid(f"mounting {mount.destination}: {options.idmap} needs {needed}")
    return idmap.open_mapping(container.uid_mappings, container.gid_mappings)


def apply(root: int, mount: Mount, source: int | None, *, propagation: int = _PRIVATE) -> int:
    """Mount it beneath the directory descriptor `root`; `source` as `open_source` gave it, for a bind.

    `propagation` is for a mount that says nothing of it. A missing target is made inside `root`. Every link in it stays inside.
    Kernel or Invalid otherwise. Returns -1, or, of a read-only tmpfs and /dev, a descriptor of what is mounted: the caller makes it
    read-only when everything beneath has its place.
    """
    options = parse_options(mount.options)
    if not options.propagation and not options.flags & linux.MS_REMOUNT and (source is not None or propagation != _PRIVATE):
        options = options._replace(propagation=(propagation,))  # a new file system's mount is private already
    try:
        if options.flags & linux.MS_REMOUNT:
            return _remount(root, mount, options)
        if source is not None:
            return _bind(root, mount, options, source)
        return _fresh(root, mount, options)
    except OSError as error:
        data = f" with the options {options.data}" if options.data else ""
        raise Kernel(f"mounting {mount.source or mount.type} on {mount.destination}{data}", error) from error


def _fresh(root: int, mount: Mount, options: Options) -> int:
    _verify_fresh(mount, options)
    covers = targets.exists(root, mount)
    target = targets.open_target(root, mount, None, directory=True)
    late = options.flags & linux.MS_RDONLY and (mount.type == "tmpfs" or targets.parts(mount.destination) == ["dev"])
    try:
        data = _tmpfs_data(target, options.data) if mount.type == "tmpfs" and covers else options.data
        flags = options.flags & ~linux.MS_RDONLY if late else options.flags
        linux.mount(mount.source or mount.type, f"/proc/self/fd/{target}", mount.type, flags, data)
        if not (late or options.copy_up or options.propagation or options.recursive or options.recursive_cleared):
            return -1
        top = targets.open_top(root, target)
        if options.copy_up:
            _copy_up(target, top)
    finally:
        os.close(target)
    adjust(top, options._replace(flags=0, cleared=0))
    if late:
        return top
    os.close(top)
    return -1


def _verify_fresh(mount: Mount, options: Options) -> None:
    if options.idmap or mount.uid_mappings or mount.gid_mappings:
        raise Invalid(f"mounting {mount.destination}: only a bind can have mapped ids, not {mount.type}")
    if options.copy_up and mount.type != "tmpfs":
        raise Invalid(f"mounting {mount.destination}: tmpcopyup is a tmpfs's, not for {mount.type}")
    if len(os.fsencode(options.data)) >= _PAGE - len(",mode=7777"):
        raise Invalid(f"mounting {mount.destination}: its options have {len(options.data)} characters, of which the kernel reads {_PAGE}")


def _tmpfs_data(target: int, data: str) -> str:
    # without mode= a tmpfs would be 1777: the directory that it covers says better
    if any(option.startswith("mode=") for option in data.split(",")):
        return data
    return f"{data},mode={os.fstat(target).st_mode & 0o7777:o}".lstrip(",")


def _copy_up(target: int, top: int) -> None:
    covered, fresh = (os.open(f"/proc/self/fd/{each}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for each in (target, top))
    try:
        tree.copy_directory(covered, fresh)
    except RecursionError as error:
        raise OSError(errno.ENAMETOOLONG, "its directories lie too deep in each other to be copied up") from error


def _bind(root: int, mount: Mount, options: Options, source: int) -> int:
    _verify_bind(mount, options)
    target = targets.open_target(root, mount, source, directory=targets.is_directory(source))
    try:
        if _clones():
            linux.move_mount(source, target)
            top = os.dup(source)
        else:
            top = _bind_by_path(root, mount, options, source, target)
    finally:
        os.close(target)
    try:
        adjust(top, options)
    finally:
        os.close(top)
    return -1


def _verify_bind(mount: Mount, options: Options) -> None:
    given = [name for flag, name in _SUPERBLOCK if options.flags & flag]
    given += options.data.split(",") if options.data else []
    given += ["tmpcopyup"] if options.copy_up else []
    if given:
        raise Invalid(f"mounting {mount.destination}: {', '.join(given)} is not for a bind: it would be the whole file system's")


def _bind_by_path(root: int, mount: Mount, options: Options, source: int, target: int) -> int:
    """Before Linux 5.2 a mount of another mount namespace cannot be bound: the source is opened again in this one, and compared."""
    here = _open_source(mount)
    try:
        expected, found = os.fstat(source), os.fstat(here)
        if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino):
            raise OSError(errno.ESTALE, "the source changed while it was mounted", mount.source)
        recursive = options.flags & linux.MS_REC
        linux.mount(f"/proc/self/fd/{here}", f"/proc/self/fd/{target}", "", linux.MS_BIND | recursive)
    finally:
        os.close(here)
    return targets.open_top(root, target)


def bind_on_itself(root: int, target: int) -> int:
    """Make what is at `target`, an O_PATH descriptor beneath `root`, a mount of its own; a descriptor of its root."""
    if _clones():
        top = linux.open_tree("", linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE | linux.AT_EMPTY_PATH, target)
        linux.move_mount(top, target)
        return top
    link = f"/proc/self/fd/{target}"
    linux.mount(link, link, "", linux.MS_BIND | linux.MS_REC)
    return targets.open_top(root, target)


def _remount(root: int, mount: Mount, options: Options) -> int:
    """Change what is mounted there: a bind's flags alone, or the whole file system's."""
    top = targets.open_mounted(root, mount)
    try:
        if is_bind(mount):
            _verify_bind(mount, options)
            adjust(top, options)
            return -1
        _verify_fresh(mount, options)
        linux.mount(mount.source or mount.type, f"/proc/self/fd/{top}", mount.type, options.flags, options.data)
        adjust(top, options._replace(flags=0, cleared=0))
    finally:
        os.close(top)
    return -1
