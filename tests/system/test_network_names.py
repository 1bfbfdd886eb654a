from __future__ import annotations

import os
import socket
import threading

import pytest
from network_lab import new_namespace

from bayplan.kernel import links, nameport, netlink

HERE = "127.0.0.11"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_query_to_port_53_reaches_the_monitors_port_and_the_answer_comes_from_53(kind: int) -> None:
    space = new_namespace()
    links.raise_loopback(netns=space)
    nameport.lead_names(netns=space, udp_port=4000, tcp_port=4001)
    nameport.lead_names(netns=space, udp_port=5000, tcp_port=5001)
    with netlink.inside(space, lambda: socket.socket(socket.AF_INET, kind)) as server, _client(space, kind) as client:
        server.bind((HERE, 5000 if kind == socket.SOCK_DGRAM else 5001))
        serving = threading.Thread(target=_answer, args=(server, kind))
        if kind == socket.SOCK_STREAM:
            server.listen()
        serving.start()
        client.connect((HERE, 53))
        client.send(b"question")
        assert client.recv(100) == b"question answered", "a connected socket takes answers from the address that it asked only"
        serving.join()
    os.close(space)


def test_the_containers_own_name_server_can_have_port_53_on_all_addresses() -> None:
    space = new_namespace()
    links.raise_loopback(netns=space)
    nameport.lead_names(netns=space, udp_port=5000, tcp_port=5000)
    with _client(space, socket.SOCK_DGRAM) as own, _client(space, socket.SOCK_DGRAM) as client:
        own.bind(("0.0.0.0", 53))
        client.connect(("127.0.0.1", 53))
        client.send(b"question")
        assert own.recv(100) == b"question", "what is asked of it arrives"
    os.close(space)


def _client(space: int, kind: int) -> socket.socket:
    client = netlink.inside(space, lambda: socket.socket(socket.AF_INET, kind))
    client.settimeout(2)
    return client


def _answer(server: socket.socket, kind: int) -> None:
    if kind == socket.SOCK_DGRAM:
        data, client = server.recvfrom(100)
        server.sendto(data + b" answered", client)
        return
    connection, _ = server.accept()
    with connection:
        connection.sendall(connection.recv(100) + b" answered")
