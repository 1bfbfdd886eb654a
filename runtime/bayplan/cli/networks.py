"""Verbs about networks."""

from __future__ import annotations

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import each, labels_text, listing, short, write
from bayplan.cli.variables import labels, pairs
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_LS = (("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope"))
_FILTERS = ("name", "id", "driver", "label", "dangling")


def create(call: Call) -> int:
    """What is declared is Compose's network: the options are put in its words and read as it is."""
    from bayplan.model import names
    from bayplan.model.network import parse_network
    from bayplan.model.node import Node

    name = names.resource(Node(call.arguments[0], "network create"))
    spec = parse_network(name, network_mapping(call), place="network create")
    state = call.state(create=True)
    from bayplan.engine import networks

    write(networks.create(state, spec).id)
    return 0


def network_mapping(call: Call) -> dict[str, Any]:
    """The Compose network that the options declare; raises Invalid."""
    pools: dict[bool, dict[str, str]] = {}
    for option, key in (("subnet", "subnet"), ("gateway", "gateway"), ("ip-range", "ip_range")):
        for value in call.many(option):
            pool = pools.setdefault(":" in value, {})
            if key in pool:
                raise Invalid(f"--{option} {value}: one for IPv4 and one for IPv6 is what there can be")
            pool[key] = value
    mapping: dict[str, Any] = {"driver": call.text("driver")} if call.given("driver") else {}
    if pools:
        mapping["ipam"] = {"config": [pools[is_ipv6] for is_ipv6 in sorted(pools)]}
    if call.flag("ipv6") or True in pools:
        mapping["enable_ipv6"] = True
    if call.flag("internal"):
        mapping["internal"] = True
    parts = {"labels": labels(call.many("label"), ()), "driver_opts": pairs("--opt", call.many("opt"))}
    return {**mapping, **{key: value for key, value in parts.items() if value}}


def ls(call: Call) -> int:
    from bayplan.cli.filters import parse_filters

    filters = parse_filters(call.many("filter"), _FILTERS)
    state = call.state()
    from bayplan.engine import networks
    from bayplan.store import records

    used = {endpoint.network for endpoint in records.endpoints(state.records)}
    documents = [
        {
            "ID": view.row.id if call.flag("no-trunc") else short(view.row.id),
            "Name": view.row.name,
            "Driver": view.spec.driver,
            "Scope": "local",
            "Internal": str(view.spec.internal).lower(),
            "IPv6": str(view.spec.enable_ipv6).lower(),
            "Labels": labels_text(view.spec.labels),
            "CreatedAt": moments.local(view.row.created),
            "_id": view.row.id,
            "_labels": dict(view.spec.labels),
            "_used": view.row.id in used,
        }
        for view in networks.all_networks(state)
    ]
    shown = [{key: each[key] for key in each if key[0] != "_"} for each in documents if _matches(each, filters)]
    return listing(call, shown, _LS)


def _matches(document: Mapping[str, Any], filters: Mapping[str, tuple[str, ...]]) -> bool:
    from bayplan.cli.filters import has_labels, matches_name, truth

    dangling = truth("dangling", filters.get("dangling", ()))
    if dangling is not None and dangling == document["_used"]:
        return False
    tests: Mapping[str, Callable[[str], bool]] = {
        "name": lambda text: matches_name(document["Name"], text),
        "id": document["_id"].startswith,
        "driver": lambda text: document["Driver"] == text,
    }
    if not has_labels(document["_labels"], filters.get("label", ())):
        return False
    return all(any(tests[key](value) for value in values) for key, values in filters.items() if key in tests)


def remove(call: Call) -> int:
    state = call.state()
    from bayplan.engine import networks

    return each(call.arguments, lambda name: networks.remove(state, name))


def connect(call: Call) -> int:
    from bayplan.model.endpoints import parse_networks
    from bayplan.model.node import Node
    from bayplan.model.scope import Scope

    name, container = call.arguments
    fields: dict[str, Any] = {"aliases": list(call.many("alias"))} if call.given("alias") else {}
    fields.update({key: call.text(option) for option, key in (("ip", "ipv4_address"), ("ip6", "ipv6_address")) if call.given(option)})
    state = call.state()
    from bayplan.engine import adjust, containers, networks

    network = networks.find(state, name)
    endpoint = parse_networks(Node({network.name: fields}, "connect"), Scope(), ())[0]
    adjust.connect_now(state, containers.find(state, container), endpoint)
    return 0


def disconnect(call: Call) -> int:
    state = call.state()
    from bayplan.engine import adjust, containers, networks

    network = networks.find(state, call.arguments[0])
    adjust.disconnect_now(state, containers.find(state, call.arguments[1]), network.name)
    return 0
