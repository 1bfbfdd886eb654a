"""A volume that is empty takes what its image has at the path where it is mounted, once (Docker's rule)."""

from __future__ import annotations

import fcntl
import os

from bayplan.engine import sources
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import Kernel
from bayplan.model.image import ImageConfig
from bayplan.store import records
from bayplan.store.trees import remove_tree


def volumes(state: State, record: Record, image: ImageConfig) -> None:
    """Fill the container's empty volumes. Raises Kernel; a volume that could not be filled is as empty as it was."""
    unfilled = {mount.target for mount in record.spec.mounts if mount.nocopy or mount.subpath}
    for use in records.volume_uses(state.records, container=record.id):
        target = state.root.volume_data(use.volume)
        if use.target not in unfilled and os.path.isdir(target) and not os.listdir(target):
            _fill(state, record, image, use.target, use.volume)


def _fill(state: State, record: Record, image: ImageConfig, path: str, volume: str) -> None:
    """Copy beside the volume, then move: a container that has the volume already could turn what is half copied into links
    (CVE-2018-15664), and a copy that breaks off is not in the way of the next one. One at a time for each volume."""
    from bayplan.kernel import copyup

    directory, target = state.root.volume(volume), state.root.volume_data(volume)
    staged = f"{directory}/filling"
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_tree(staged, scratch=state.root.staging)
        os.mkdir(staged, 0o700)
        _take_attributes(staged, target)
        copyup.copy(sources.rootfs(state, record, image), path, staged)
        if not os.listdir(target):
            _move(staged, target, path)
    finally:
        os.close(lock)
        remove_tree(staged, scratch=state.root.staging)


def _move(staged: str, target: str, path: str) -> None:
    try:
        for name in os.listdir(staged):
            os.rename(f"{staged}/{name}", f"{target}/{name}")
        _take_attributes(target, staged)
    except OSError as error:
        raise Kernel(f"filling a volume from {path} of its image", error) from error


def _take_attributes(target: str, source: str) -> None:
    found = os.stat(source)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, found.st_mode & 0o7777)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
