"""What syslog and journald are sent."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bayplan.supervise.settings import Config
from bayplan.supervise.shipping import journal, syslog

BASE = {
    "id": "ab" * 32,
    "name": "keen_hopper",
    "log_tag": "",
    "log_target": ("unix", "/dev/log", 0),
    "log_format": "",
    "log_facility": 3,
    "log_labels": (),
    "settings": {"health": None},
}


def config(**fields: object) -> Config:
    return Config({**BASE, **fields})


def test_journald_gets_the_fields_that_docker_names() -> None:
    lines = journal(config())(2, b"oh no\n").decode().splitlines()
    assert lines[0] == "PRIORITY=3" and lines[-1] == "MESSAGE=oh no"
    assert "CONTAINER_NAME=keen_hopper" in lines and f"CONTAINER_ID_FULL={'ab' * 32}" in lines
    assert "CONTAINER_ID=abababababab" in lines and "CONTAINER_PARTIAL_MESSAGE=true" not in lines
    assert b"CONTAINER_PARTIAL_MESSAGE=true\n" in journal(config())(1, b"no end")


@given(st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"")))
def test_nothing_that_is_printed_adds_a_field_to_the_journal(text: bytes) -> None:
    expected = journal(config())(1, b"x\n").count(b"\n")
    assert journal(config())(1, text + b"\n").count(b"\n") == expected


def test_labels_cannot_add_fields_nor_claim_trusted_ones() -> None:
    labels = (("APP", "a\nPRIORITY=0"), ("_UID", "0"), ("A=B", "x"), ("A\nB", "x"), ("", "x"), ("lower", "x"))
    message = journal(config(log_labels=labels))(1, b"x\n").decode()
    assert "APP=a?PRIORITY=0\n" in message
    assert message.count("\n") == journal(config())(1, b"x\n").decode().count("\n") + 1, "only the good one is there"


def test_syslog_has_its_three_forms() -> None:
    local = syslog(config(log_tag="a b\nc"))(1, b"text\n").decode()
    assert re.fullmatch(r"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d a_b\?c\[\d+\]: text", local), local
    older = syslog(config(log_format="rfc3164"))(2, b"text\n").decode()
    assert re.fullmatch(r"<27>.{15} \S+ abababababab\[\d+\]: text", older), older
    newer = syslog(config(log_format="rfc5424", log_target=("tcp", "127.0.0.1", 1)))(1, b"text\n").decode()
    assert re.fullmatch(r"<30>1 \S{19}\.\d{6}Z \S+ abababababab \d+ abababababab - text\n", newer), newer


def test_the_log_of_a_container_that_printed_a_nul_is_still_text() -> None:
    assert b"\0" not in syslog(config())(1, b"a\0b\n")
