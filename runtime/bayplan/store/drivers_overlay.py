"""The driver `overlay`: containers/ID/upper over the layers, with containers/ID/work for overlayfs itself."""

from __future__ import annotations

import os

from bayplan.model.value import TYPE_CHECKING
from bayplan.store import layers
from bayplan.store.drivers import Changes, Stack
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from bayplan.model.digest import Digest
    from bayplan.store.measure import Size


def prepare(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Stack:
    for name in ("upper", "work"):
        os.makedirs(f"{directory}/{name}", exist_ok=True)
        os.chmod(f"{directory}/{name}", 0o755)  # the container's root directory has upper's mode, and the caller's umask may be 077
    return Stack(layers.lowerdirs(root, diff_ids), f"{directory}/upper", f"{directory}/work")


def changes(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...]) -> Changes:
    return Changes(f"{directory}/upper")


def size(root: StateRoot, directory: str, diff_ids: tuple[Digest, ...], *, deadline: float) -> Size:
    from bayplan.store import measure

    return measure.tree(directory, deadline=deadline)
