"""Storage drivers: how a container's root file system is made of its image's layers.

    overlay   overlayfs shows the layers beneath a directory of the container's own (drivers_overlay.py)
    vfs       a full copy for each container, where the state's file system takes no overlay (drivers_vfs.py)
    btrfs     a snapshot of a subvolume that has the image (drivers_btrfs.py)

A state has one, recorded in its file `driver` when it is first needed: the one that is asked for, or else overlay where it works,
btrfs on such a file system, vfs anywhere. A driver is a module of three functions:

    prepare(root, directory, diff_ids)           make the root file system in the container's `directory`, unless it is there already
    changes(root, directory, diff_ids)           where what the container has changed is to be seen
    size(root, directory, diff_ids, deadline)    how much room the container takes

Removing the container's directory (trees.py) removes it; what a kill leaves lies there or in the staging directory.
"""

from __future__ import annotations

import errno
import os

from bayplan.errors import Conflict, Invalid, Kernel, Unavailable
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from typing import Protocol, TypeAlias

    from bayplan.model.digest import Digest
    from bayplan.store.measure import Size

OVERLAY, VFS, BTRFS = NAMES = ("overlay", "vfs", "btrfs")
_ALSO = {"copy": VFS}  # as states before there was a choice have it
_OPTIONS = "lowerdir=lower,upperdir=upper,workdir=work"
_NOT_HERE = (errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.ELOOP)


class Stack(NamedTuple):
    """To be mounted: overlay's lowerdirs, topmost first, relative to the state root; its upperdir and workdir."""

    lower: tuple[str, ...]
    upper: str
    work: str


class Tree(NamedTuple):
    """A directory that is it."""

    path: str


class Changes(NamedTuple):
    """Where a container's changes are: in the tree `upper`, with overlay's whiteouts, or, where that is "", in what `tree` has
    otherwise than the trees `base`, topmost first and with overlay's whiteouts, together."""

    upper: str
    tree: str = ""
    base: tuple[str, ...] = ()


if TYPE_CHECKING:
    Rootfs: TypeAlias = "Stack | Tree"

    class Driver(Protocol):
        def prepare(self, root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Rootfs: ...
        def changes(self, root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Changes: ...
        def size(self, root: StateRoot, directory: str, diff_ids: tuple[Digest, ...], *, deadline: float) -> Size: ...


def prepare(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Rootfs:
    """Make the root file system of a container that has this directory, of an image with these layers, lowest first; what is there
    already stays. Raises NotFound for a layer that is not there, Kernel, OSError; nothing half made passes for whole."""
    return _module(chosen(root)).prepare(root, directory, diff_ids)


def changes(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Changes:
    """Where to see what the container has changed of its image."""
    return _module(recorded(root)).changes(root, directory, diff_ids)


def size(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...], *, deadline: float = float("inf")) -> Size:
    """The room that the container takes for itself: what of its root file system it does not share, its logs and files."""
    return _module(recorded(root)).size(root, directory, diff_ids, deadline=deadline)


def _module(name: str) -> Driver:
    """Where none is recorded, no container was ever started: its directory is all there is, as it is with overlay."""
    if name == VFS:
        from bayplan.store import drivers_vfs

        return drivers_vfs
    if name == BTRFS:
        from bayplan.store import drivers_btrfs

        return drivers_btrfs
    from bayplan.store import drivers_overlay

    return drivers_overlay


def recorded(root: StateRoot) -> str:
    """The state's driver, "" where none is recorded yet."""
    try:
        with open(root.driver, encoding="utf-8") as file:
            name = file.read(64).strip()
    except FileNotFoundError:
        return ""
    return _ALSO.get(name, name)


def chosen(root: StateRoot) -> str:
    """The state's driver; one that has none gets it now: BAYPLAN_STORAGE_DRIVER, or what works best here.

    Raises Conflict where the state has another than is asked for, Invalid, Unavailable for one that does not work here, and Kernel
    where it cannot be tried (not root, say).
    """
    wanted = os.environ.get("BAYPLAN_STORAGE_DRIVER", "")
    wanted = _ALSO.get(wanted, wanted)
    there = recorded(root)
    if there and wanted in ("", there):
        return there
    if wanted not in ("", *NAMES):
        raise Invalid(f"choosing the storage driver: {wanted!r} is none of {', '.join(NAMES)}")
    if there:
        raise Conflict(f"choosing the storage driver {wanted}: {root.path} has {there}, and its containers with it; use another --root")
    return _choose(root, wanted)


def _choose(root: StateRoot, wanted: str) -> str:
    """Try what is wanted, or one after the other, and record what works."""
    from bayplan.store.staging import claimed

    with claimed(root, "driver") as directory:
        there = recorded(root)  # by who was here before us
        if there and wanted in ("", there):
            return there
        name = next((each for each in ((wanted,) if wanted else (OVERLAY, BTRFS, VFS)) if _works(each, directory)), "")
        if not name:
            raise Unavailable(f"choosing the storage driver {wanted}: the file system of {root.path} does not take it; vfs works anywhere")
        with open(f"{directory}/driver", "w", encoding="utf-8") as file:
            file.write(f"{name}\n")
        os.rename(f"{directory}/driver", root.driver)
    return name


def _works(name: str, directory: str) -> bool:
    if name == OVERLAY:
        return _takes_overlay(directory)
    if name == BTRFS:
        from bayplan.store import subvolumes

        return subvolumes.are_taken(directory)
    return True


def _takes_overlay(directory: str) -> bool:
    from bayplan.store import native

    for each in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{directory}/{each}")
    error = native.try_overlay(directory, _OPTIONS)
    if error not in (0, *_NOT_HERE):
        raise Kernel("trying whether the state's file system takes an overlay", OSError(error, os.strerror(error)))
    return not error
