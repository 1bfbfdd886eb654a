"""The DNS codec against arbitrary and against almost correct packets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bayplan.supervise import dns

LABEL = st.binary(min_size=0, max_size=70).map(lambda label: bytes((len(label),)) + label)
NAME = st.lists(LABEL, max_size=6).map(b"".join)
HEADER = st.tuples(st.binary(min_size=4, max_size=4), st.sampled_from([b"\0\1", b"\0\0", b"\1\0"]), st.binary(max_size=8))
PACKET = st.tuples(HEADER.map(b"".join), NAME, st.binary(max_size=40)).map(b"".join) | st.binary(max_size=600)
RECORDS = st.lists(st.tuples(st.sampled_from([dns.A, dns.AAAA, dns.PTR]), st.binary(max_size=260)), max_size=50)


@given(PACKET, RECORDS, st.sampled_from([0, 2, 3, 4, 5]))
def test_a_packet_is_refused_or_answered_within_its_limit(packet: bytes, records: list[dns.Record], code: int) -> None:
    try:
        query = dns.parse(packet)
    except dns.Malformed:
        return
    assert 12 < query.end <= len(packet), "the question lies inside the packet"
    assert query.name == query.name.lower() and len(query.name) <= dns.LONGEST_NAME
    response = dns.answer(packet, query, code, records, query.limit)
    assert len(response) <= query.limit, "no answer is longer than its receiver takes"
    assert dns.answers(packet, query, response), "an answer of ours is an answer to the question"
    assert dns.response_code(response) == code


@given(PACKET)
def test_an_answer_parses_as_no_query(packet: bytes) -> None:
    try:
        query = dns.parse(packet)
        dns.parse(dns.answer(packet, query, dns.NOERROR, [], query.limit))
    except dns.Malformed:
        return
    raise AssertionError("two responders could answer each other for ever")


@given(st.binary(max_size=120) | st.lists(st.sampled_from([b"1", b"f", b"255", b"arpa", b"ip6", b"in-addr"])).map(b".".join))
def test_a_reverse_name_gives_an_address_or_nothing(name: bytes) -> None:
    address = dns.reverse_address(name)
    assert set(address) <= set("0123456789abcdef.:")


@given(PACKET, st.binary(max_size=300))
def test_no_response_from_outside_raises(packet: bytes, response: bytes) -> None:
    try:
        query = dns.parse(packet)
    except dns.Malformed:
        return
    dns.answers(packet, query, response)
    dns.answers(packet, query, packet[:2] + response)
