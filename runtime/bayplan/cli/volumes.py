"""Verbs about volumes."""

from __future__ import annotations

import os

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import each, labels_text, listing, write
from bayplan.cli.variables import labels, pairs
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_LS = (("DRIVER", "Driver"), ("VOLUME NAME", "Name"))
_FILTERS = ("name", "driver", "label", "dangling")


def create(call: Call) -> int:
    """A name is made up where none is given, and the volume is an anonymous one then."""
    from bayplan.model import names
    from bayplan.model.node import Node
    from bayplan.model.volume import parse_volume

    name = names.resource(Node(call.arguments[0], "volume create")) if call.arguments else os.urandom(32).hex()
    spec = parse_volume(name, volume_mapping(call), place="volume create")
    state = call.state(create=True)
    from bayplan.engine import volumes

    volumes.create(state, spec, anonymous=not call.arguments)
    write(name)
    return 0


def volume_mapping(call: Call) -> dict[str, Any]:
    """The Compose volume that the options declare."""
    parts: dict[str, Any] = {
        "driver": call.text("driver"),
        "labels": labels(call.many("label"), ()),
        "driver_opts": pairs("--opt", call.many("opt")),
    }
    return {key: value for key, value in parts.items() if value}


def ls(call: Call) -> int:
    from bayplan.cli.filters import parse_filters

    filters = parse_filters(call.many("filter"), _FILTERS)
    state = call.state()
    from bayplan.engine import volumes
    from bayplan.store import records

    used = {use.volume for use in records.volume_uses(state.records)}
    documents = [
        {
            "Driver": view.spec.driver,
            "Name": view.row.name,
            "Mountpoint": view.mountpoint,
            "Scope": "local",
            "Labels": labels_text(view.spec.labels),
            "CreatedAt": moments.local(view.row.created),
            "_labels": dict(view.spec.labels),
            "_used": view.row.name in used,
        }
        for view in volumes.all_volumes(state)
    ]
    shown = [{key: each[key] for key in each if key[0] != "_"} for each in documents if _matches(each, filters)]
    return listing(call, shown, _LS, identity="Name")


def _matches(document: Mapping[str, Any], filters: Mapping[str, tuple[str, ...]]) -> bool:
    from bayplan.cli.filters import has_labels, matches_name, truth

    dangling = truth("dangling", filters.get("dangling", ()))
    if dangling is not None and dangling == document["_used"]:
        return False
    tests: Mapping[str, Callable[[str], bool]] = {
        "name": lambda text: matches_name(document["Name"], text),
        "driver": lambda text: document["Driver"] == text,
    }
    if not has_labels(document["_labels"], filters.get("label", ())):
        return False
    return all(any(tests[key](value) for value in values) for key, values in filters.items() if key in tests)


def remove(call: Call) -> int:
    state = call.state()
    from bayplan.engine import volumes

    return each(call.arguments, lambda name: volumes.remove(state, name, force=call.flag("force")))
