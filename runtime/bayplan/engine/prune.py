"""Prune: what is not used goes, where the user says which kinds."""

from __future__ import annotations

from bayplan.engine import containers as container_engine
from bayplan.engine import networks as network_engine
from bayplan.engine import stop
from bayplan.engine import volumes as volume_engine
from bayplan.engine.files import DEFAULT_NETWORK
from bayplan.engine.state import State
from bayplan.errors import Conflict
from bayplan.model.reference import parse_reference
from bayplan.model.value import NamedTuple
from bayplan.store import records, sweep

Pairs = tuple[tuple[str, str], ...]


class Pruned(NamedTuple):
    """Names of what went, and the bytes of the images among them."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    bytes: int = 0


def prune(
    state: State,
    *,
    containers: bool = False,
    images: bool = False,
    all_images: bool = False,
    networks: bool = False,
    volumes: bool = False,
    labels: Pairs = (),
) -> Pruned:
    """Remove stopped containers, unused networks, images without a name (all unused ones with `all_images`), anonymous volumes.

    `labels` restricts it to what carries them all ("" as a value: whatever value).
    """
    gone_containers = _containers(state, labels) if containers else ()
    gone_networks = _networks(state, labels) if networks else ()
    gone_volumes = _volumes(state, labels) if volumes else ()
    gone_images, size = _images(state, every=all_images) if images or all_images else ((), 0)
    return Pruned(gone_containers, gone_images, gone_networks, gone_volumes, size)


def _carries(found: Pairs, wanted: Pairs) -> bool:
    there = dict(found)
    return all(name in there and value in ("", there[name]) for name, value in wanted)


def _containers(state: State, labels: Pairs) -> tuple[str, ...]:
    gone = []
    for record in container_engine.all_records(state):
        idle = container_engine.run_of(state, record.id).status in ("created", "exited", "dead")
        if idle and _carries(record.spec.labels, labels):
            try:
                stop.remove(state, record)
            except Conflict:
                continue  # somebody starts it just now
            gone.append(record.id)
    return tuple(gone)


def _networks(state: State, labels: Pairs) -> tuple[str, ...]:
    used = {lease.network for lease in records.endpoints(state.records)}
    gone = []
    for view in network_engine.all_networks(state):
        if view.row.id not in used and view.row.name != DEFAULT_NETWORK and _carries(view.spec.labels, labels):
            network_engine.remove(state, view.row.name)
            gone.append(view.row.name)
    return tuple(gone)


def _volumes(state: State, labels: Pairs) -> tuple[str, ...]:
    """Only what nobody named: a named volume is never removed implicitly."""
    used = {use.volume for use in records.volume_uses(state.records)}
    gone = [
        view.row.name
        for view in volume_engine.all_volumes(state)
        if view.row.anonymous and view.row.name not in used and _carries(view.spec.labels, labels)
    ]
    for name in gone:
        volume_engine.remove(state, name)
    return tuple(gone)


def _images(state: State, *, every: bool) -> tuple[tuple[str, ...], int]:
    used = {row.image for row in records.containers(state.records)}
    names = records.image_names(state.records)
    unused = [row for row in records.images(state.records) if row.id not in used and (every or row.id not in names)]
    lines: list[str] = []
    for row in unused:
        lines += [f"untagged: {parse_reference(name).familiar}" for name in names.get(row.id, ())]
        lines.append(f"deleted: {row.id}")
        with records.transaction(state.records):
            records.remove_image(state.records, row.id)
    sweep.images(state.root, lambda: records.images(state.records))
    return tuple(lines), sum(row.size for row in unused)
