"""Prune: what is not used goes, where the user says which kinds, and which of them."""

from __future__ import annotations

from bayplan.engine import containers as container_engine
from bayplan.engine import content, images, stop, usage
from bayplan.engine import networks as network_engine
from bayplan.engine import volumes as volume_engine
from bayplan.engine.files import DEFAULT_NETWORK
from bayplan.engine.state import State
from bayplan.errors import Conflict, NotFound
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import cache, records
from bayplan.store.sweep import Swept

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bayplan.store.records import ImageRow

Pairs = tuple[tuple[str, str], ...]


class Which(NamedTuple):
    """The things that a prune is restricted to: they carry all `labels` and none of `without` ("" as a value: whatever value), and were
    made when `before` says so of the time (RFC 3339, or "" where an image does not tell)."""

    labels: Pairs = ()
    without: Pairs = ()
    before: Callable[[str], bool] | None = None

    def takes(self, labels: Pairs, created: str) -> bool:
        there = dict(labels)
        return (
            all(_carries(there, pair) for pair in self.labels)
            and not any(_carries(there, pair) for pair in self.without)
            and (self.before is None or self.before(created))
        )


ALL = Which()


class Pruned(NamedTuple):
    """Names of what went (of the build cache: keys), and how many bytes it had: what containers had written, volumes' data, layers and
    blobs."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    build_cache: tuple[str, ...] = ()
    bytes: int = 0


def prune(
    state: State,
    *,
    containers: bool = False,
    images: bool = False,
    all_images: bool = False,
    networks: bool = False,
    volumes: bool = False,
    all_volumes: bool = False,
    build_cache: bool = False,
    all_cache: bool = False,
    which: Which = ALL,
) -> Pruned:
    """Remove stopped containers, unused networks, images without a name (all unused ones with `all_images`), anonymous volumes
    (all unused ones with `all_volumes`), of the build cache what no image has (everything with `all_cache`)."""
    gone_containers, written = _containers(state, which) if containers else ((), 0)
    gone_networks = _networks(state, which) if networks else ()
    gone_volumes, data = _volumes(state, which, every=all_volumes) if volumes or all_volumes else ((), 0)
    gone_images = _images(state, which, every=all_images) if images or all_images else ()
    gone_steps = _build_cache(state, which, every=all_cache) if build_cache or all_cache else ()
    swept = Swept()
    if images or all_images or build_cache or all_cache:  # who asks for all images wants the room, and no blobs kept for later
        swept = content.remove_unneeded(state, idle=0.0 if all_images and which == ALL else None)
    return Pruned(gone_containers, gone_images, gone_networks, gone_volumes, gone_steps, written + data + swept.bytes)


def _carries(found: dict[str, str], pair: tuple[str, str]) -> bool:
    name, value = pair
    return name in found and value in ("", found[name])


def _containers(state: State, which: Which) -> tuple[tuple[str, ...], int]:
    gone, size = [], 0
    for record in container_engine.all_records(state):
        idle = container_engine.run_of(state, record.id).status in ("created", "exited", "dead")
        if idle and which.takes(record.spec.labels, record.created):
            written = usage.of_container(state, record).bytes
            try:
                stop.remove(state, record)
            except Conflict:
                continue  # somebody starts it just now
            gone.append(record.id)
            size += written
    return tuple(gone), size


def _networks(state: State, which: Which) -> tuple[str, ...]:
    used = {lease.network for lease in records.endpoints(state.records)}
    gone = []
    for view in network_engine.all_networks(state):
        if view.row.id not in used and view.row.name != DEFAULT_NETWORK and which.takes(view.spec.labels, view.row.created):
            try:
                network_engine.remove(state, view.row.name)
            except (Conflict, NotFound):
                continue  # somebody joins it just now, or has removed it
            gone.append(view.row.name)
    return tuple(gone)


def _volumes(state: State, which: Which, *, every: bool) -> tuple[tuple[str, ...], int]:
    """Only what nobody named, but where the user asks for all: a named volume is never removed implicitly."""
    used = {use.volume for use in records.volume_uses(state.records)}
    gone, size = [], 0
    for view in volume_engine.all_volumes(state):
        if (every or view.row.anonymous) and view.row.name not in used and which.takes(view.spec.labels, view.row.created):
            data = usage.of_volume(state, view.row.name).bytes
            try:
                volume_engine.remove(state, view.row.name)
            except (Conflict, NotFound):
                continue
            gone.append(view.row.name)
            size += data
    return tuple(gone), size


def unused_images(state: State, which: Which = ALL, *, every: bool = False) -> tuple[ImageRow, ...]:
    """The images that a prune would remove: those that no container uses and that have no name, or with `every` whatever name."""
    used = {row.image for row in records.containers(state.records)}
    names = records.image_names(state.records)
    unused = [row for row in records.images(state.records) if row.id not in used and (every or row.id not in names)]
    return tuple(row for row in unused if which.takes(_labels(state, row), row.created))


def _images(state: State, which: Which, *, every: bool) -> tuple[str, ...]:
    names = records.image_names(state.records)
    lines: list[str] = []
    for row in unused_images(state, which, every=every):
        if _forget(state, row):
            lines += [f"untagged: {parse_reference(name).familiar}" for name in names.get(row.id, ())]
            lines.append(f"deleted: {row.id}")
    return tuple(lines)


def unused_steps(state: State, which: Which = ALL, *, every: bool = False, without: Collection[str] = ()) -> tuple[str, ...]:
    """The keys of the steps that a prune would remove from the build cache when the images `without` are gone. How old a step is, its last
    use says. Steps carry no labels."""
    used = {layer for row in records.images(state.records) if row.id not in without for layer in row.layers}
    steps = [step for step in cache.steps(state.records) if every or step.layer not in used]
    return tuple(step.key for step in steps if which.takes((), step.used))


def _build_cache(state: State, which: Which, *, every: bool) -> tuple[str, ...]:
    gone = unused_steps(state, which, every=every)
    with records.transaction(state.records):
        cache.remove(state.records, gone)
    return gone


def _labels(state: State, row: ImageRow) -> Pairs:
    try:
        return images.config(state, row.id).labels
    except NotFound:  # its config's blob is gone; it carries no label that anybody could ask for
        return ()


def _forget(state: State, row: ImageRow) -> bool:
    try:
        with records.transaction(state.records):
            records.remove_image(state.records, row.id)
    except Conflict:
        return False  # somebody makes a container of it just now
    content.release(state, row)
    return True
