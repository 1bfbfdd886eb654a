"""A volume as it is declared: the Compose Specification's volume."""

from __future__ import annotations

from bayplan.model.environment import parse_pairs
from bayplan.model.node import Node
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_KEYS = ("name", "driver", "driver_opts", "labels", "external", "x-bayplan")
_OPTIONS = ("type", "o", "device")


class Volume(NamedTuple):
    """driver is `local`; options type, o and device name a file system that is mounted inside containers only."""

    name: str
    driver: str = "local"
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    project: str = ""


def parse_volume(name: str, document: Mapping[str, Any] | None, *, project: str = "", place: str = "") -> Volume:
    """The volume called `name` that a Compose volume's mapping declares; raises Invalid and names the place."""
    members = Node(document, place or f"volumes.{name}").members(_KEYS)
    if "driver" in members:
        members["driver"].choice("local")
    options = members["driver_opts"].members(_OPTIONS) if "driver_opts" in members else {}
    if options and "type" not in options:
        raise members["driver_opts"].wrong("type, the kind of file system, is missing")
    return Volume(
        name,
        options=tuple(sorted((key, each.line()) for key, each in options.items())),
        labels=parse_pairs(members["labels"], Scope()) if "labels" in members else (),
        project=project,
    )


def volume_document(volume: Volume) -> dict[str, Any]:
    """The shortest Compose mapping that declares `volume`; its name and project are kept beside it."""
    return {
        **({"driver_opts": dict(volume.options)} if volume.options else {}),
        **({"labels": dict(volume.labels)} if volume.labels else {}),
    }
