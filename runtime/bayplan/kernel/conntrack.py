"""Connection tracking's memory of UDP flows (nf_conntrack_netlink).

A flow's translation is decided by its first packet and remembered: without forgetting it, a client that keeps sending would go on
reaching the old container after its port was led to another one. TCP ends such connections by itself.
"""

from __future__ import annotations

import _socket
import errno
import struct

from bayplan.errors import Kernel
from bayplan.model.value import TYPE_CHECKING

from . import netlink
from .netlink import ACK, Channel, Message, attribute, attributes
from .nftables import UDP
from .ruleset import Publication

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GET, _DELETE = (1 << 8) + 1, (1 << 8) + 2
_ORIGINAL, _ID = 1, 12  # CTA_TUPLE_ORIG, CTA_ID
_PROTOCOL_PART, _NUMBER, _DESTINATION_PORT = 2, 1, 3
_NESTED = 0x8000


def forget(publications: Iterable[Publication]) -> None:
    """Delete the flows to the host's ports of the UDP ones among `publications`, whatever they lead to.

    A kernel without this interface tracks nothing that could be deleted: that is no error.
    """
    wanted = [each for each in publications if each.protocol == "udp"]
    if not wanted:
        return
    ports = {each.host_port for each in wanted}
    families = {_socket.AF_INET6 if ":" in each.address else _socket.AF_INET for each in wanted}
    doing = "forgetting the old flows of published ports"
    with Channel(netlink.NETFILTER) as channel:
        for family in families:
            try:
                for flow in _flows(channel, family, ports, doing=doing):
                    _delete(channel, flow, doing=doing)
            except Kernel as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise


def _flows(channel: Channel, family: int, ports: set[int], *, doing: str) -> Iterator[Message]:
    for found in channel.dump(doing, Message(_GET, 0, struct.pack(">BBH", family, 0, 0))):
        parts = dict(attributes(found.body, 4))
        protocol = dict(attributes(dict(attributes(parts.get(_ORIGINAL, b""))).get(_PROTOCOL_PART, b"")))
        if protocol.get(_NUMBER, b"\0")[0] != UDP or len(protocol.get(_DESTINATION_PORT, b"")) != 2:
            continue
        if struct.unpack(">H", protocol[_DESTINATION_PORT])[0] in ports:
            which = attribute(_ORIGINAL | _NESTED, parts[_ORIGINAL]) + attribute(_ID, parts[_ID])
            yield Message(_DELETE, ACK, struct.pack(">BBH", family, 0, 0) + which)


def _delete(channel: Channel, flow: Message, *, doing: str) -> None:
    try:
        channel.request(doing, flow)
    except Kernel as error:
        if error.errno != errno.ENOENT:  # it timed out meanwhile
            raise
