from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.model import units
from bayplan.model.node import Node


@pytest.mark.parametrize(
    ("text", "expected"),
    [(0, 0), (5, 5), ("5", 5), ("5b", 5), ("1k", 1024), ("1KB", 1024), ("512m", 512 << 20), ("1.5g", 3 << 29), ("2 GiB", 2 << 30)],
)
def test_sizes_are_multiples_of_1024(text: object, expected: int) -> None:
    assert units.size(Node(text, "x")) == expected, "a size is bytes"


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1 2", "1e3", True, None, 1.5, [], "9" * 30, "99999999999p"])
def test_what_is_no_size_is_refused_with_its_place(text: object) -> None:
    with pytest.raises(Invalid, match=r"services\.web\.mem_limit"):
        units.size(Node(text, "services.web.mem_limit"))


@pytest.mark.parametrize(
    ("text", "expected"), [("10s", 10 * 10**9), ("1m30s", 90 * 10**9), ("500ms", 5 * 10**8), ("1.5h", 5400 * 10**9), ("0", 0), (0, 0)]
)
def test_durations_are_nanoseconds(text: object, expected: int) -> None:
    assert units.duration(Node(text, "x")) == expected, "a duration is nanoseconds"


@pytest.mark.parametrize("text", ["", "10", 10, "s", "10 s", "-1s", "1y", True, None, "1s1"])
def test_a_duration_without_a_unit_is_refused(text: object) -> None:
    with pytest.raises(Invalid, match="x: "):
        units.duration(Node(text, "x"))


@pytest.mark.parametrize(("text", "expected"), [(1, 10**9), ("0.5", 5 * 10**8), (1.5, 15 * 10**8), (0.1, 10**8), ("0.000000001", 1)])
def test_cpus_are_nano_cpus(text: object, expected: int) -> None:
    assert units.cpus(Node(text, "x")) == expected, "one CPU is 10^9"


@given(st.integers(0, 10**18))
def test_durations_and_cpus_are_read_back_from_their_texts(value: int) -> None:
    assert units.duration(Node(units.duration_text(value), "x")) == value, "a duration's text is exact"
    small = value % 10**14
    assert units.cpus(Node(units.cpus_text(small), "x")) == small, "a CPU count's text is exact"
