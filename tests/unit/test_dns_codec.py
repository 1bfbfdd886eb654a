"""DNS messages: what is read, what is refused, what is answered."""

from __future__ import annotations

import pytest

from bayplan.supervise import dns


def question(name: str, kind: int = dns.A, *, edns: int = 0, flags: int = 0x0100) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label)
    head = b"\x12\x34" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + (b"\0\1" if edns else b"\0\0")
    option = b"\0\0\x29" + edns.to_bytes(2, "big") + b"\0" * 6 if edns else b""
    return head + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1" + option


def test_a_question_is_read_in_lower_case_and_answered_as_it_was_spelled() -> None:
    packet = question("WeB.Example")
    query = dns.parse(packet)
    assert (query.name, query.kind, query.limit) == (b"web.example", dns.A, 512)
    response = dns.answer(packet, query, dns.NOERROR, [(dns.A, b"\x0a\0\0\7")], query.limit)
    assert response[:2] == packet[:2], "the number is the question's"
    assert response[12 : query.end] == packet[12 : query.end], "letters keep the case that they had"
    assert response[2:4] == b"\x85\x80", "a response, authoritative, recursion available, no error"
    assert response[query.end :] == b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\7"


REFUSED = [
    ("empty", b""),
    ("shorter than a header", question("web")[:11]),
    ("a response", question("web", flags=0x8100)),
    ("no question", question("web")[:4] + b"\0\0" + question("web")[6:]),
    ("two questions", question("web")[:4] + b"\0\2" + question("web")[6:]),
    ("cut in the name", question("web")[:14]),
    ("cut in the type", question("web")[:-3]),
    ("a pointer to itself", question("")[:12] + b"\xc0\x0c\0\1\0\1"),
    ("a pointer after a label", question("")[:12] + b"\3web\xc0\x0c\0\1\0\1"),
    ("a label of an unknown kind", question("")[:12] + b"\x41web\0\0\1\0\1"),
    ("a name of 300 bytes", question(".".join(["x" * 59] * 5))),
]


@pytest.mark.parametrize(("what", "packet"), REFUSED, ids=[what for what, _ in REFUSED])
def test_malformed_packets_are_refused(what: str, packet: bytes) -> None:
    with pytest.raises(dns.Malformed):
        dns.parse(packet)


@pytest.mark.parametrize("label", [b"a.b", b"a b", b"a\nb", b"\xc3\xa4", b"\0"])
def test_a_label_that_no_container_can_have_is_no_name_of_ours(label: bytes) -> None:
    packet = question("")[:12] + bytes((len(label),)) + label + b"\0\0\1\0\1"
    assert dns.parse(packet).name == b"", "it cannot be mistaken for another name"


def test_edns_raises_the_limit_and_is_answered_with_edns() -> None:
    packet = question("web", edns=65535)
    query = dns.parse(packet)
    assert query.edns and query.limit == 4096, "never more than we send"
    response = dns.answer(packet, query, dns.NOERROR, [], query.limit)
    assert response[10:12] == b"\0\1" and response[query.end : query.end + 3] == b"\0\0\x29"
    assert dns.parse(question("web", edns=100)).limit == 512, "never less than the plain limit"


def test_what_does_not_fit_is_truncated_to_the_bare_question() -> None:
    packet = question("web")
    query = dns.parse(packet)
    response = dns.answer(packet, query, dns.NOERROR, [(dns.A, bytes(4))] * 40, query.limit)
    assert response[2] & 2 and response[6:8] == b"\0\0" and len(response) == query.end
    assert len(dns.answer(packet, query, dns.NOERROR, [(dns.A, bytes(4))] * 40, 65535)) == query.end + 40 * 16


def test_a_response_counts_only_with_the_number_and_the_question_that_were_asked() -> None:
    packet = question("web.example")
    query = dns.parse(packet)
    good = dns.answer(packet, query, dns.NXDOMAIN, [], 512)
    assert dns.answers(packet, query, good)
    assert not dns.answers(packet, query, b"\0\0" + good[2:]), "another number"
    assert not dns.answers(packet, query, good.replace(b"example", b"exemple")), "another question"
    assert not dns.answers(packet, query, packet), "a query is no response"
    assert not dns.answers(packet, query, b"")


REVERSE = [
    (b"4.3.2.10.in-addr.arpa", "10.2.3.4"),
    (b"3.2.10.in-addr.arpa", ""),
    (b"256.3.2.10.in-addr.arpa", ""),
    (b"04.3.2.10.in-addr.arpa", ""),
    (b"x.3.2.10.in-addr.arpa", ""),
    (b"1." + b"0." * 23 + b"8.b.d.0.1.0.0.2.ip6.arpa", "2001:0db8:0000:0000:0000:0000:0000:0001"),
    (b"10." + b"0." * 23 + b"8.b.d.0.1.0.0.2.ip6.arpa", ""),
    (b"web", ""),
    (b"", ""),
]


@pytest.mark.parametrize(("name", "address"), REVERSE)
def test_a_reverse_name_gives_its_address(name: bytes, address: str) -> None:
    assert dns.reverse_address(name) == address


def test_a_name_that_has_no_wire_form_is_refused() -> None:
    assert dns.encode_name(b"web.net") == b"\3web\3net\0"
    for name in (b"", b"a..b", b"x" * 64, b".".join([b"x" * 60] * 5)):
        with pytest.raises(dns.Malformed):
            dns.encode_name(name)
