from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from network_lab import Lab, command

from bayplan.errors import Invalid, Kernel
from bayplan.kernel import interfaces, links, netlink, sysctls
from bayplan.kernel.links import Attachment, BridgeLink

BRIDGE = BridgeLink("bp1a2b3cb0", "10.89.0.1/24", mtu=1400)
ENDPOINT = Attachment(BRIDGE.name, "bp1a2b3cv5", "eth0", "02:42:0a:59:00:05", "10.89.0.5/24", gateway="10.89.0.1", mtu=1400)


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    made.on_host(lambda: links.install_bridge(BRIDGE))
    yield made
    made.close()


def inside(space: int) -> dict[str, interfaces.Link]:
    return netlink.inside(space, interfaces.observe)


def space_of(lab: Lab) -> int:
    return lab.new_space()


def attach(lab: Lab, *endpoints: Attachment, space: int) -> None:
    lab.on_host(lambda: links.attach(endpoints, netns=space))


def test_an_attached_container_has_its_address_its_mac_its_route_and_a_loopback(lab: Lab) -> None:
    space = space_of(lab)
    attach(lab, ENDPOINT, space=space)
    found = inside(space)
    eth0 = found["eth0"]
    assert (eth0.up, eth0.mtu, eth0.mac, eth0.addresses) == (True, 1400, ENDPOINT.mac, {"10.89.0.5/24"}), "as asked, and no IPv6 address"
    assert found["lo"].up and "127.0.0.1/8" in found["lo"].addresses, "the loopback is up"
    routes = {(each.destination, each.link) for each in netlink.inside(space, interfaces.routes)}
    assert ("0.0.0.0/0", eth0.number) in routes, "the gateway gives the default route"


def test_the_hosts_end_is_a_hairpin_port_without_an_address(lab: Lab) -> None:
    attach(lab, ENDPOINT, space=space_of(lab))
    found = lab.on_host(interfaces.observe)
    port = found[ENDPOINT.host_name]
    assert (port.master, port.up, port.addresses) == (found[BRIDGE.name].number, True, frozenset())
    assert "hairpin on" in lab.on_host(lambda: command("ip", "-d", "link", "show", ENDPOINT.host_name))
    assert interfaces.attachment_drift(ENDPOINT, found) == ()


def test_a_namespace_without_ipv6_network_has_ipv6_on_its_loopback_only(lab: Lab) -> None:
    space = space_of(lab)
    attach(lab, ENDPOINT, space=space)
    assert netlink.inside(space, lambda: sysctls.read("net/ipv6/conf/eth0/disable_ipv6")) == "1"
    assert "::1/128" in inside(space)["lo"].addresses, "programs that listen on ::1 start"


def test_an_ipv6_address_is_usable_at_once_and_no_advertisement_is_believed(lab: Lab) -> None:
    bridge = BRIDGE._replace(ipv6="fd00:89::1/64")
    lab.on_host(lambda: links.install_bridge(bridge))
    space = space_of(lab)
    attach(lab, ENDPOINT._replace(ipv6="fd00:89::5/64", gateway6="fd00:89::1"), space=space)
    shown = netlink.inside(space, lambda: command("ip", "-6", "address", "show", "dev", "eth0"))
    assert "fd00:89::5/64" in shown and "tentative" not in shown, "no duplicate address detection"
    for where, name in ((space, "eth0"), (lab.host, bridge.name)):
        assert netlink.inside(where, lambda name=name: sysctls.read(f"net/ipv6/conf/{name}/accept_ra")) == "0"  # type: ignore[misc]
    assert lab.on_host(lambda: interfaces.bridge_drift(bridge, interfaces.observe())) == ()


def test_several_networks_give_several_interfaces_and_the_first_one_the_way_out(lab: Lab) -> None:
    second = BridgeLink("bp1a2b3cb1", "10.89.1.1/24")
    lab.on_host(lambda: links.install_bridge(second))
    other = Attachment(second.name, "bp1a2b3cv6", "eth1", "02:42:0a:59:01:05", "10.89.1.5/24", gateway="10.89.1.1")
    space = space_of(lab)
    attach(lab, ENDPOINT, other, space=space)
    assert inside(space)["eth1"].addresses == {"10.89.1.5/24"}
    lab.listen(lab.outside, 7000)
    asked = netlink.inside(space, lambda: command("ip", "route", "get", "192.0.2.9"))
    assert "via 10.89.0.1" in asked, "the first"
    lab.on_host(lambda: links.detach(ENDPOINT.host_name))
    asked = netlink.inside(space, lambda: command("ip", "route", "get", "192.0.2.9"))
    assert "via 10.89.1.1" in asked, "and when it goes, the next"


def test_a_left_over_pair_of_the_same_name_is_replaced(lab: Lab) -> None:
    old, new = space_of(lab), space_of(lab)
    attach(lab, ENDPOINT, space=old)
    attach(lab, ENDPOINT, space=new)
    assert "eth0" not in inside(old) and "eth0" in inside(new), "the address has moved"


def test_an_attachment_that_does_not_work_out_leaves_nothing(lab: Lab) -> None:
    space = space_of(lab)
    for broken in (
        ENDPOINT._replace(host_name="bp1a2b3cv6", container_name="eth1", bridge="nosuch"),
        ENDPOINT._replace(host_name="bp1a2b3cv6", container_name="eth0"),
        ENDPOINT._replace(host_name="bp1a2b3cv6", container_name="eth1", gateway="203.0.113.1"),
    ):
        with pytest.raises(Kernel, match=r"attaching|looking up"):
            attach(lab, ENDPOINT, broken, space=space)
        assert set(inside(space)) == {"lo"}, "no interface in the container"
        assert not [each for each in lab.on_host(interfaces.observe) if each.startswith("bp1a2b3cv")], "and none on the host"


