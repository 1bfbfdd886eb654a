from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.kernel import expressions, interfaces, netlink, ruleset
from bayplan.kernel import nftables as nft
from bayplan.kernel.netlink import Message
from bayplan.kernel.nftables import IPV4, IPV6, Element
from bayplan.kernel.ruleset import FAMILIES, Bridge, Publication


def test_an_attribute_is_padded_to_four_bytes_and_its_length_is_not() -> None:
    assert netlink.attribute(3, b"lo\0") == b"\x07\0\x03\0lo\0\0"


def test_a_message_carries_its_length_and_sequence() -> None:
    assert netlink.pack(Message(16, 0x400, b"body"), 7) == struct.pack("=IHHII", 20, 16, 0x401, 7, 0) + b"body"


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_are_read_as_they_were_written(wanted: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attribute(kind, payload) for kind, payload in wanted)
    assert list(netlink.attributes(data)) == wanted


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=8))
def test_messages_are_read_as_they_were_written(wanted: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.pack(Message(kind, 0, body), place) for place, (kind, body) in enumerate(wanted))
    assert [(kind, body) for kind, _, _, body in netlink.messages(data)] == wanted


@given(st.binary(max_size=200))
def test_no_bytes_make_the_readers_loop_or_raise(data: bytes) -> None:
    assert sum(len(payload) + 4 for _, payload in netlink.attributes(data)) <= len(data), "no byte is read twice"
    assert sum(len(body) + 16 for *_, body in netlink.messages(data)) <= len(data), "no byte is read twice"


def test_a_set_of_a_thousand_elements_is_split_into_messages_that_fit() -> None:
    elements = [Element(struct.pack(">I", number), bytes(8)) for number in range(1000)]
    split = list(nft.new_elements(IPV4, "t", "published", elements))
    assert len(split) > 1 and all(len(each.body) < 65_000 for each in split), "an attribute has 64 KiB at most"
    read = [each.key for each in nft.read_elements(split)]
    assert read == [each.key for each in elements], "in order, none lost"


ADDRESSES = {IPV4: st.ip_addresses(v=4).map(str), IPV6: st.ip_addresses(v=6).map(str)}
PORTS = st.integers(1, 65535)


@st.composite
def publications(draw: st.DrawFn) -> Publication:
    addresses = ADDRESSES[draw(st.sampled_from([IPV4, IPV6]))]
    host_ip = draw(st.one_of(st.just(""), addresses))
    return Publication(draw(st.sampled_from(["tcp", "udp", "sctp"])), host_ip, draw(PORTS), draw(addresses), draw(PORTS))


@given(publications())
def test_a_publication_is_read_from_the_map_as_it_was_written(wanted: Publication) -> None:
    family, name, element = ruleset.publication_element(wanted)
    (found,) = ruleset.read_publications(family, name, [element])
    assert found == ruleset.canonical(wanted) == ruleset.canonical(found), "one spelling, which stays"
    assert ipaddress.ip_address(found.address) == ipaddress.ip_address(wanted.address), "the same address"
    assert found[::2] == wanted[::2], "the same protocol and ports"


@pytest.mark.parametrize(
    "wrong",
    [
        Publication("icmp", "", 80, "10.89.0.5", 80),
        Publication("tcp", "", 80, "web", 80),
        Publication("tcp", "localhost", 80, "10.89.0.5", 80),
        Publication("tcp", "2001:db8::1", 80, "10.89.0.5", 80),
        Publication("tcp", "192.0.2.1", 80, "fd00::5", 80),
    ],
)
def test_a_publication_that_no_rule_can_express_is_refused(wrong: Publication) -> None:
    with pytest.raises(Invalid):
        ruleset.publication_element(wrong)


@pytest.mark.parametrize(
    ("subnet", "ends"),
    [
        ("10.89.0.0/24", [(b"\x0a\x59\0\0", False), (b"\x0a\x59\1\0", True)]),
        ("10.89.0.77/24", [(b"\x0a\x59\0\0", False), (b"\x0a\x59\1\0", True)]),
        ("255.255.255.0/24", [(b"\xff\xff\xff\0", False)]),
        ("0.0.0.0/0", [(bytes(4), False)]),
    ],
)
def test_a_subnet_is_an_interval_whose_end_is_excluded(subnet: str, ends: list[tuple[bytes, bool]]) -> None:
    assert [(each.key, each.end) for each in ruleset.interval(subnet)] == ends


@pytest.mark.parametrize("subnet", ["10.89.0.0", "10.89.0.0/33", "10.89.0.0/x", "web/24", "10.89.0.0/-1", "10.89.0.0/２4"])
def test_what_is_no_subnet_is_refused(subnet: str) -> None:
    with pytest.raises(Invalid):
        ruleset.network_bytes(subnet)


def test_an_internal_network_is_never_masqueraded() -> None:
    family = FAMILIES[IPV4]
    assert "subnets" in ruleset.bridge_elements(Bridge("bp0", "10.89.0.0/24"), family)
    assert "subnets" not in ruleset.bridge_elements(Bridge("bp0", "10.89.0.0/24", None, True), family)


def test_names_of_sets_chains_and_rules_are_within_what_the_kernel_takes() -> None:
    for family in FAMILIES.values():
        comments = [(each.chain, each.comment) for each in ruleset.rules(family)]
        assert {chain for chain, _ in comments} <= {each.name for each in ruleset.CHAINS}, "rules stand in chains that exist"
        assert all(len(comment) < 127 for _, comment in comments), "a comment has a length of one byte"
        assert all(len(each.name) < 16 for each in ruleset.sets(family)), "names of sets had 16 bytes before Linux 4.17"


def test_a_rules_comment_is_read_as_it_was_written() -> None:
    message = nft.new_rule(IPV4, "table", nft.Rule("chain", "why it is there", (expressions.counter(),)))
    rule = nft.read_rule(message)
    assert (rule.table, rule.chain, rule.comment) == ("table", "chain", "why it is there")
    assert [name for name, _ in rule.expressions] == ["counter"]


def test_reading_the_hosts_links_changes_nothing_and_finds_the_loopback() -> None:
    assert interfaces.observe()["lo"].addresses >= {"127.0.0.1/8"}
