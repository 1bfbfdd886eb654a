"""Subvolumes of btrfs, by ioctl(2) alone. Source: linux/btrfs.h; struct btrfs_ioctl_vol_args is a descriptor and a name."""

from __future__ import annotations

import fcntl
import os
import struct

_SNAP_CREATE, _SUBVOL_CREATE, _SNAP_DESTROY = 0x50009401, 0x5000940E, 0x5000940F
_ARGS = struct.Struct("=q4088s")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def create(path: str) -> None:
    """Make an empty subvolume; raises OSError, ENOTTY where this is no btrfs."""
    _command(path, _SUBVOL_CREATE, -1)


def snapshot(source: str, path: str) -> None:
    """Make `path` a subvolume that shares all with the subvolume `source` until one of them changes; raises OSError."""
    opened = os.open(source, _DIRECTORY)
    try:
        _command(path, _SNAP_CREATE, opened)
    finally:
        os.close(opened)


def destroy(directory: int, name: str) -> None:
    """Remove the subvolume `name` of the directory with all its files; raises OSError, ENOTEMPTY while another one is in it."""
    fcntl.ioctl(directory, _SNAP_DESTROY, bytearray(_ARGS.pack(-1, os.fsencode(name))))


def are_taken(directory: str) -> bool:
    """Whether a subvolume can be made, and removed, in the directory."""
    try:
        create(f"{directory}/subvolume")
    except OSError:
        return False
    opened = os.open(directory, _DIRECTORY)
    try:
        destroy(opened, "subvolume")
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def _command(path: str, request: int, source: int) -> None:
    parent, name = os.path.split(path)
    directory = os.open(parent, _DIRECTORY)
    try:
        fcntl.ioctl(directory, request, bytearray(_ARGS.pack(source, os.fsencode(name))))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(directory)
