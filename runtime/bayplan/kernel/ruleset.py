"""What our tables consist of: the rules that never change, and the elements and chains that a bridge or a port adds. Nothing here acts.

One table per family and state, `bayplan-` and the state's id. All that varies is in sets and maps, so that rules need not be touched to
publish a port, and a packet's lookup does not slow down with their number. One chain per bridge holds the translation of what a
container sends to a published port of its own network.
"""

from __future__ import annotations

import _socket
import struct

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

from . import expressions as expr
from . import nftables as nft
from .nftables import IPV4, IPV6, Chain, Element, Rule, Set

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS = {"tcp": nft.TCP, "udp": nft.UDP, "sctp": nft.SCTP}
FOREIGN = "?"  # the protocol of what somebody else has put into our maps
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}

_LOOPBACK = b"\x7f"  # 127.0.0.0/8 by its first byte
_NEIGHBOURS = (135, 136)  # neighbour solicitation and advertisement


class Bridge(NamedTuple):
    """A bridge network as the firewall sees it; subnets as "10.89.0.0/24", subnet6 None where it has no IPv6."""

    name: str
    subnet4: str
    subnet6: str | None = None
    internal: bool = False


class Publication(NamedTuple):
    """A port of this host that leads to one of a container.

    protocol is tcp, udp or sctp. host_ip "" is any address of the host, of the family that `address` has.
    """

    protocol: str
    host_ip: str
    host_port: int
    address: str
    port: int


class Ruleset(NamedTuple):
    bridges: frozenset[Bridge] = frozenset()
    publications: frozenset[Publication] = frozenset()


class Family(NamedTuple):
    """Where the network header has its addresses, and how keys with addresses are laid out."""

    number: int
    size: int
    source: int
    destination: int
    type: int


FAMILIES = {IPV4: Family(IPV4, 4, 12, 16, nft.TYPE_IPV4), IPV6: Family(IPV6, 16, 8, 24, nft.TYPE_IPV6)}


def table_of(state: str) -> str:
    return f"bayplan-{state}"


def chain_of(bridge: str) -> str:
    return f"within-{bridge}"


CHAINS = (
    Chain("before", "filter", nft.PREROUTING, -300),
    Chain("arriving", "nat", nft.PREROUTING, -100),
    Chain("leaving", "nat", nft.OUTPUT, -100),
    Chain("to-host", "filter", nft.INPUT, 0),
    Chain("forwarded", "filter", nft.FORWARD, 0),
    Chain("after", "nat", nft.POSTROUTING, 100),
)


def sets(family: Family) -> tuple[Set, ...]:
    value = (family.type << 6 | nft.TYPE_PORT, family.size + 4)
    port = nft.TYPE_PROTOCOL << 6 | nft.TYPE_PORT
    return (
        Set("bridges", nft.TYPE_NAME, 16),
        Set("internal", nft.TYPE_NAME, 16),
        Set("same", nft.TYPE_NAME << 6 | nft.TYPE_NAME, 32),
        Set("subnets", family.type, family.size, interval=True),
        Set("within", nft.TYPE_NAME, 16, nft.TYPE_VERDICT, 16),
        Set("addressed", family.type << 12 | port, family.size + 8, *value),
        Set("published", port, 8, *value),
    )


_IN, _OUT = expr.meta(expr.IN_NAME), expr.meta(expr.OUT_NAME)
_DROP, _ACCEPT, _RETURN = expr.verdict(nft.DROP), expr.verdict(nft.ACCEPT), expr.verdict(nft.RETURN)
_KNOWN = (expr.connection(expr.STATE), *expr.any_bit(expr.ESTABLISHED | expr.RELATED))
_PUBLISHED = (expr.connection(expr.STATUS), *expr.any_bit(expr.TRANSLATED))


def rules(family: Family) -> tuple[Rule, ...]:
    return (*_loopback(family), *_translation(family), *_to_host(family), *_forwarded(), *_after(family))


