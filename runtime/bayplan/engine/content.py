"""The content of a state, blobs and layers: what needs it, and removing what nothing does.

Everything that is kept names what it needs, as a Need: images here, and whatever else comes to keep content gives a function of its own
to `_KEEPERS`. A container needs what its image does, which stays while a container is made from it (store/records.py). What is still
coming (a pull, a load, a build) needs no record: whoever adds content holds the content's lock, and a sweep waits for it.
"""

from __future__ import annotations

import os
import time

from bayplan.engine.state import State
from bayplan.errors import Invalid
from bayplan.model.digest import parse_digest
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan.garbage import Blob, Need, Stored, garbage
from bayplan.store import cache, indexes, layers, locks, records, sweep
from bayplan.store.records import ImageRow
from bayplan.store.sweep import Swept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 5.0  # seconds that a removal waits for those who add content: what they hinder is left to the next sweep
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def needs(state: State) -> Iterator[Need]:
    """What all that the state keeps needs of its content."""
    for keeper in _KEEPERS:
        yield from keeper(state)


def need_of_image(row: ImageRow) -> Need:
    diff_ids = tuple(map(parse_digest, row.layers))
    return Need(diff_ids, layers.chain_ids(diff_ids), tuple(map(parse_digest, (*row.blobs, row.id))))


def _images(state: State) -> Iterator[Need]:
    return map(need_of_image, records.images(state.records))


def _build_cache(state: State) -> Iterator[Need]:
    return (Need((parse_digest(step.layer),)) for step in cache.steps(state.records) if step.layer)


def _indexes(state: State) -> Iterator[Need]:
    return (Need(blobs=tuple(map(parse_digest, row.blobs))) for row in indexes.listed(state.records))


_KEEPERS: tuple[Callable[[State], Iterator[Need]], ...] = (_images, _build_cache, _indexes)


def stored(state: State) -> Stored:
    root = state.root
    return Stored(layers.listed(root), sweep.chains(root), tuple(Blob(*each) for each in sweep.blobs_used(root)))


def release(state: State, row: ImageRow) -> None:
    """The record of an image has gone: the time for which its blobs are kept begins."""
    sweep.release(state.root, (parse_digest(each) for each in (*row.blobs, row.id)))


def remove_unneeded(state: State, *, patience: float = PATIENCE, idle: float | None = None) -> Swept:
    """Remove what nothing needs, blobs only when they have been idle for `idle` seconds (`kept_idle` where it is None).

    Waits at most `patience` seconds for pulls, loads, builds and pushes, and else does nothing: the next one does it.
    """
    if not state.root.exists():
        return Swept()
    since = time.time() - (kept_idle() if idle is None else idle)
    with locks.content_within(state.root.path, patience) as held:
        if not held:
            return Swept()
        found = garbage(stored(state), needs(state), idle_since=since)
        return sweep.content(state.root, unused_layers=found.layers, unused_chains=found.chains, unused_blobs=found.blobs)


def kept_idle() -> float:
    """For how many seconds blobs that no image needs are kept, from BAYPLAN_KEEP_BLOBS: 90, 12h, 7d; 0 where it does not say."""
    text = os.environ.get("BAYPLAN_KEEP_BLOBS", "") or "0"
    number, unit = (text[:-1], text[-1]) if text[-1] in _UNITS else (text, "s")
    if not (number.isascii() and number.isdigit()):
        raise Invalid(f"reading BAYPLAN_KEEP_BLOBS: {text!r} is not a time such as 0, 12h or 7d")
    return float(int(number) * _UNITS[unit])
