"""Overlays of more layers than one page of mount(2)'s options can name: each layer is an option of its own.

Source: Documentation/filesystems/overlayfs.rst, "lowerdir+"; fsopen(2), fsconfig(2), fsmount(2).
"""

from __future__ import annotations

import errno
import os

from bayplan.errors import Invalid, Unavailable
from bayplan.kernel import linux
from bayplan.model.image import LAYERS_LIMIT
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 255  # bytes of one string that fsconfig(2) takes
_FLATTEN = "make an image of fewer layers of it: bayplan image flatten"


def mount_many(lower: tuple[str, ...], target: str, options: Iterable[tuple[str, str]] = (), *, readonly: bool = False) -> None:
    """Mount an overlay of the layers `lower`, topmost first, on `target`; all names relative to the current directory.

    Raises Invalid where they are more than any kernel stacks, Unavailable where this one does not take them one by one, OSError.
    """
    if len(lower) > LAYERS_LIMIT:
        raise Invalid(f"mounting {len(lower)} layers: the kernel stacks {LAYERS_LIMIT} at most; {_FLATTEN}")
    context = _open_context(lower)
    try:
        for name in lower:
            _append(context, name, len(lower))
        for key, value in options:
            linux.fsconfig(context, linux.FSCONFIG_SET_STRING, key, value)
        linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
        mount = linux.fsmount(context, linux.MOUNT_ATTR_RDONLY if readonly else 0)
    finally:
        os.close(context)
    _attach(mount, target)


def shortened(path: str, base: str) -> str:
    """`path` relative to `base` where it lies beneath it: state roots may have any length."""
    return path[len(base) + 1 :] if path.startswith(f"{base}/") else path


def _open_context(lower: tuple[str, ...]) -> int:
    try:
        return linux.fsopen("overlay")
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            raise _too_many(len(lower)) from error
        raise


def _append(context: int, name: str, count: int) -> None:
    if len(os.fsencode(name)) > _LONGEST:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    try:
        linux.fsconfig(context, linux.FSCONFIG_SET_STRING, "lowerdir+", name)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise _too_many(count) from error
        raise


def _too_many(count: int) -> Unavailable:
    return Unavailable(f"mounting {count} layers: this kernel takes only as many as one page can name (Linux 6.8 takes {LAYERS_LIMIT});"
                       f" {_FLATTEN}")  # fmt: skip


def _attach(mount: int, target: str) -> None:
    place = os.open(target, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        linux.move_mount(mount, place)
    finally:
        os.close(place)
        os.close(mount)