def _loopback(family: Family) -> tuple[Rule, ...]:
    """Keep what claims to be or go to the host's loopback off the wire's side: route_localnet would let it pass on our bridges.

    The kernel itself drops such packets of IPv6.
    """
    if family.number == IPV6:
        to_itself = (expr.payload(expr.NETWORK, 24, 16), expr.equals(bytes(15) + b"\1"), _RETURN)
        return (Rule("leaving", "::1 is relayed, it cannot be translated", to_itself),)
    source = (expr.payload(expr.NETWORK, 12, 1), expr.equals(_LOOPBACK))
    destination = (expr.payload(expr.NETWORK, 16, 1), expr.equals(_LOOPBACK))
    bridges = (_IN, expr.in_set("bridges"))
    return (
        Rule("before", "no container speaks to the host's loopback", (*bridges, *destination, _DROP)),
        Rule("before", "no container speaks as the host's loopback", (*bridges, *source, _DROP)),
        # A neighbour may address 127.0.0.1 to our MAC; translated it would no longer be recognised as a martian.
        Rule("arriving", "a port published on 127.0.0.1 is for this host", (*destination, _RETURN)),
        Rule("after", "this host's loopback to a container", (*source, _OUT, expr.in_set("bridges"), expr.masquerade())),
    )


def _translation(family: Family) -> tuple[Rule, ...]:
    words = family.size // 4
    address = expr.payload(expr.NETWORK, family.destination, family.size)
    protocol, port = expr.meta(expr.PROTOCOL, register=words), expr.payload(expr.TRANSPORT, 2, 2, register=words + 1)
    send = expr.destination_nat(family.number, port_register=words)
    addressed = (*expr.to_this_host(), address, protocol, port, expr.from_map("addressed"), send)
    key = (expr.meta(expr.PROTOCOL), expr.payload(expr.TRANSPORT, 2, 2, register=1))
    published = (*expr.to_this_host(), *key, expr.from_map("published"), send)
    return tuple(
        Rule(chain, comment, expressions)
        for chain in ("arriving", "leaving")
        for comment, expressions in (("ports of one address", addressed), ("ports of any address", published))
    )


def _to_host(family: Family) -> tuple[Rule, ...]:
    internal = (_IN, expr.in_set("internal"))
    solicited = tuple(
        Rule("to-host", "neighbour discovery", (expr.meta(expr.PROTOCOL), expr.equals(bytes((nft.ICMPV6,))), *kind, _ACCEPT))
        for number in _NEIGHBOURS
        for kind in [(expr.payload(expr.TRANSPORT, 0, 1), expr.equals(bytes((number,))))]
    )
    return (
        *(solicited if family.number == IPV6 else ()),
        Rule("to-host", "answers from internal networks", (*internal, *_KNOWN, _ACCEPT)),
        Rule("to-host", "internal networks end at their bridge", (*internal, _DROP)),
    )


def _forwarded() -> tuple[Rule, ...]:
    # With bridge-nf-call-iptables a bridge's own traffic comes by here, too.
    same = (_IN, expr.meta(expr.OUT_NAME, register=4), expr.in_set("same"))
    bridges = (_OUT, expr.in_set("bridges"))
    return (
        Rule("forwarded", "known connections", (*_KNOWN, _ACCEPT)),
        Rule("forwarded", "within a network", (*same, _ACCEPT)),
        Rule("forwarded", "out of an internal network", (_IN, expr.in_set("internal"), _DROP)),
        Rule("forwarded", "into an internal network", (_OUT, expr.in_set("internal"), _DROP)),
        Rule("forwarded", "published ports", (*bridges, *_PUBLISHED, _ACCEPT)),
        Rule("forwarded", "nothing else reaches a container", (*bridges, _DROP)),
    )


def _after(family: Family) -> tuple[Rule, ...]:
    source = expr.payload(expr.NETWORK, family.source, family.size)
    outside = (_OUT, expr.in_set("bridges", inverted=True))
    return (
        Rule("after", "to a published port of the own network", (_OUT, expr.verdict_from_map("within"))),
        Rule("after", "to the outside", (source, expr.in_set("subnets"), *outside, expr.masquerade())),
    )


