"""A network as it is declared: the Compose Specification's network."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.environment import parse_pairs
from bayplan.model.node import Node
from bayplan.model.scope import Scope
from bayplan.model.subnet import Subnet, check_subnet, parse_address, parse_subnet, printed
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_KEYS = (
    "name", "driver", "driver_opts", "attachable", "enable_ipv4", "enable_ipv6", "external", "internal", "ipam", "labels", "x-bayplan",
)  # fmt: skip
_MTU = "com.docker.network.driver.mtu"


class Network(NamedTuple):
    """subnet and gateway "" are chosen when the network is made. driver: bridge (host and none are not declared)."""

    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    subnet6: str = ""
    gateway6: str = ""
    enable_ipv6: bool = False
    internal: bool = False
    mtu: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    project: str = ""


def parse_network(name: str, document: Mapping[str, Any] | None, *, project: str = "", place: str = "") -> Network:
    """The network called `name` that a Compose network's mapping declares; raises Invalid and names the place."""
    members = Node(document, place or f"networks.{name}").members(_KEYS)
    if "driver" in members and members["driver"].value not in ("bridge", "default"):
        raise members["driver"].expected("the driver bridge")
    if "enable_ipv4" in members and not members["enable_ipv4"].boolean():
        raise members["enable_ipv4"].wrong("networks without IPv4 are not supported")
    options = members["driver_opts"].members((_MTU,)) if "driver_opts" in members else {}
    network = Network(
        name,
        enable_ipv6="enable_ipv6" in members and members["enable_ipv6"].boolean(),
        internal="internal" in members and members["internal"].boolean(),
        mtu=options[_MTU].integer(576, 65535) if _MTU in options else 0,
        labels=parse_pairs(members["labels"], Scope()) if "labels" in members else (),
        project=project,
    )
    return _with_ipam(network, members["ipam"]) if "ipam" in members else network


def network_document(network: Network) -> dict[str, Any]:
    """The shortest Compose mapping that declares `network`; its name and project are kept beside it."""
    pools = [
        {key: value for key, value in pool.items() if value}
        for pool in (
            {"subnet": network.subnet, "gateway": network.gateway, "ip_range": network.ip_range},
            {"subnet": network.subnet6, "gateway": network.gateway6},
        )
        if pool["subnet"]
    ]
    return {
        **({"enable_ipv6": True} if network.enable_ipv6 else {}),
        **({"internal": True} if network.internal else {}),
        **({"driver_opts": {_MTU: str(network.mtu)}} if network.mtu else {}),
        **({"ipam": {"config": pools}} if pools else {}),
        **({"labels": dict(network.labels)} if network.labels else {}),
    }


def _with_ipam(network: Network, node: Node) -> Network:
    members = node.members(("driver", "config", "options"))
    if "driver" in members:
        members["driver"].choice("default")
    for element in members["config"].elements() if "config" in members else ():
        network = _with_pool(network, element)
    return network


def _with_pool(network: Network, node: Node) -> Network:
    members = node.members(("subnet", "gateway", "ip_range"))
    if "subnet" not in members:
        if members:
            raise node.wrong("subnet is missing")
        return network
    try:
        subnet = check_subnet(members["subnet"].text())
    except Invalid as error:
        raise members["subnet"].wrong(f"a subnet such as 10.5.0.0/24 was expected: {error}") from None
    gateway = _address(members["gateway"], subnet) if "gateway" in members else ""
    if network.subnet if subnet.bits == 32 else network.subnet6:
        raise node.wrong("one IPv4 and one IPv6 subnet are what a network has")
    if subnet.bits == 128:
        return network._replace(subnet6=str(subnet), gateway6=gateway, enable_ipv6=True)
    ip_range = _range(members["ip_range"], subnet) if "ip_range" in members else ""
    return network._replace(subnet=str(subnet), gateway=gateway, ip_range=ip_range)


def _address(node: Node, subnet: Subnet) -> str:
    """An address that a gateway can have in `subnet`, in its canonical text."""
    try:
        number, bits = parse_address(node.text())
    except Invalid:
        raise node.expected(f"an address in {subnet}") from None
    if not subnet.offers(number, bits):
        raise node.wrong(f"{node.value} is not usable in {subnet}")
    return printed(number, bits)


def _range(node: Node, subnet: Subnet) -> str:
    """A range inside `subnet`, in its canonical text."""
    try:
        inner = parse_subnet(node.text())
    except Invalid:
        raise node.expected(f"a range in {subnet}") from None
    if not (subnet.holds(inner.first, inner.bits) and subnet.holds(inner.last, inner.bits)):
        raise node.wrong(f"{node.value} is not usable in {subnet}")
    return str(inner)
