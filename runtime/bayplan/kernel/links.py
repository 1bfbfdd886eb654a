"""Bridges, and the veth pairs that attach containers to them (rtnetlink(7), veth(4)).

Every function works on the network namespace that the caller is in; `netns` is a descriptor of the container's.
"""

from __future__ import annotations

import _socket
import errno
import struct

from bayplan.errors import Invalid, Kernel
from bayplan.model.value import TYPE_CHECKING, NamedTuple

from . import netlink, sysctls
from .netlink import CREATE, EXCLUSIVE, REPLACE, Channel, Message, attribute, nested, number, text

if TYPE_CHECKING:
    from collections.abc import Sequence

NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR, NEWROUTE = 16, 17, 18, 20, 21, 24
ADDRESS, NAME, MTU, MASTER, INFO, _PER_FAMILY, NETNS_FD = 1, 3, 4, 10, 18, 26, 28  # IFLA_*
INFO_KIND, _INFO_DATA, _INFO_PORT_KIND, _INFO_PORT_DATA = 1, 2, 4, 5
_PEER = 1  # VETH_INFO_PEER
_PORT_HAIRPIN = 4  # IFLA_BRPORT_MODE
_GENERATE, _NO_ADDRESS = 8, 1  # IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
UP = 1
IPV4, IPV6 = 2, 10
_ADDRESS, _LOCAL, _BROADCAST, _ADDRESS_FLAGS, _NO_DAD = 1, 2, 4, 8, 2  # IFA_*
_GATEWAY, _OUT, _METRIC = 5, 4, 6  # RTA_*
_MAIN, _BOOT, _UNIVERSE, _UNICAST = 254, 3, 0, 1
LINK = struct.Struct("=BxHiII")
_ADDRESS_HEADER = struct.Struct("=BBBBi")
_ROUTE_HEADER = struct.Struct("=BBBBBBBBI")


class BridgeLink(NamedTuple):
    """A bridge of ours; ipv4 and ipv6 are the host's address on it with a prefix length ("10.89.0.1/24"), ipv6 "" for none.

    forwards: packets pass between it and other links, so the host has to forward; not so for an internal network.
    """

    name: str
    ipv4: str
    ipv6: str = ""
    mtu: int = 1500
    forwards: bool = True


class Attachment(NamedTuple):
    """A container's interface and the host's end of it.

    ipv4 and ipv6 are addresses with a prefix length ("10.89.0.5/24"); an ipv6 of "" leaves IPv6 off on that interface. A
    gateway of "" adds no default route. mac is six bytes as "02:42:0a:59:00:05".
    """

    bridge: str
    host_name: str
    container_name: str
    mac: str
    ipv4: str
    ipv6: str = ""
    gateway: str = ""
    gateway6: str = ""
    mtu: int = 1500


def install_bridge(bridge: BridgeLink) -> None:
    """Make the bridge as declared, or what is missing of it; raises Kernel, Conflict never: one of that name is ours.

    route_localnet lets the host's 127.0.0.1 be translated to a container; the firewall's rules then keep 127.0.0.0/8 out of reach of
    containers, so they are installed first.
    """
    doing = f"making the bridge {bridge.name}"
    with Channel(netlink.ROUTE) as channel:
        _create_bridge(channel, bridge, doing=doing)
        index = _index(bridge.name)
        sysctls.write(f"net/ipv4/conf/{bridge.name}/route_localnet", "1")
        if bridge.ipv6:
            _enable_ipv6(bridge.name)
        else:
            sysctls.write_ipv6(f"net/ipv6/conf/{bridge.name}/disable_ipv6", "1")
        if bridge.forwards:
            sysctls.enable_forwarding(ipv6=bool(bridge.ipv6))
        addresses = [_new_address(index, address) for address in (bridge.ipv4, bridge.ipv6) if address]
        channel.request(doing, *addresses, _change(index, number(MTU, bridge.mtu), flags=UP))