def rule_of(bridge: Bridge, family: Family) -> Rule:
    """Without this translation the addressed container would answer the asking one directly, past the connection's record."""
    subnet = subnet_of(bridge, family) or ""
    address, mask = network_bytes(subnet)
    source = (expr.payload(expr.NETWORK, family.source, family.size), expr.masked(mask), expr.equals(address))
    return Rule(chain_of(bridge.name), subnet, (*source, *_PUBLISHED, expr.masquerade()))


def bridge_elements(bridge: Bridge, family: Family) -> dict[str, list[Element]]:
    """Return the elements, by set, that make `bridge` known to the table."""
    name = bridge.name.encode().ljust(16, b"\0")
    elements = {"bridges": [Element(name)], "same": [Element(name + name)], "within": [Element(name, jump=chain_of(bridge.name))]}
    subnet = subnet_of(bridge, family)
    if bridge.internal:
        elements["internal"] = [Element(name)]
    elif subnet:
        elements["subnets"] = interval(subnet)
    return elements


def interval(subnet: str) -> list[Element]:
    address, mask = network_bytes(subnet)
    first = int.from_bytes(address, "big")
    after = first + (1 << 8 * len(mask)) - int.from_bytes(mask, "big")
    end = [Element(after.to_bytes(len(mask), "big"), end=True)] if after >> 8 * len(mask) == 0 else []
    return [Element(address), *end]


def publication_element(publication: Publication) -> tuple[Family, str, Element]:
    """Return (family, map, element); raises Invalid for what no rule can express."""
    address = _packed(publication.address)
    family = FAMILIES[IPV4 if len(address) == 4 else IPV6]
    if publication.protocol not in PROTOCOLS:
        raise Invalid(f'publishing port {publication.host_port}: "{publication.protocol}" is no protocol; it is tcp, udp or sctp')
    port = struct.pack(">BxxxHxx", PROTOCOLS[publication.protocol], publication.host_port)
    data = address + struct.pack(">Hxx", publication.port)
    if publication.host_ip in ("", "0.0.0.0", "::"):
        return family, "published", Element(port, data)
    host = _packed(publication.host_ip)
    if len(host) != len(address):
        raise Invalid(f"publishing port {publication.host_port} on {publication.host_ip}: the container has no such address family")
    return family, "addressed", Element(host + port, data)


def canonical(publication: Publication) -> Publication:
    """Return it as it will be observed: wildcards as "", addresses in their usual spelling; raises Invalid."""
    family, name, element = publication_element(publication)
    return read_publications(family, name, [element]).pop()


def read_publications(family: Family, name: str, elements: Iterable[Element]) -> set[Publication]:
    """The reverse of publication_element; what no element of ours can be has the protocol FOREIGN."""
    found = set()
    for key, data, *_ in elements:
        host = key[: family.size] if name == "addressed" else b""
        protocol, host_port = struct.unpack_from(">BxxxH", key, len(host))
        (port,) = struct.unpack_from(">H", data, family.size)
        host_ip = _printed(host) if host else ""
        found.add(Publication(_PROTOCOL_NAMES.get(protocol, FOREIGN), host_ip, host_port, _printed(data[: family.size]), port))
    return found


def subnet_of(bridge: Bridge, family: Family) -> str | None:
    return bridge.subnet4 if family.number == IPV4 else bridge.subnet6


def network_bytes(subnet: str) -> tuple[bytes, bytes]:
    """Return (address, mask) of "10.89.0.0/24", the address cut to the mask; raises Invalid."""
    plain, _, length = subnet.partition("/")
    address = _packed(plain)
    bits = 8 * len(address)
    if not length.isascii() or not length.isdigit() or int(length) > bits:
        raise Invalid(f'"{subnet}" is no subnet, such as 10.89.0.0/24')
    mask = (1 << bits) - (1 << bits - int(length))
    return (int.from_bytes(address, "big") & mask).to_bytes(bits // 8, "big"), mask.to_bytes(bits // 8, "big")


def _packed(address: str) -> bytes:
    try:
        return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    except OSError as error:
        raise Invalid(f'"{address}" is no IP address') from error


def _printed(packed: bytes) -> str:
    return _socket.inet_ntop(_socket.AF_INET if len(packed) == 4 else _socket.AF_INET6, packed)
