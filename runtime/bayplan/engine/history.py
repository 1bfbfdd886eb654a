"""How an image came to be, as its config tells it."""

from __future__ import annotations

from bayplan.engine import images
from bayplan.engine.state import State
from bayplan.errors import NotFound
from bayplan.model.image import HistoryEntry
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import layers

if TYPE_CHECKING:
    from bayplan.model.digest import Digest
    from bayplan.store.records import ImageRow


class Step(NamedTuple):
    """id is the image's for the last step, "" for those before; size is that of the layer's plain archive, 0 for a step that made none."""

    id: str
    created: str
    created_by: str
    size: int
    comment: str


def history(state: State, row: ImageRow) -> tuple[Step, ...]:
    """The newest step first. Layers of which the config says nothing come last. Raises NotFound."""
    config = images.config(state, row.id)
    diff_ids = list(config.diff_ids)
    silent = max(0, len(diff_ids) - sum(not entry.empty_layer for entry in config.history))
    steps: list[Step] = []
    for entry in (*[HistoryEntry()] * silent, *config.history):
        size = 0 if entry.empty_layer or not diff_ids else _size(state, diff_ids.pop(0))
        steps.append(Step("", entry.created, entry.created_by, size, entry.comment))
    if not steps:
        return ()
    return (steps[-1]._replace(id=row.id), *steps[-2::-1])


def _size(state: State, diff_id: Digest) -> int:
    try:
        return layers.size(state.root, diff_id)
    except NotFound:
        return 0
