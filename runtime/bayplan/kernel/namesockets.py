"""The sockets on which a container's monitor answers names, opened inside the container's network namespace."""

from __future__ import annotations

import _socket

from bayplan.kernel import nameport, netlink

ADDRESS = "127.0.0.11"
_BACKLOG = 64


def listen(*, netns: int) -> tuple[int, int]:
    """Open one for UDP and one for TCP, on free ports of 127.0.0.11, and lead port 53 to them (nameport.py).

    Descriptors, closed on exec. The namespace's loopback is up. Raises Kernel, Unavailable.
    """
    udp, tcp = netlink.inside(netns, _bound)
    nameport.lead_names(netns=netns, udp_port=udp.getsockname()[1], tcp_port=tcp.getsockname()[1])
    return udp.detach(), tcp.detach()


def _bound() -> tuple[_socket.socket, _socket.socket]:
    udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    udp.bind((ADDRESS, 0))
    tcp.bind((ADDRESS, 0))
    tcp.listen(_BACKLOG)
    return udp, tcp
