"""Port 53 of 127.0.0.11, inside a container's network namespace, leads to wherever its monitor listens.

The monitor cannot listen on port 53 itself: an image that is a name server binds that port on all addresses. The rules rewrite the
port of each packet on its way out, questions one way and answers the other. That needs no connection tracking, which otherwise all of
the container's traffic would pay for.
"""

from __future__ import annotations

import errno
import struct

from bayplan.errors import Kernel, Unavailable

from . import expressions as expr
from . import netlink
from . import nftables as nft

_TABLE, _CHAIN = "bayplan-names", "leaving"
_BEFORE_TRACKING = -300
_DOING = "leading name queries to the monitor"
_ADDRESS = bytes((127, 0, 0, 11))
_SOURCE, _DESTINATION = (12, 0), (16, 2)  # where the address and the port are in their headers
_CHECKSUMS = {nft.UDP: 6, nft.TCP: 16}


def lead_names(*, netns: int, udp_port: int, tcp_port: int) -> None:
    """Lead 127.0.0.11:53 to the ports on that address; raises Unavailable without nf_tables. Done again, it replaces what it did."""
    chain = nft.new_chain(nft.IPV4, _TABLE, nft.Chain(_CHAIN, "filter", nft.OUTPUT, _BEFORE_TRACKING))
    new = [nft.new_table(nft.IPV4, _TABLE, exclusive=True), chain, *_rules(nft.UDP, udp_port), *_rules(nft.TCP, tcp_port)]
    with netlink.Channel(netlink.NETFILTER, netns=netns) as channel:
        try:
            channel.transact(_DOING, new)
        except Kernel as error:
            if error.errno == errno.EEXIST:
                # Only then: closing a channel that has deleted something waits 16 ms for the kernel to be rid of it.
                channel.transact(_DOING, [nft.delete_table(nft.IPV4, _TABLE), *new])
                return
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOENT):
                raise
            raise Unavailable(f"{error}: this kernel lacks nf_tables; load it, or use the network mode host or none") from error


def _rules(protocol: int, port: int) -> tuple[netlink.Message, netlink.Message]:
    return _rule(protocol, _DESTINATION, "questions", old=53, new=port), _rule(protocol, _SOURCE, "answers", old=port, new=53)


def _rule(protocol: int, where: tuple[int, int], comment: str, *, old: int, new: int) -> netlink.Message:
    address, port = where
    expressions = (
        expr.meta(expr.PROTOCOL),
        expr.equals(bytes((protocol,))),
        expr.payload(expr.NETWORK, address, 4),
        expr.equals(_ADDRESS),
        expr.payload(expr.TRANSPORT, port, 2),
        expr.equals(struct.pack(">H", old)),
        *expr.store_port(port, new, checksum=_CHECKSUMS[protocol]),
    )
    return nft.new_rule(nft.IPV4, _TABLE, nft.Rule(_CHAIN, comment, expressions))
