"""Mappings of ids, as the kernel is told them."""

from __future__ import annotations

import pytest

from bayplan.errors import Invalid
from bayplan.kernel.idmap import map_lines
from bayplan.model.runtime import IdMapping


def test_a_mapping_is_written_as_the_kernel_reads_it() -> None:
    lines = map_lines((IdMapping(0, 100000, 1000), IdMapping(1000, 0, 1)))
    assert lines == b"0 100000 1000\n1000 0 1\n", "container, host and size, a range a line"
    assert map_lines((IdMapping(0, 0, (1 << 32) - 1),)) == b"0 0 4294967295\n", "every id there is"


@pytest.mark.parametrize(
    ("mappings", "words"),
    [
        ((), "empty"),
        ((IdMapping(0, 0, 0),), "0:0:0"),
        ((IdMapping(-1, 0, 1),), "-1:0:1"),
        ((IdMapping(0, 1 << 32, 1),), "range"),
        ((IdMapping(1, 0, (1 << 32) - 1),), "range"),
        ((IdMapping(0, 0, 10), IdMapping(9, 100, 1)), "container ids in common"),
        ((IdMapping(0, 100, 10), IdMapping(50, 109, 1)), "host ids in common"),
        (tuple(IdMapping(n, n, 1) for n in range(341)), "341"),
    ],
)
def test_what_is_no_mapping_is_refused_by_name(mappings: tuple[IdMapping, ...], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        map_lines(mappings)
    assert words in str(refused.value), "the error names the range"
