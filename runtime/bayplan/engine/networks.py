"""Networks: recorded when declared, made in the kernel when a container first needs them, and again after a reboot."""

from __future__ import annotations

import os

from bayplan.engine import clock, publications
from bayplan.engine.files import DEFAULT_NETWORK
from bayplan.engine.state import State
from bayplan.errors import Conflict, Invalid, NotFound
from bayplan.model import jsontext
from bayplan.model.late import late
from bayplan.model.network import Network, network_document, parse_network
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan import addresses
from bayplan.store import records
from bayplan.store.records import NetworkRow
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from typing import Any

    from bayplan.kernel import firewall, interfaces, links
    from bayplan.kernel.obstacles import Obstacle
else:
    firewall = late("bayplan.kernel.firewall")
    interfaces = late("bayplan.kernel.interfaces")
    links = late("bayplan.kernel.links")

RESERVED = ("host", "none")


class NetworkView(NamedTuple):
    row: NetworkRow
    spec: Network


def create(state: State, spec: Network) -> NetworkRow:
    """Record the network with a subnet of its own, free on this host, and make its bridge. Raises Conflict, Invalid, Kernel."""
    if spec.driver != "bridge":
        raise Invalid(f"creating network {spec.name}: there is no network driver {spec.driver!r}; use bridge")
    if spec.name in RESERVED:
        raise Conflict(f"creating network {spec.name}: the name is reserved for the mode {spec.name}")
    found = interfaces.observe()
    used, mtu = tuple(interfaces.subnets_in_use(found)), spec.mtu or interfaces.usual_mtu(found)
    with records.transaction(state.records):
        row = _new_row(state, spec, used, mtu)
        records.put_network(state.records, row)
    try:
        install(state, row)
    except BaseException:
        with records.transaction(state.records):
            records.remove_network(state.records, row)
        raise
    return row


def _new_row(state: State, spec: Network, used: tuple[str, ...], mtu: int) -> NetworkRow:
    there = records.networks(state.records)
    taken = (*used, *(subnet for row in there for subnet in (row.subnet, row.subnet6) if subnet))
    network_id = os.urandom(32).hex()
    subnet = addresses.check_subnet(spec.subnet, taken) if spec.subnet else addresses.choose_subnet(taken)
    gateway = addresses.gateway_of(subnet, spec.gateway)
    chosen6 = addresses.check_subnet(spec.subnet6, taken) if spec.subnet6 else addresses.choose_subnet6(network_id)
    subnet6 = chosen6 if spec.enable_ipv6 else ""
    gateway6 = addresses.gateway_of(subnet6, spec.gateway6) if subnet6 else ""
    bridge = addresses.bridge_name(state.id, gateway)
    document = jsontext.dumps(network_document(spec))
    return NetworkRow(
        network_id, spec.name, document, bridge, subnet, gateway, subnet6, gateway6, mtu, spec.project, clock.now()
    )


def specification(row: NetworkRow) -> Network:
    return parse_network(row.name, jsontext.loads(row.document), project=row.project)


def find(state: State, name: str) -> NetworkRow:
    """By name, or by the first digits of the id; raises NotFound."""
    row = records.network_named(state.records, name)
    found = [each for each in records.networks(state.records) if name and each.id.startswith(name)]
    if row is None and len(found) != 1:
        raise NotFound(f"looking up network {name}: there is none of this name; create it first")
    return row or found[0]


def default(state: State) -> NetworkRow:
    """The network of containers that name none, made when first needed."""
    row = records.network_named(state.records, DEFAULT_NETWORK)
    if row is None:
        try:
            return create(state, Network(DEFAULT_NETWORK))
        except Conflict:
            return find(state, DEFAULT_NETWORK)
    return row


def all_networks(state: State) -> tuple[NetworkView, ...]:
    return tuple(NetworkView(row, specification(row)) for row in records.networks(state.records))


def bridges(state: State) -> tuple[firewall.Bridge, ...]:
    return tuple(firewall_bridge(row) for row in records.networks(state.records))


