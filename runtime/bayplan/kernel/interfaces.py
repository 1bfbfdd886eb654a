"""What links, addresses and routes there are, and what is missing of ours (rtnetlink(7)). Changes nothing."""

from __future__ import annotations

import _socket
import struct

from bayplan.model.value import TYPE_CHECKING, NamedTuple

from . import netlink, sysctls
from .links import ADDRESS, GETLINK, INFO, INFO_KIND, IPV4, IPV6, LINK, MASTER, MTU, NAME, UP, Attachment, BridgeLink
from .netlink import Channel, Message, attributes, number, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_GETADDR, _GETROUTE = 22, 26
_FILTER, _NO_STATISTICS = 29, 8  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS
_LOCAL_ADDRESS, _ADDRESS = 2, 1  # IFA_LOCAL, IFA_ADDRESS
_DESTINATION, _OUT, _PRIORITY = 1, 4, 6  # RTA_*
_LOCAL_TABLE, _UNICAST, _BLACKHOLE, _UNREACHABLE, _PROHIBIT = 255, 1, 6, 7, 8
_DOING = "listing the host's links, addresses and routes"
_USUAL_MTU = 1500


class Link(NamedTuple):
    """kind is "bridge", "veth" or another driver's name, "" for a piece of hardware.

    number is its index; master that of the bridge that it is a port of, or 0.
    """

    number: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    addresses: frozenset[str]


class Route(NamedTuple):
    """destination is "10.0.0.0/8", "0.0.0.0/0" or "::/0" for a default route; link is a link's number, 0 for none or several."""

    destination: str
    link: int
    metric: int


def observe() -> dict[str, Link]:
    """Return all links of the network namespace by name, with their addresses ("10.89.0.1/24")."""
    with Channel(netlink.ROUTE) as channel:
        listed = channel.dump(_DOING, Message(GETLINK, 0, LINK.pack(0, 0, 0, 0, 0) + number(_FILTER, _NO_STATISTICS)))
        addresses = _addresses(channel)
    links = (_link(each, addresses) for each in listed)
    return {each.name: each for each in links}


def exists(name: str) -> bool:
    """Whether there is a link of that name; cheaper than observing all."""
    try:
        _socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def routes() -> list[Route]:
    """Return the routes of all tables but the kernel's own for local addresses."""
    found = []
    with Channel(netlink.ROUTE) as channel:
        for family in (IPV4, IPV6):
            for message in channel.dump(_DOING, Message(_GETROUTE, 0, bytes((family,)) + bytes(11))):
                length, table, kind = message.body[1], message.body[4], message.body[7]
                if table != _LOCAL_TABLE and kind in (_UNICAST, _BLACKHOLE, _UNREACHABLE, _PROHIBIT) and message.body[0] == family:
                    found.append(_route(family, length, dict(attributes(message.body, 12))))
    return found


def subnets_in_use(found: Mapping[str, Link]) -> list[str]:
    """Return what a new subnet must not overlap: addresses and routes, default routes among them, with prefix lengths."""
    return [address for link in found.values() for address in link.addresses] + [each.destination for each in routes()]


def usual_mtu(found: Mapping[str, Link]) -> int:
    """Return the MTU that suits a bridge: that of the link with the default route, 1500 at most and for want of one."""
    by_index = {each.number: each for each in found.values()}
    ways = sorted((each.metric, by_index[each.link].mtu) for each in routes() if each.destination.endswith("/0") and each.link in by_index)
    return min(ways[0][1], _USUAL_MTU) if ways else _USUAL_MTU


def bridge_drift(wanted: BridgeLink, found: Mapping[str, Link]) -> tuple[str, ...]:
    """Return noun phrases for what is not as install_bridge makes it, () if all is."""
    link = found.get(wanted.name)
    if link is None or link.kind != "bridge":
        return (f"bridge {wanted.name} missing",)
    absent = [f"address {each} missing" for each in (wanted.ipv4, wanted.ipv6) if each and each not in link.addresses]
    state = [] if link.up else [f"bridge {wanted.name} down"]
    size = [] if link.mtu == wanted.mtu else [f"mtu {link.mtu} instead of {wanted.mtu}"]
    local = sysctls.read(f"net/ipv4/conf/{wanted.name}/route_localnet") == "1"
    forwarding = sysctls.forwarding_drift(ipv6=bool(wanted.ipv6)) if wanted.forwards else ()
    return (*absent, *state, *size, *([] if local else ["route_localnet off"]), *forwarding)


def attachment_drift(wanted: Attachment, found: Mapping[str, Link]) -> tuple[str, ...]:
    """Return noun phrases for what is not as attach makes it, seen from the host: what a container does inside is its own affair."""
    link, bridge = found.get(wanted.host_name), found.get(wanted.bridge)
    if link is None:
        return (f"link {wanted.host_name} missing",)
    if bridge is None or link.master != bridge.number:
        return (f"link {wanted.host_name} not on the bridge {wanted.bridge}",)
    return () if link.up else (f"link {wanted.host_name} down",)


def _link(message: Message, addresses: Mapping[int, frozenset[str]]) -> Link:
    _, _, index, flags, _ = LINK.unpack_from(message.body)
    parts = dict(attributes(message.body, LINK.size))
    info = dict(attributes(parts.get(INFO, b"")))
    return Link(
        index,
        read_text(parts.get(NAME, b"")),
        read_text(info.get(INFO_KIND, b"")),
        bool(flags & UP),
        _number(parts.get(MTU)),
        parts.get(ADDRESS, b"").hex(":"),
        _number(parts.get(MASTER)),
        addresses.get(index, frozenset()),
    )


def _addresses(channel: Channel) -> dict[int, frozenset[str]]:
    found: dict[int, frozenset[str]] = {}
    for message in channel.dump(_DOING, Message(_GETADDR, 0, bytes(8))):
        family, length, _, _, index = struct.unpack_from("=BBBBi", message.body)
        parts = dict(attributes(message.body, 8))
        packed = parts.get(_LOCAL_ADDRESS, parts.get(_ADDRESS, b""))
        if family in (IPV4, IPV6) and packed:
            found[index] = found.get(index, frozenset()) | {f"{_socket.inet_ntop(family, packed)}/{length}"}
    return found


def _route(family: int, length: int, parts: Mapping[int, bytes]) -> Route:
    packed = parts.get(_DESTINATION, bytes(4 if family == IPV4 else 16))
    return Route(f"{_socket.inet_ntop(family, packed)}/{length}", _number(parts.get(_OUT)), _number(parts.get(_PRIORITY)))


def _number(payload: bytes | None) -> int:
    return int(struct.unpack("=I", payload)[0]) if payload else 0
