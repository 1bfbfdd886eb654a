"""The driver `btrfs`: snapshots of subvolumes.

    btrfs/HEX                a subvolume for each chain_id: a snapshot of the one below, and the layer copied onto it
    containers/ID/rootfs     a snapshot of the image's

Copying shares the files' blocks with the layer, so that what is copied is names and attributes. A chain stays as long as an image has
it at its bottom (engine/content.py).
"""

from __future__ import annotations

import os

from bayplan.errors import Kernel
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import layers, subvolumes
from bayplan.store.copying import merge
from bayplan.store.drivers import Changes, Tree
from bayplan.store.native import syncfs
from bayplan.store.root import StateRoot
from bayplan.store.staging import claimed

if TYPE_CHECKING:
    from bayplan.model.digest import Digest
    from bayplan.store.measure import Size


def prepare(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Tree:
    target = f"{directory}/rootfs"
    if not os.path.isdir(target):
        try:
            _make(root, diff_ids, target)
        except OSError as error:
            raise Kernel("making a root file system of subvolumes", error) from error
    return Tree(target)


def _make(root: StateRoot, diff_ids: tuple[Digest, ...], target: str) -> None:
    if not diff_ids:
        subvolumes.create(target)
        os.chmod(target, 0o755)
        return
    os.makedirs(root.subvolumes, mode=0o700, exist_ok=True)
    chains = layers.chain_ids(diff_ids)
    there = next((count for count in range(len(chains), 0, -1) if os.path.lexists(root.subvolume(chains[count - 1]))), 0)
    for count in range(there, len(chains)):
        _make_chain(root, diff_ids[: count + 1], chains[count], root.subvolume(chains[count - 1]) if count else "")
    subvolumes.snapshot(root.subvolume(chains[-1]), target)


def _make_chain(root: StateRoot, diff_ids: tuple[Digest, ...], chain: Digest, below: str) -> None:
    final = root.subvolume(chain)
    with claimed(root, f"subvolume-{chain.hex}") as directory:
        if os.path.lexists(final):
            return
        tree = f"{directory}/tree"
        if below and not layers.hides_all(root, diff_ids[-1]):
            subvolumes.snapshot(below, tree)
        else:
            subvolumes.create(tree)
            os.chmod(tree, 0o755)
        for name in reversed(layers.lowerdirs_of_last(root, diff_ids)):
            merge(f"{root.path}/{name}/", tree, scratch=tree)  # nothing is renamed out of a subvolume
        _to_disk(tree)
        os.rename(tree, final)


def _to_disk(path: str) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(opened)
    finally:
        os.close(opened)


def changes(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Changes:
    base = (root.subvolume(layers.chain_id(diff_ids)),) if diff_ids else ()
    return Changes("", f"{directory}/rootfs", base)


def size(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...], *, deadline: float) -> Size:
    """Of the root file system what has changed since its image's subvolume got its name: a snapshot keeps the times of all inodes."""
    from bayplan.store import measure

    beside = measure.tree(directory, deadline=deadline)
    try:
        since = os.lstat(root.subvolume(layers.chain_id(diff_ids))).st_ctime_ns if diff_ids else 0
    except FileNotFoundError:  # of a container that was never started
        return beside
    own = measure.tree(f"{directory}/rootfs", deadline=deadline, changed_since=since)
    return measure.Size(beside.bytes + own.bytes, beside.whole and own.whole)
