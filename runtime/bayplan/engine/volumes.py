"""Volumes: directories with a name, made when first wanted, removed only when somebody says so."""

from __future__ import annotations

import os

from bayplan.engine import clock
from bayplan.engine.state import State
from bayplan.errors import Conflict, Invalid, NotFound
from bayplan.model import jsontext
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.model.volume import Volume, parse_volume, volume_document
from bayplan.plan.bundle import Source
from bayplan.store import records
from bayplan.store.records import VolumeRow
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from typing import Any


class VolumeView(NamedTuple):
    row: VolumeRow
    spec: Volume
    mountpoint: str


def create(state: State, spec: Volume, *, anonymous: bool = False) -> VolumeRow:
    """Make the volume, or bring the labels of one that is there up to date. Raises Conflict where driver or options differ:
    a volume is never made anew behind its content's back."""
    if spec.driver != "local":
        raise Invalid(f"creating volume {spec.name}: there is no volume driver {spec.driver!r}; use local, with driver_opts")
    there = records.volume_named(state.records, spec.name)
    if there and (specification(there).driver, specification(there).options) != (spec.driver, spec.options):
        raise Conflict(f"creating volume {spec.name}: it exists with another driver or options; remove it first, if its data may go")
    _make_directory(state, spec.name)
    row = VolumeRow(spec.name, jsontext.dumps(volume_document(spec)), spec.project, anonymous, there.created if there else clock.now())
    with records.transaction(state.records):
        records.put_volume(state.records, row)
    return row


def _make_directory(state: State, name: str) -> None:
    """The same whatever the caller's umask; content that is there keeps its owner and mode."""
    data = state.root.volume_data(name)
    if not os.path.isdir(data):
        os.makedirs(data, exist_ok=True)  # another start may make it at the same time
        os.chmod(data, 0o755)
        os.chmod(state.root.volume(name), 0o700)


def specification(row: VolumeRow) -> Volume:
    return parse_volume(row.name, jsontext.loads(row.document), project=row.project)


def find(state: State, name: str) -> VolumeRow:
    row = records.volume_named(state.records, name)
    if row is None:
        raise NotFound(f"looking up volume {name}: there is none of this name")
    return row


def all_volumes(state: State) -> tuple[VolumeView, ...]:
    return tuple(VolumeView(row, specification(row), state.root.volume_data(row.name)) for row in records.volumes(state.records))


def remove(state: State, name: str, *, force: bool = False) -> None:
    """Remove the volume with its data; raises Conflict while a container has it, NotFound where there is none, unless forced."""
    if records.volume_named(state.records, name) is None:
        if force:
            return
        raise NotFound(f"removing volume {name}: there is none of this name")
    aside = f"{state.root.staging}/volume-{os.urandom(8).hex()}"
    with records.transaction(state.records):  # its data are out of reach before its name is free again
        records.remove_volume(state.records, name)
        if os.path.isdir(state.root.volume(name)):
            os.rename(state.root.volume(name), aside)
    remove_tree(aside, scratch=state.root.staging)


def source(state: State, row: VolumeRow) -> Source:
    """What a container mounts: the volume's directory, or the file system that its options name."""
    options = dict(specification(row).options)
    kind, device, flags = options.get("type", ""), options.get("device", ""), options.get("o", "")
    if not options:
        return Source(state.root.volume_data(row.name))
    words = tuple(word for word in flags.split(",") if word)
    if "bind" in words or kind in ("none", "bind"):
        return Source(device)
    return Source(device, kind, words)


def document(state: State, name: str) -> dict[str, Any]:
    """What `volume inspect` shows, in Docker's shape."""
    row = find(state, name)
    spec = specification(row)
    return {
        "CreatedAt": row.created,
        "Driver": spec.driver,
        "Labels": dict(spec.labels),
        "Mountpoint": state.root.volume_data(name),
        "Name": name,
        "Options": dict(spec.options),
        "Scope": "local",
    }
