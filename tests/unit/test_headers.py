"""An archive's headers say everything, and the same thing in the same bytes for ever."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.store import tar
from bayplan.store.headers import header
from bayplan.store.tar import Entry, Stream

PLAIN = Entry(b"etc/passwd", tar.REGULAR, 0o644, 0, 0, 0, 0, b"", (0, 0), ())

ENTRIES = (
    PLAIN,
    PLAIN._replace(path=b"etc", kind=tar.DIRECTORY, mode=0o1777, mtime=1_600_000_000_123_456_789),
    PLAIN._replace(path=b"n" * 300, uid=3_000_000, gid=4_000_000_000, size=9 << 30, mtime=1_600_000_000_000_000_000),
    PLAIN._replace(path=b"\xff\n", kind=tar.SYMBOLIC_LINK, link=b"t" * 200),
    PLAIN._replace(path=b"null", kind=tar.CHARACTER, device=(1, 3)),
    PLAIN._replace(path=b"caps", xattrs=(("security.capability", bytes(range(20))), ("user.x", b"\0=\n"))),
)


def test_headers_are_the_same_bytes_in_every_release() -> None:
    """A layer's diff_id is found again by packing it again: a change here would lose every image that was made before it."""
    found = hashlib.sha256(b"".join(map(header, ENTRIES))).hexdigest()
    assert found == "294b88facb32a08135bb43ad652679426475a328d79a6befaa39719c5d3ae089"


@given(
    st.builds(
        Entry,
        path=st.binary(min_size=1, max_size=4095).filter(lambda path: b"\0" not in path and path[-1:] != b"/"),
        kind=st.sampled_from("0123456"),
        mode=st.integers(0, 0o7777),
        uid=st.integers(0, tar.ID_LIMIT),
        gid=st.integers(0, tar.ID_LIMIT),
        size=st.integers(0, tar.SIZE_LIMIT),
        mtime=st.integers(0, tar.TIME_LIMIT * 1_000_000_000),
        link=st.binary(max_size=4095).filter(lambda link: b"\0" not in link),
        device=st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)),
        xattrs=st.dictionaries(st.text("abc.é", min_size=1), st.binary(max_size=300), max_size=3).map(lambda found: tuple(found.items())),
    )
)
def test_what_is_read_of_a_header_is_what_was_written(entry: Entry) -> None:
    entry = entry._replace(size=entry.size if entry.kind == tar.REGULAR else 0)
    entry = entry._replace(device=entry.device if entry.kind in (tar.CHARACTER, tar.BLOCK) else (0, 0))
    data = header(entry)
    assert len(data) % 512 == 0
    read = next(tar.entries(Stream(iter([data]), seen=lambda chunk: None, limit=1 << 30)))
    if entry.kind == tar.DIRECTORY:
        read = read._replace(path=read.path[:-1])
    assert read._replace(xattrs=tuple(sorted(read.xattrs))) == entry._replace(xattrs=tuple(sorted(entry.xattrs)))


def test_python_reads_the_same_of_it() -> None:
    entry = ENTRIES[5]._replace(path=b"d/" + b"f" * 200, uid=5_000_000)
    with tarfile.open(fileobj=io.BytesIO(header(entry) + tar.end())) as file:
        found = file.getmembers()[0]
    assert (found.name, found.uid) == ("d/" + "f" * 200, 5_000_000)


def test_more_attributes_than_a_reader_takes_are_an_error() -> None:
    with pytest.raises(Invalid, match="over the limit"):
        header(PLAIN._replace(xattrs=tuple((f"user.{number}", bytes(65536)) for number in range(17))))
