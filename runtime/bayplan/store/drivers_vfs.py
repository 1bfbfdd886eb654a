"""The driver `vfs`: containers/ID/rootfs is a full copy (where the file system can share blocks, it does)."""

from __future__ import annotations

import os

from bayplan.model.value import TYPE_CHECKING
from bayplan.store import layers, room
from bayplan.store.copying import merge
from bayplan.store.drivers import Changes, Tree
from bayplan.store.root import StateRoot
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from bayplan.model.digest import Digest
    from bayplan.store.measure import Size


def prepare(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Tree:
    target = f"{directory}/rootfs"
    if not os.path.isdir(target):
        copy_rootfs(root, diff_ids, target)
    return Tree(target)


def copy_rootfs(root: StateRoot, diff_ids: tuple[Digest, ...], target: str) -> None:
    """Make the image's root file system as a plain directory `target`, which does not exist. Raises Full, OSError, NotFound,
    and then nothing of it is left."""
    room.check(root.path, "copying a root file system", need=sum(layers.size(root, each) for each in set(diff_ids)))
    staged = f"{target}.making"
    remove_tree(staged, scratch=root.staging)  # of a process that was killed
    os.mkdir(staged, 0o755)
    os.chmod(staged, 0o755)
    try:
        for name in reversed(layers.lowerdirs(root, diff_ids)):
            merge(f"{root.path}/{name}/", staged, scratch=root.staging)
    except BaseException:
        remove_tree(staged, scratch=root.staging)
        raise
    os.rename(staged, target)


def changes(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Changes:
    return Changes("", f"{directory}/rootfs", tuple(f"{root.path}/{name}" for name in layers.lowerdirs(root, diff_ids)))


def size(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...], *, deadline: float) -> Size:
    from bayplan.store import measure

    return measure.tree(directory, deadline=deadline)
