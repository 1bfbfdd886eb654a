from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayplan.errors import Conflict, Invalid
from bayplan.model import subnet as subnets
from bayplan.plan import addresses

STATE = "1a2b3c4d"


def test_the_first_network_gets_the_first_subnet_of_the_pools() -> None:
    assert addresses.choose_subnet([]) == "10.89.0.0/24"


def test_a_subnet_that_a_route_an_address_or_a_network_uses_is_passed_over() -> None:
    taken = ["0.0.0.0/0", "10.89.0.0/24", "10.89.1.7/32", "10.89.2.128/25", "192.0.2.0/24", "::/0", "fd00::/64"]
    assert addresses.choose_subnet(taken) == "10.89.3.0/24", "only what overlaps is passed over, a default route is not"


def test_a_wide_route_moves_the_choice_to_the_next_pool() -> None:
    assert addresses.choose_subnet(["10.0.0.0/8"]) == "172.29.0.0/24"


def test_used_up_pools_are_a_conflict_that_names_the_remedy() -> None:
    with pytest.raises(Conflict, match="declare a subnet"):
        addresses.choose_subnet(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(9, 32)), max_size=30))
def test_a_chosen_subnet_never_overlaps_what_is_taken(pairs: list[tuple[int, int]]) -> None:
    taken = [f"{ipaddress.IPv4Address(number)}/{length}" for number, length in pairs]
    chosen = ipaddress.IPv4Network(addresses.choose_subnet(taken))
    assert not any(chosen.overlaps(ipaddress.IPv4Network(each, strict=False)) for each in taken), "chosen and taken are disjoint"


MALFORMED = ("10.89.0.0", "10.89.0.1/24", "10.89.0.0/33", "10.89/24", "10.89.00.0/24", "010.89.0.0/24", "10.89.0.0/2４", "１0.89.0.0/24")
MALFORMED6 = ("fd00::1::/64", "fe80::%eth0/64", "::/129", "x", "", "/", "10.89.0.0/-1", "10.89.0.0/" + "9" * 5000)
RESERVED = ("10.89.0.0/31", "127.1.0.0/16", "224.0.0.0/24", "0.0.0.0/0", "169.254.0.0/24", "fe80::/64", "::1/128", "ff02::/64")


@pytest.mark.parametrize("subnet", [*MALFORMED, *MALFORMED6, *RESERVED])
def test_a_subnet_that_no_network_can_have_is_refused(subnet: str) -> None:
    with pytest.raises(Invalid):
        addresses.check_subnet(subnet, [])


def test_a_declared_subnet_that_overlaps_is_a_conflict_that_names_the_other() -> None:
    with pytest.raises(Conflict, match=r"10\.1\.2\.0/24"):
        addresses.check_subnet("10.1.0.0/16", ["10.1.2.0/24", "0.0.0.0/0"])
    assert addresses.check_subnet("10.1.0.0/16", ["10.2.0.0/16", "fd00::/8"]) == "10.1.0.0/16"
    assert addresses.check_subnet("FD00:0:0::/64", []) == "fd00::/64", "in its usual spelling"


def test_leases_go_up_skip_what_is_taken_and_come_round() -> None:
    assert addresses.lease("10.89.0.0/24", [], gateway="10.89.0.1") == "10.89.0.2"
    assert addresses.lease("10.89.0.0/24", ["10.89.0.2", "10.89.0.3"], gateway="10.89.0.1") == "10.89.0.4"
    assert addresses.lease("10.89.0.0/24", [], gateway="10.89.0.1", after="10.89.0.9") == "10.89.0.10", "not at once the one given back"
    assert addresses.lease("10.89.0.0/24", [], gateway="10.89.0.1", after="10.89.0.254") == "10.89.0.2", "and from the beginning again"
    assert addresses.lease("10.89.0.0/24", [], gateway="10.89.0.254") == "10.89.0.1", "wherever the gateway is"
    assert addresses.lease("10.89.0.0/24", [], gateway="10.89.0.1", ip_range="10.89.0.128/25") == "10.89.0.128"
    assert addresses.lease("fd00::/64", ["fd00::2"], gateway="fd00::1") == "fd00::3", "IPv6 alike"


@settings(deadline=None, max_examples=30)
@given(st.integers(24, 30), st.data())
def test_every_usable_address_is_leased_once_and_then_none_is_left(length: int, data: st.DataObject) -> None:
    subnet = ipaddress.IPv4Network(f"10.89.0.0/{length}")
    gateway = str(data.draw(st.sampled_from(list(subnet.hosts()))))
    taken: list[str] = []
    for _ in range(subnet.num_addresses - 3):
        taken.append(addresses.lease(str(subnet), taken, gateway=gateway, after=taken[-1] if taken else ""))
    assert {*taken, gateway} == set(map(str, subnet.hosts())), "network, broadcast and gateway are nobody's, the rest is somebody's"
    with pytest.raises(Conflict, match="larger subnet"):
        addresses.lease(str(subnet), taken, gateway=gateway)


def test_an_address_that_is_asked_for_is_given_or_refused_with_the_reason() -> None:
    def wanted(address: str) -> str:
        return addresses.lease("10.89.0.0/24", ["10.89.0.9"], gateway="10.89.0.1", wanted=address)

    assert wanted("10.89.0.77") == "10.89.0.77"
    for taken, reason in (("10.89.0.9", "leased"), ("10.89.0.1", "gateway")):
        with pytest.raises(Conflict, match=reason):
            wanted(taken)
    for outside in ("10.89.1.5", "10.89.0.0", "10.89.0.255", "fd00::5", "10.89.0.5/24", "web"):
        with pytest.raises(Invalid):
            wanted(outside)


def test_a_range_outside_of_the_subnet_is_refused() -> None:
    with pytest.raises(Invalid, match="ip_range"):
        addresses.lease("10.89.0.0/24", [], gateway="10.89.0.1", ip_range="10.89.1.0/25")


def test_a_gateway_is_the_first_address_or_the_one_declared() -> None:
    assert addresses.gateway_of("10.89.0.0/24") == "10.89.0.1"
    assert addresses.gateway_of("fd00::/64") == "fd00::1"
    assert addresses.gateway_of("10.89.0.0/24", "10.89.0.254") == "10.89.0.254"
    with pytest.raises(Invalid, match="gateway"):
        addresses.gateway_of("10.89.0.0/24", "10.89.1.1")


def test_a_mac_and_the_names_follow_from_the_address() -> None:
    assert addresses.mac_of("10.89.0.5") == "02:42:0a:59:00:05"
    assert addresses.bridge_name(STATE, "10.89.0.1").startswith("bp1a2b3cb"), "bridge and pair can be told apart"
    assert addresses.link_name(STATE, "10.89.0.1").startswith("bp1a2b3cv"), "and recognised as that state's"


@given(st.sets(st.integers(0, 2**32 - 1), max_size=50))
def test_names_of_links_fit_and_differ(numbers: set[int]) -> None:
    names = {addresses.link_name(STATE, subnets.printed(each, 32)) for each in numbers}
    assert len(names) == len(numbers), "no two addresses share a name"
    assert all(len(each) == 15 for each in names), "IFNAMSIZ leaves 15 characters"


def test_ipv6_subnets_follow_from_the_networks_id() -> None:
    assert addresses.choose_subnet6("0123456789" + "f" * 54) == "fd01:2345:6789::/64"


@given(st.text(max_size=40))
def test_no_text_makes_the_parsers_raise_anything_but_invalid(text: str) -> None:
    for parse in (subnets.parse_address, subnets.parse_subnet, subnets.parse_interface):
        try:
            parse(text)
        except Invalid:
            continue