def _create_bridge(channel: Channel, bridge: BridgeLink, *, doing: str) -> None:
    # With an address of its own the bridge does not take that of the port that comes first and change it when that leaves.
    mac = attribute(ADDRESS, mac_of(address_bytes(bridge.ipv4)))
    body = LINK.pack(0, 0, 0, 0, 0) + text(NAME, bridge.name) + mac + nested(INFO, text(INFO_KIND, "bridge"))
    try:
        channel.request(doing, Message(NEWLINK, CREATE | EXCLUSIVE, body))
    except Kernel as error:
        if error.errno != errno.EEXIST:
            raise


def remove_bridge(name: str) -> None:
    """Delete the bridge if it is there; its ports stay, unattached."""
    detach(name)


def attach(endpoints: Sequence[Attachment], *, netns: int) -> None:
    """Give the container its interfaces, addresses and default routes, and bring its loopback up.

    A link with the host's name of an endpoint is a left-over of an earlier container with this address (a namespace dies
    later than its last process) and is replaced. Raises Kernel, after which none of the endpoints is left.
    """
    with _container_channel(netns) as inner, Channel(netlink.ROUTE) as outer:
        try:
            for endpoint in endpoints:
                _attach_one(outer, inner, endpoint, netns=netns)
        except BaseException:
            for endpoint in endpoints:
                detach(endpoint.host_name)
            raise


def raise_loopback(*, netns: int) -> None:
    """Bring up 127.0.0.1, for a container that has no other network."""
    _container_channel(netns).close()


def detach(host_name: str) -> None:
    """Delete the host's end of a pair, and with it the container's, at once. One that is not there is no error."""
    with Channel(netlink.ROUTE) as channel:
        try:
            channel.request(
                f"removing the link {host_name}", Message(DELLINK, 0, LINK.pack(0, 0, 0, 0, 0) + text(NAME, host_name))
            )
        except Kernel as error:
            if error.errno != errno.ENODEV:
                raise


def _container_channel(netns: int) -> Channel:
    """Prepare a container's namespace and return a channel into it: loopback up, no IPv6 but where it is asked for."""

    def prepare() -> Channel:
        sysctls.write_ipv6("net/ipv6/conf/default/disable_ipv6", "1")
        sysctls.write_ipv6("net/ipv6/conf/default/accept_ra", "0")
        return Channel(netlink.ROUTE)

    channel = netlink.inside(netns, prepare)
    channel.request("bringing the container's loopback up", _change(1, flags=UP))
    return channel


def _attach_one(outer: Channel, inner: Channel, endpoint: Attachment, *, netns: int) -> None:
    doing = f"attaching {endpoint.container_name} to the bridge {endpoint.bridge}"
    wanted = (_new_pair(endpoint, netns), _as_port(endpoint.host_name), _by_name(endpoint.host_name, flags=UP))
    try:
        outer.request(doing, *wanted)
    except Kernel as error:
        if error.errno != errno.EEXIST:
            raise
        detach(endpoint.host_name)
        outer.request(doing, *wanted)
    _configure(inner, endpoint, netns=netns, doing=doing)


def _as_port(host_name: str) -> Message:
    # What a container sends to its own published port comes back to the bridge port that it left by: hairpin mode.
    hairpin = nested(_INFO_PORT_DATA, attribute(_PORT_HAIRPIN, b"\1"))
    port = nested(INFO, text(_INFO_PORT_KIND, "bridge"), hairpin)
    # The host has no business with an address on the port itself.
    silent = nested(_PER_FAMILY, nested(IPV6, attribute(_GENERATE, bytes((_NO_ADDRESS,)))))
    return _by_name(host_name, port, *([silent] if sysctls.has_ipv6() else []))


def _new_pair(endpoint: Attachment, netns: int) -> Message:
    mtu = number(MTU, endpoint.mtu)
    peer = LINK.pack(0, 0, 0, 0, 0) + text(NAME, endpoint.container_name) + number(NETNS_FD, netns) + mtu
    peer += attribute(ADDRESS, _mac_bytes(endpoint.mac))
    info = nested(INFO, text(INFO_KIND, "veth"), nested(_INFO_DATA, attribute(_PEER, peer)))
    own = text(NAME, endpoint.host_name) + number(MASTER, _index(endpoint.bridge)) + mtu
    return Message(NEWLINK, CREATE | EXCLUSIVE, LINK.pack(0, 0, 0, 0, 0) + own + info)


