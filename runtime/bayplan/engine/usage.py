"""How much room everything takes, and how much of it would be free if what is not used went."""

from __future__ import annotations

import time

from bayplan.engine import containers, content, images, volumes
from bayplan.engine.containers import Record
from bayplan.engine.images import Image
from bayplan.engine.state import State
from bayplan.engine.volumes import VolumeView
from bayplan.errors import NotFound
from bayplan.model.digest import parse_digest
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import blobs, cache, drivers, layers, measure, records
from bayplan.store.cache import Step
from bayplan.store.measure import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bayplan.model.digest import Digest
    from bayplan.plan.garbage import Need

PATIENCE = 10.0  # seconds for looking at containers and volumes, whose files are the only thing that has to be walked


class Share(NamedTuple):
    """One kind: how many there are, how many of them are used, what all take, and what the unused ones alone take."""

    total: int
    active: int
    size: Size
    reclaimable: Size


class ImageUsage(NamedTuple):
    """`shared`: the bytes that other images need, too. containers: how many are made from it."""

    image: Image
    size: int
    shared: int
    containers: int


class ContainerUsage(NamedTuple):
    record: Record
    size: Size
    active: bool


class VolumeUsage(NamedTuple):
    view: VolumeView
    size: Size
    containers: int


class StepUsage(NamedTuple):
    """shared: an image has the step's layer, which therefore is the image's."""

    step: Step
    size: int
    shared: bool


class Usage(NamedTuple):
    """content: the bytes of all layers and blobs, also of those that nothing needs; used_content of those that containers need."""

    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    steps: tuple[StepUsage, ...]
    content: int
    used_content: int

    def of_images(self) -> Share:
        active = sum(each.containers > 0 for each in self.images)
        own = self.content - self.of_build_cache().size.bytes
        return Share(len(self.images), active, Size(own), Size(own - self.used_content))

    def of_build_cache(self) -> Share:
        """What of it no image has. Several steps may have made one layer."""
        alone = {each.step.layer: each.size for each in self.steps if not each.shared}
        size = Size(sum(alone.values()))
        return Share(len(self.steps), sum(each.shared for each in self.steps), size, size)

    def of_containers(self) -> Share:
        return _share([(each.size, each.active) for each in self.containers])

    def of_volumes(self) -> Share:
        return _share([(each.size, each.containers > 0) for each in self.volumes])


def _share(found: list[tuple[Size, bool]]) -> Share:
    idle = [size for size, active in found if not active]
    return Share(len(found), len(found) - len(idle), total(size for size, _ in found), total(idle))


def total(sizes: Iterable[Size]) -> Size:
    every = tuple(sizes)
    return Size(sum(size.bytes for size in every), all(size.whole for size in every))


def of_container(state: State, record: Record, *, deadline: float = float("inf")) -> Size:
    """What the container takes for itself: what it has written on top of its image (with a full copy: all), its logs included."""
    row = records.image_by_id(state.records, record.image_id)
    diff_ids = tuple(parse_digest(layer) for layer in row.layers)
    return drivers.size(state.root, state.root.container(record.id), diff_ids, deadline=deadline)


def of_volume(state: State, name: str, *, deadline: float = float("inf")) -> Size:
    return measure.tree(state.root.volume_data(name), deadline=deadline)


def observe(state: State, *, patience: float = PATIENCE) -> Usage:
    """Look at everything. What takes longer than `patience` seconds is told as far as it was seen (Size.whole)."""
    deadline = time.monotonic() + patience
    every = containers.all_records(state)
    lengths = _lengths(state)
    needs = {row.id: content.need_of_image(row) for row in records.images(state.records)}
    made = [record.image_id for record in every]
    used = {digest for image in made if image in needs for digest in _content(needs[image])}
    return Usage(
        images=_images(state, needs, lengths, made),
        containers=tuple(_container(state, record, deadline) for record in every),
        volumes=_volumes(state, deadline),
        steps=_steps(state, needs, lengths),
        content=sum(lengths.values()),
        used_content=sum(lengths.get(digest, 0) for digest in used),
    )


def _content(need: Need) -> set[tuple[str, Digest]]:
    """Layers and blobs by kind: a plain layer's blob has the same digest."""
    return {("layer", layer) for layer in need.layers} | {("blob", blob) for blob in need.blobs}


def _lengths(state: State) -> dict[tuple[str, Digest], int]:
    """The bytes of every layer (of its plain archive) and every blob in the store."""
    found: dict[tuple[str, Digest], int] = {}
    kinds: tuple[tuple[str, tuple[Digest, ...], Callable[..., int]], ...] = (
        ("layer", layers.listed(state.root), layers.size),
        ("blob", blobs.listed(state.root), blobs.size),
    )
    for kind, digests, size in kinds:
        for digest in digests:
            try:
                found[kind, digest] = size(state.root, digest)
            except NotFound:  # swept meanwhile
                continue
    return found


def _images(
    state: State, needs: dict[str, Need], lengths: dict[tuple[str, Digest], int], made: list[str]
) -> tuple[ImageUsage, ...]:
    users: dict[tuple[str, Digest], int] = {}
    for need in needs.values():
        for digest in _content(need):
            users[digest] = users.get(digest, 0) + 1
    found = []
    for image in images.all_images(state):
        own = _content(needs[image.id]) if image.id in needs else set()
        size = sum(lengths.get(digest, 0) for digest in own)
        shared = sum(lengths.get(digest, 0) for digest in own if users[digest] > 1)
        found.append(ImageUsage(image, size, shared, made.count(image.id)))
    return tuple(found)


def _steps(state: State, needs: dict[str, Need], lengths: dict[tuple[str, Digest], int]) -> tuple[StepUsage, ...]:
    shared = {layer for need in needs.values() for layer in need.layers}
    found = []
    for step in cache.steps(state.records):
        layer = parse_digest(step.layer) if step.layer else None
        found.append(StepUsage(step, lengths.get(("layer", layer), 0) if layer else 0, layer in shared))
    return tuple(found)


def _container(state: State, record: Record, deadline: float) -> ContainerUsage:
    active = containers.run_of(state, record.id).status in containers.RUNNING
    return ContainerUsage(record, of_container(state, record, deadline=deadline), active)


def _volumes(state: State, deadline: float) -> tuple[VolumeUsage, ...]:
    uses = [use.volume for use in records.volume_uses(state.records)]
    return tuple(
        VolumeUsage(view, of_volume(state, view.row.name, deadline=deadline), uses.count(view.row.name))
        for view in volumes.all_volumes(state)
    )