def firewall_bridge(row: NetworkRow) -> firewall.Bridge:
    """What the firewall knows of the network."""
    return firewall.Bridge(row.bridge, row.subnet, row.subnet6 or None, specification(row).internal)


def install(state: State, row: NetworkRow) -> None:
    """Make what the network needs in the kernel: the rules first, since the bridge lets loopback addresses in."""
    if firewall.present(state.id):
        firewall.install(state.id, bridges(state))
    else:
        firewall.repair(state.id, firewall.Ruleset(frozenset(bridges(state)), publications.of_running(state)))
    links.install_bridge(bridge_link(row))
    clear_way(state)


def clear_way(state: State) -> None:
    """Let our traffic past other tools' firewalls where they reserve room for that; raises Unavailable, naming the chain, where not."""
    found = obstacles_to(state)
    if found:
        from bayplan.kernel import obstacles

        obstacles.clear(state.id, found)


def obstacles_to(state: State) -> tuple[Obstacle, ...]:
    """The foreign chains that drop what our tables let pass."""
    from bayplan.kernel import obstacles

    rows = records.networks(state.records)
    return obstacles.observe(state.id, [row.bridge for row in rows], ipv6=any(row.subnet6 for row in rows)) if rows else ()


def bridge_link(row: NetworkRow) -> links.BridgeLink:
    """The network's bridge as the kernel should have it."""
    ipv6 = f"{row.gateway6}/{row.subnet6.partition('/')[2]}" if row.subnet6 else ""
    forwards = not specification(row).internal
    return links.BridgeLink(row.bridge, f"{row.gateway}/{row.subnet.partition('/')[2]}", ipv6, row.mtu, forwards)


def make_sure(state: State, row: NetworkRow) -> None:
    """Install the network where the kernel does not have it, after a reboot for one, or after somebody has flushed our table."""
    if not (interfaces.exists(row.bridge) and firewall.present(state.id)):
        install(state, row)


def update(state: State, row: NetworkRow, spec: Network) -> NetworkRow:
    """Record another declaration whose addresses are the same: labels and options."""
    renewed = row._replace(document=jsontext.dumps(network_document(spec)))
    with records.transaction(state.records):
        records.update_network(state.records, renewed)
    install(state, renewed)
    return renewed


def remove(state: State, name: str) -> None:
    """Remove the network; raises NotFound, and Conflict while a container is on it."""
    row = find(state, name)
    with records.transaction(state.records):
        records.remove_network(state.records, row)
    links.remove_bridge(row.bridge)
    left = bridges(state)
    if left:
        firewall.install(state.id, left)
    else:
        from bayplan.kernel import obstacles

        firewall.remove(state.id)
        obstacles.withdraw(state.id)
    remove_tree(state.root.network(row.id), scratch=state.root.staging)


def document(state: State, name: str) -> dict[str, Any]:
    """What `network inspect` shows, in Docker's shape."""
    row = find(state, name)
    spec = specification(row)
    configs = [{"Subnet": row.subnet, "Gateway": row.gateway}]
    configs += [{"Subnet": row.subnet6, "Gateway": row.gateway6}] if row.subnet6 else []
    names = {each.id: each.name for each in records.containers(state.records)}
    return {
        "Name": row.name,
        "Id": row.id,
        "Created": row.created,
        "Scope": "local",
        "Driver": spec.driver,
        "EnableIPv6": bool(row.subnet6),
        "IPAM": {"Driver": "default", "Config": configs},
        "Internal": spec.internal,
        "Containers": {
            each.container: {
                "Name": names.get(each.container, ""),
                "MacAddress": each.mac,
                "IPv4Address": f"{each.ipv4}/{row.subnet.partition('/')[2]}",
                "IPv6Address": each.ipv6 or "",
            }
            for each in records.endpoints(state.records, network=row.id)
        },
        "Options": dict(spec.options),
        "Labels": dict(spec.labels),
    }