def _configure(inner: Channel, endpoint: Attachment, *, netns: int, doing: str) -> None:
    index = _index_seen_by(inner, endpoint.container_name, doing=doing)
    wanted = [_new_address(index, endpoint.ipv4), _change(index, flags=UP)]
    if endpoint.ipv6:
        netlink.inside(netns, lambda: _enable_ipv6(endpoint.container_name))
        wanted.append(_new_address(index, endpoint.ipv6))
    wanted += [_default_route(index, gateway) for gateway in (endpoint.gateway, endpoint.gateway6) if gateway]
    inner.request(doing, *wanted)


def _enable_ipv6(name: str) -> None:
    """Turn IPv6 on, believing no router's advertisement, and without the second or two that detecting duplicates would take."""
    for setting, value in (("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")):
        sysctls.write_ipv6(f"net/ipv6/conf/{name}/{setting}", value)


def _index_seen_by(channel: Channel, name: str, *, doing: str) -> int:
    answer = channel.query(doing, _by_name(name)._replace(kind=GETLINK))[0]
    return int(LINK.unpack_from(answer.body)[2])


def _index(name: str) -> int:
    try:
        return _socket.if_nametoindex(name)
    except OSError as error:
        raise Kernel(f"looking up the link {name}", error) from error


def _change(index: int, *changes: bytes, flags: int = 0) -> Message:
    return Message(NEWLINK, 0, LINK.pack(0, 0, index, flags, flags) + b"".join(changes))


def _by_name(name: str, *changes: bytes, flags: int = 0) -> Message:
    return _change(0, text(NAME, name), *changes, flags=flags)


def _new_address(index: int, address: str) -> Message:
    packed, length = _split(address)
    body = (
        _ADDRESS_HEADER.pack(_family(packed), length, 0, 0, index)
        + attribute(_LOCAL, packed)
        + attribute(_ADDRESS, packed)
    )
    if len(packed) == 4:
        host_bits = (1 << (32 - length)) - 1
        body += attribute(_BROADCAST, struct.pack(">I", struct.unpack(">I", packed)[0] | host_bits))
    else:
        # Duplicate address detection would leave the address unusable for a second; the lease makes sure that it is unique.
        body += number(_ADDRESS_FLAGS, _NO_DAD)
    return Message(NEWADDR, CREATE | REPLACE, body)


def _default_route(index: int, gateway: str) -> Message:
    packed = address_bytes(gateway)
    header = _ROUTE_HEADER.pack(_family(packed), 0, 0, 0, _MAIN, _BOOT, _UNIVERSE, _UNICAST, 0)
    # Each network gives a default route, of which the metric lets the longest attached win; when it goes, the next one takes over.
    return Message(NEWROUTE, CREATE | EXCLUSIVE, header + attribute(_GATEWAY, packed) + number(_OUT, index) + number(_METRIC, index))


def _split(address: str) -> tuple[bytes, int]:
    plain, _, length = address.partition("/")
    packed = address_bytes(plain)
    if not length.isascii() or not length.isdigit() or int(length) > 8 * len(packed):
        raise Invalid(f'address "{address}": a prefix length is missing, as in 10.89.0.5/24')
    return packed, int(length)


def address_bytes(address: str) -> bytes:
    """The four or sixteen bytes of an address, a prefix length ignored; raises Invalid."""
    plain = address.partition("/")[0]
    try:
        return _socket.inet_pton(IPV6 if ":" in plain else IPV4, plain)
    except OSError as error:
        raise Invalid(f'"{plain}" is no IP address') from error


def mac_of(address: bytes) -> bytes:
    """The MAC that goes with an IPv4 address: whoever takes the address over has the same, so that no neighbour's cache is stale."""
    return b"\x02\x42" + address[:4]


def _mac_bytes(mac: str) -> bytes:
    try:
        packed = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        packed = b""
    if len(packed) != 6 or packed[0] & 1:
        raise Invalid(f'"{mac}" is no MAC address of a single interface, such as 02:42:0a:59:00:05')
    return packed


def _family(packed: bytes) -> int:
    return IPV4 if len(packed) == 4 else IPV6