MULTICAST = "01:00:5e:00:00:01"


@pytest.mark.parametrize("broken", [{"mac": "02:42"}, {"mac": MULTICAST}, {"ipv4": "10.89.0.5"}, {"ipv4": "web/24"}, {"gateway": "x"}])
def test_what_is_no_address_is_refused(lab: Lab, broken: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        attach(lab, ENDPOINT._replace(**broken), space=space_of(lab))  # type: ignore[arg-type]


def test_detaching_is_done_when_it_returns_and_twice_is_no_error(lab: Lab) -> None:
    space = space_of(lab)
    attach(lab, ENDPOINT, space=space)
    lab.on_host(lambda: links.detach(ENDPOINT.host_name))
    assert set(inside(space)) == {"lo"}
    lab.on_host(lambda: links.detach(ENDPOINT.host_name))


def test_a_bridge_is_made_once_and_mended(lab: Lab) -> None:
    number = lab.on_host(interfaces.observe)[BRIDGE.name].number
    lab.on_host(lambda: links.install_bridge(BRIDGE))
    assert lab.on_host(lambda: interfaces.bridge_drift(BRIDGE, interfaces.observe())) == ()
    for harm, named in (
        (("ip", "link", "set", BRIDGE.name, "down"), "down"),
        (("ip", "address", "flush", "dev", BRIDGE.name), "address 10.89.0.1/24 missing"),
        (("ip", "link", "set", BRIDGE.name, "mtu", "1300"), "mtu 1300 instead of 1400"),
    ):
        lab.on_host(lambda harm=harm: command(*harm))  # type: ignore[misc]
        assert any(named in each for each in lab.on_host(lambda: interfaces.bridge_drift(BRIDGE, interfaces.observe())))
        lab.on_host(lambda: links.install_bridge(BRIDGE))
        assert lab.on_host(lambda: interfaces.bridge_drift(BRIDGE, interfaces.observe())) == (), "mended"
    assert lab.on_host(interfaces.observe)[BRIDGE.name].number == number, "it is the same bridge all the time, its ports stay"
    lab.on_host(lambda: links.remove_bridge(BRIDGE.name))
    assert lab.on_host(lambda: interfaces.bridge_drift(BRIDGE, interfaces.observe())) == (f"bridge {BRIDGE.name} missing",)


def test_a_bridge_has_no_ipv6_unless_it_is_asked_for(lab: Lab) -> None:
    assert all(":" not in each for each in lab.on_host(interfaces.observe)[BRIDGE.name].addresses), "not even a link-local address"


def test_a_host_with_a_bridge_forwards_unless_the_network_is_internal(lab: Lab) -> None:
    def check(forwards: bool) -> tuple[str, tuple[str, ...]]:
        sysctls.write("net/ipv4/ip_forward", "0")
        links.install_bridge(BRIDGE._replace(forwards=forwards))
        return sysctls.read("net/ipv4/ip_forward"), interfaces.bridge_drift(BRIDGE._replace(forwards=True), interfaces.observe())

    assert lab.on_host(lambda: check(True)) == ("1", ())
    assert lab.on_host(lambda: check(False)) == ("0", ("ip_forward off",)), "and what is switched off is drift"


def test_the_host_goes_on_believing_advertisements_when_it_begins_to_forward(lab: Lab) -> None:
    def check() -> str:
        sysctls.write("net/ipv6/conf/all/forwarding", "0")
        sysctls.write("net/ipv6/conf/eth0/accept_ra", "1")
        assert sysctls.forwarding_drift(ipv6=True) == ("IPv6 forwarding off",)
        sysctls.enable_forwarding(ipv6=True)
        assert sysctls.forwarding_drift(ipv6=True) == ()
        return sysctls.read("net/ipv6/conf/eth0/accept_ra")

    assert lab.on_host(check) == "2"


def test_what_a_new_subnet_must_not_overlap_and_the_mtu_are_read_off_the_host(lab: Lab) -> None:
    def look() -> tuple[list[str], int]:
        command("ip", "link", "set", "eth0", "mtu", "1380")
        command("ip", "route", "add", "default", "via", "192.0.2.9")
        command("ip", "route", "add", "10.77.0.0/16", "via", "192.0.2.9", "table", "51820")
        command("ip", "route", "add", "blackhole", "10.78.0.0/16")
        found = interfaces.observe()
        return interfaces.subnets_in_use(found), interfaces.usual_mtu(found)

    used, mtu = lab.on_host(look)
    assert {"10.89.0.0/24", "192.0.2.0/24", "10.77.0.0/16", "10.78.0.0/16"} <= set(used), "other tables and black holes count"
    assert mtu == 1380


def test_no_descriptor_is_left_open(lab: Lab) -> None:
    space = space_of(lab)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        attach(lab, ENDPOINT, space=space)
        lab.on_host(lambda: links.detach(ENDPOINT.host_name))
    with pytest.raises(Kernel):
        attach(lab, ENDPOINT._replace(bridge="nosuch"), space=space)
    assert len(os.listdir("/proc/self/fd")) == before, "nor after an error"
