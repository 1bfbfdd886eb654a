"""Splitting output into lines, and the json-file that they go to."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bayplan.supervise.log import PIECE, JsonFile, encode, pieces, timestamp


@given(st.lists(st.binary(max_size=200) | st.just(b"\n") | st.just(b"x" * PIECE), max_size=20))
def test_splitting_loses_nothing_and_every_piece_is_a_line_or_full(chunks: list[bytes]) -> None:
    rest, out = b"", []
    for chunk in chunks:
        done, rest = pieces(rest + chunk)
        out += done
        assert len(rest) <= PIECE, "what is kept back is bounded"
    assert b"".join(out) + rest == b"".join(chunks), "all bytes come out, in order"
    assert all(piece.endswith(b"\n") or len(piece) > PIECE - 4 for piece in out), "a piece is a line or a full one"
    assert all(b"\n" not in piece[:-1] for piece in out), "a newline ends a piece"


def test_an_overlong_line_is_not_cut_inside_a_character() -> None:
    for shift in range(4):
        done, _ = pieces(b"a" * shift + "\U0001f6a2".encode() * PIECE)
        assert all(piece.decode("utf-8") for piece in done), "each piece is valid UTF-8 by itself"


@given(st.binary(max_size=300))
def test_every_output_makes_one_line_of_json_that_reads_back(data: bytes) -> None:
    line = encode(2, data, "T")
    assert line.count(b"\n") == 1 and line.endswith(b"\n"), "one line, whatever is printed"
    assert json.loads(line) == {"log": data.decode("utf-8", "replace"), "stream": "stderr", "time": "T"}


def test_times_have_nine_digits_and_are_utc() -> None:
    assert timestamp(1_795_222_923_000_000_789) == "2026-11-21T01:02:03.000000789Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", timestamp(0))


def test_the_log_is_rotated_by_size_and_only_so_many_files_are_kept(tmp_path: Path) -> None:
    log = JsonFile(str(tmp_path / "json.log"), 1000, 3)
    for number in range(200):
        log.write(1, [b"line %d\n" % number])
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock")
    assert names == ["json.log", "json.log.1", "json.log.2"], "three files, the newest without a number"
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir()), "none is larger than the limit"
    text = "".join((tmp_path / name).read_text() for name in reversed(names))
    numbers = [int(json.loads(line)["log"].split()[1]) for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 200)), "the newest lines, without a gap"


def test_one_file_only_is_begun_anew_when_it_is_full(tmp_path: Path) -> None:
    log = JsonFile(str(tmp_path / "json.log"), 500, 1)
    for number in range(50):
        log.write(1, [b"line %d\n" % number])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["json.log", "json.log.lock"]
    assert "line 49" in (tmp_path / "json.log").read_text()


def test_half_a_line_left_by_a_loss_of_power_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "json.log").write_bytes(b'{"log":"hal')
    JsonFile(str(tmp_path / "json.log"), 1000, 2).write(1, [b"whole\n"])
    assert json.loads((tmp_path / "json.log").read_text().splitlines()[1])["log"] == "whole\n"


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("")
    os.symlink(target, tmp_path / "json.log")
    JsonFile(str(tmp_path / "json.log"), 1000, 2).write(1, [b"line\n"])
    assert target.read_text() == "", "nothing is written through the link"


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    log = JsonFile("/dev/full", 1000, 2)
    log.write(1, [b"lost\n"])
    log.write(1, [b"lost too\n"])
    log.close()
