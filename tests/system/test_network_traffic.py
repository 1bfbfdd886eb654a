"""What reaches what, shown with packets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network_lab import STATE, Lab

from bayplan.kernel import firewall, sysctls
from bayplan.kernel.firewall import Publication, Ruleset


@pytest.fixture(params=["plain bridge", "bridge-nf-call-iptables"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab()
    value = "1" if request.param == "bridge-nf-call-iptables" else "0"

    def hand_over() -> None:
        for name in ("iptables", "ip6tables"):
            if sysctls.read(f"net/bridge/bridge-nf-call-{name}"):
                sysctls.write(f"net/bridge/bridge-nf-call-{name}", value)
            elif value == "1":
                pytest.skip("the kernel has no br_netfilter")

    made.on_host(hand_over)
    yield made
    made.close()


def install(lab: Lab, bridges: list[firewall.Bridge], *publications: Publication) -> None:
    lab.on_host(lambda: firewall.repair(STATE, Ruleset(frozenset(bridges), frozenset(publications))))


def test_a_published_port_is_reached_from_outside_and_sees_the_clients_address(lab: Lab) -> None:
    net = lab.network(0)
    web = lab.container(net, 5)
    install(lab, [net], Publication("tcp", "", 8080, "10.89.0.5", 80))
    lab.listen(web, 80)
    assert lab.ask(lab.outside, "192.0.2.1", 8080) == "192.0.2.9 10.89.0.5", "an outside client's address is kept"


def test_a_published_port_is_reached_from_the_host_on_every_address_of_it(lab: Lab) -> None:
    net = lab.network(0)
    web = lab.container(net, 5)
    install(lab, [net], Publication("tcp", "", 8080, "10.89.0.5", 80))
    lab.listen(web, 80)
    for address in ("127.0.0.1", "127.0.0.53", "192.0.2.1", "10.89.0.1"):
        answer = lab.ask(lab.host, address, 8080)
        assert answer and answer.endswith(" 10.89.0.5"), f"the port answers on {address}, not {answer}"


def test_a_published_port_is_reached_from_its_own_container_its_network_and_another_one(lab: Lab) -> None:
    first, second = lab.network(0), lab.network(1)
    web, peer, other = lab.container(first, 5), lab.container(first, 6), lab.container(second, 7)
    install(lab, [first, second], Publication("tcp", "", 8080, "10.89.0.5", 80))
    lab.listen(web, 80)
    for space, address in ((web, "192.0.2.1"), (web, "10.89.0.1"), (peer, "192.0.2.1"), (peer, "10.89.0.1")):
        assert lab.ask(space, address, 8080) == "10.89.0.1 10.89.0.5", "the own network's traffic is translated both ways"
    assert lab.ask(other, "192.0.2.1", 8080) == "10.89.1.7 10.89.0.5", "another network's container gets there as itself"
    assert lab.ask(other, "10.89.0.1", 8080) == "10.89.1.7 10.89.0.5", "through any address of the host"


def test_nothing_unpublished_is_reached_from_outside_or_from_another_network(lab: Lab) -> None:
    first, second = lab.network(0), lab.network(1)
    web, peer, other = lab.container(first, 5), lab.container(first, 6), lab.container(second, 7)
    install(lab, [first, second], Publication("tcp", "", 8080, "10.89.0.5", 80))
    for port in (80, 81):
        lab.listen(web, port)
    assert lab.ask(lab.outside, "10.89.0.5", 81) is None, "a neighbour with a route reaches no unpublished port"
    assert lab.ask(lab.outside, "10.89.0.5", 80) is None, "nor a published one at the container's own address"
    assert lab.ask(other, "10.89.0.5", 81) is None, "networks are separate"
    assert lab.ask(other, "10.89.0.5", 80) is None, "networks are separate, published or not"
    assert lab.ask(peer, "10.89.0.5", 81) == "10.89.0.6 10.89.0.5", "within a network all is reachable, untranslated"
    assert lab.ask(lab.host, "10.89.0.5", 81) == "10.89.0.1 10.89.0.5", "the host reaches its containers"
    assert lab.ask(lab.host, "192.0.2.1", 81) == "refused", "an unpublished port is closed on the host"


def test_a_port_is_bound_as_asked(lab: Lab) -> None:
    net = lab.network(0)
    web = lab.container(net, 5)
    install(lab, [net], Publication("tcp", "127.0.0.1", 8080, "10.89.0.5", 80), Publication("tcp", "192.0.2.1", 8081, "10.89.0.5", 80))
    lab.listen(web, 80)
    assert lab.ask(lab.host, "127.0.0.1", 8080), "published on 127.0.0.1 it answers there"
    assert lab.ask(lab.outside, "192.0.2.1", 8080) == "refused", "and nowhere else"
    assert lab.ask(web, "10.89.0.1", 8080) == "refused", "not for containers either"
    assert lab.ask(lab.outside, "192.0.2.1", 8081), "published on an address it answers there"
    assert lab.ask(lab.host, "127.0.0.1", 8081) == "refused", "and nowhere else"


def test_a_neighbour_that_sends_to_127_0_0_1_through_our_mac_reaches_nothing(lab: Lab) -> None:
    net = lab.network(0)
    web = lab.container(net, 5)
    install(lab, [net], Publication("tcp", "127.0.0.1", 8080, "10.89.0.5", 80), Publication("tcp", "", 8081, "10.89.0.5", 80))
    lab.listen(web, 80)
    lab.route_loopback_to_host(lab.outside, via="192.0.2.1")
    for port in (8080, 8081):
        answer = lab.ask(lab.outside, "127.0.0.1", port, source="192.0.2.9")
        assert answer is None, "what is published on 127.0.0.1 is for the host alone"


def test_a_container_reaches_neither_the_hosts_loopback_nor_speaks_in_its_name(lab: Lab) -> None:
    net = lab.network(0)
    bad = lab.container(net, 5)
    install(lab, [net])
    lab.listen(lab.host, 9000, address="127.0.0.1")
    lab.listen(lab.host, 9001, udp=True)
    lab.route_loopback_to_host(bad, via="10.89.0.1")
    assert lab.ask(lab.host, "127.0.0.1", 9000), "the service is there"
    assert lab.ask(bad, "127.0.0.1", 9000, source="10.89.0.5") is None, "the host's loopback is out of a container's reach"
    assert lab.ask(bad, "10.89.0.1", 9001, udp=True), "the host's own addresses are in reach"
    assert lab.ask(bad, "10.89.0.1", 9001, udp=True, source="127.0.0.1") is None, "but not for a sender of 127.0.0.1"


def test_outgoing_traffic_carries_the_hosts_address(lab: Lab) -> None:
    net = lab.network(0)
    box = lab.container(net, 5)
    install(lab, [net])
    lab.listen(lab.outside, 7000)
    lab.listen(lab.outside, 7000, udp=True)
    assert lab.ask(box, "192.0.2.9", 7000) == "192.0.2.1 192.0.2.9", "masqueraded"
    answer = lab.ask(box, "192.0.2.9", 7000, udp=True)
    assert answer and answer.startswith("192.0.2.1 "), "UDP, too"


def test_an_internal_network_leads_nowhere(lab: Lab) -> None:
    inner, outer = lab.network(0, internal=True), lab.network(1)
    box, peer, other = lab.container(inner, 5), lab.container(inner, 6), lab.container(outer, 7)
    install(lab, [inner, outer], Publication("tcp", "", 8080, "10.89.1.7", 80), Publication("tcp", "", 8081, "10.89.0.5", 80))
    for space in (box, other):
        lab.listen(space, 80)
    lab.listen(lab.outside, 7000)
    lab.listen(lab.host, 7001)
    lab.default_route(box, "10.89.0.1")  # whoever has NET_ADMIN inside gives itself one
    assert lab.ask(box, "192.0.2.9", 7000) is None, "not outside"
    assert lab.ask(box, "10.89.0.1", 7001) is None, "not to the host"
    assert lab.ask(box, "192.0.2.1", 7001) is None, "not to the host's other addresses"
    assert lab.ask(box, "192.0.2.1", 8080) is None, "not to another network's published port"
    assert lab.ask(box, "10.89.1.7", 80) is None, "not to another network"
    assert lab.ask(lab.outside, "192.0.2.1", 8081) is None, "nor from outside in, published or not"
    assert lab.ask(other, "10.89.0.5", 80) is None, "nor from another network in"
    assert lab.ask(peer, "10.89.0.5", 80) == "10.89.0.6 10.89.0.5", "only within itself"
    assert lab.ask(lab.host, "10.89.0.5", 80) == "10.89.0.1 10.89.0.5", "and from the host, which has to check its health"


def test_a_udp_port_that_is_led_elsewhere_takes_its_flows_along(lab: Lab) -> None:
    net = lab.network(0)
    old, new = lab.container(net, 5), lab.container(net, 6)
    install(lab, [net], Publication("udp", "", 5000, "10.89.0.5", 53))
    lab.listen(old, 53, udp=True)
    with lab.udp_client(lab.outside, "192.0.2.1", 5000) as client:
        client.send(b"?")
        assert client.recv(100).startswith(b"192.0.2.9 "), "the old one answers"
        lab.listen(new, 53, address="10.89.0.6", udp=True)
        lab.silence(old)
        lab.on_host(lambda: firewall.publish(STATE, [Publication("udp", "", 5000, "10.89.0.6", 53)]))
        client.send(b"?")
        assert client.recv(100).startswith(b"192.0.2.9 "), "the same flow reaches the new one at once"


@pytest.mark.parametrize("source", ["outside", "other", "peer", "self"])
def test_ipv6_is_published_and_kept_apart_alike(lab: Lab, source: str) -> None:
    first, second = lab.network(0, ipv6=True), lab.network(1, ipv6=True)
    web, peer, other = lab.container(first, 5), lab.container(first, 6), lab.container(second, 7)
    install(lab, [first, second], Publication("tcp", "", 8080, "fd00:89:0::5", 80))
    lab.listen(web, 80, address="::")
    lab.listen(web, 81, address="::")
    space, seen = {
        "outside": (lab.outside, "2001:db8::9"),
        "other": (other, "fd00:89:1::7"),
        "peer": (peer, "fd00:89::1"),
        "self": (web, "fd00:89::1"),
    }[source]
    assert lab.ask(space, "2001:db8::1", 8080) == f"{seen} fd00:89::5", "the published port answers"
    within = {"peer": "fd00:89::6 fd00:89::5", "self": "fd00:89::5 fd00:89::5"}
    assert lab.ask(space, "fd00:89::5", 81) == within.get(source), "what is not published is reached within the network only"
