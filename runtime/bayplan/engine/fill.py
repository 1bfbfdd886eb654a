"""A volume that is empty takes what its image has at the path where it is mounted, once (Docker's rule)."""

from __future__ import annotations

import os

from bayplan.engine import sources
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.model.image import ImageConfig
from bayplan.store import records


def volumes(state: State, record: Record, image: ImageConfig) -> None:
    """Fill the container's empty volumes. Raises Kernel; a volume that was filled in part is emptied again."""
    unfilled = {mount.target for mount in record.spec.mounts if mount.nocopy or mount.subpath}
    for use in records.volume_uses(state.records, container=record.id):
        target = state.root.volume_data(use.volume)
        if use.target not in unfilled and os.path.isdir(target) and not os.listdir(target):
            _fill(state, record, image, use.target, target)


def _fill(state: State, record: Record, image: ImageConfig, path: str, target: str) -> None:
    from bayplan.kernel import copyup

    copyup.copy(sources.rootfs(state, record, image), path, target)
