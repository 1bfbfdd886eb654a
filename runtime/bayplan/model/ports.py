"""A service's `ports` and `expose`."""

from __future__ import annotations

from bayplan.model import names
from bayplan.model.container import Port
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")
_SHORT = (
    r"(?a)(?:(?:(?P<ip>\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?(?P<published>[0-9]+(?:-[0-9]+)?)?:)?"
    r"(?P<target>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[a-z]+))?"
)
_LONG = ("target", "published", "protocol", "host_ip", "mode", "name", "app_protocol")
_MAXIMUM = 65535


def parse_ports(node: Node, scope: Scope) -> tuple[Port, ...]:
    """Every published port once, sorted; a range is so many ports. Invalid where one host port would lead to two targets."""
    found = {port for element in node.elements() for port in _element(element, scope)}
    claimed: dict[tuple[str, str, int], int] = {}
    for port in sorted(found):
        key = (port.protocol, port.host_ip, port.published)
        if port.published and claimed.setdefault(key, port.target) != port.target:
            raise node.wrong(f"host port {port.published}/{port.protocol} is published for two ports of the container")
    return tuple(sorted(found))


def ports_document(ports: tuple[Port, ...]) -> list[dict[str, Any]]:
    """The long form of each; parse_ports reads it back."""
    return [
        {
            "target": port.target,
            **({"published": str(port.published)} if port.published else {}),
            **({"protocol": port.protocol} if port.protocol != "tcp" else {}),
            **({"host_ip": port.host_ip} if port.host_ip else {}),
        }
        for port in ports
    ]


def parse_expose(node: Node, scope: Scope) -> tuple[str, ...]:
    """Container ports as "80/tcp", sorted."""
    found: set[str] = set()
    for element in node.elements():
        number, _, protocol = element.word().partition("/")
        low, high = _range(element, number)
        if (protocol or "tcp") not in PROTOCOLS:
            raise element.expected("a port such as 80 or 53/udp")
        found.update(f"{port}/{protocol or 'tcp'}" for port in range(low, high + 1))
    return tuple(sorted(found))


def _element(node: Node, scope: Scope) -> list[Port]:
    if isinstance(node.value, dict):
        return _long(node)
    if isinstance(node.value, int) and scope.yaml11:
        raise node.wrong(f"{node.value!r} may be what YAML 1.1 made of something like 22:22; quote it")
    match = fullmatch(_SHORT, node.word())
    if not match:
        raise node.expected("a port such as 8080:80, 127.0.0.1:8080:80/udp or [::1]:8080:80")
    host_ip = names.address(Node(match["ip"].strip("[]"), node.place)) if match["ip"] else ""
    return _paired(node, match["published"] or "", match["target"], match["protocol"] or "tcp", host_ip)


def _long(node: Node) -> list[Port]:
    members = node.members(_LONG)
    if "target" not in members:
        raise node.wrong("target, the container's port, is missing")
    if "mode" in members:
        members["mode"].choice("host", "ingress")
    protocol = members["protocol"].text() if "protocol" in members else "tcp"
    host_ip = names.address(members["host_ip"]) if "host_ip" in members and members["host_ip"].value else ""
    published = members["published"].word() if "published" in members else ""
    return _paired(node, published, str(members["target"].integer(1, _MAXIMUM)), protocol, host_ip)


def _paired(node: Node, published: str, target: str, protocol: str, host_ip: str) -> list[Port]:
    if protocol not in PROTOCOLS:
        raise node.wrong(f"protocol {protocol!r} is not one of {', '.join(PROTOCOLS)}")
    low, high = _range(node, target)
    if published in ("", "0"):
        return [Port(port, 0, protocol, host_ip) for port in range(low, high + 1)]
    first, last = _range(node, published)
    if last - first != high - low:
        raise node.wrong(f"the ranges {published} and {target} differ in length; name one host port for each port")
    return [Port(low + offset, first + offset, protocol, host_ip) for offset in range(high - low + 1)]


def _range(node: Node, text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    low = Node(first, node.place).integer(1, _MAXIMUM)
    high = Node(last, node.place).integer(1, _MAXIMUM) if dash else low
    if high < low:
        raise node.wrong(f"the range {text} ends before it begins")
    return low, high
