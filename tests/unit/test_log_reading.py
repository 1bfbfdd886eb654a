"""Reading a log back: its end, a span of time, across rotation, as it grows."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bayplan.supervise.log import JsonFile
from bayplan.supervise.logs import LogQuery, follow_log, parse_line, read_log


def fill(directory: Path, count: int, size: int = 1000, files: int = 100) -> None:
    log = JsonFile(str(directory / "json.log"), size, files)
    for number in range(count):
        log.write(1 + number % 2, [b"line %d\n" % number])
    log.close()


def texts(directory: Path, query: LogQuery) -> list[str]:
    return [line.text for line in read_log(str(directory), query)]


def test_a_container_without_a_log_has_no_lines(tmp_path: Path) -> None:
    assert texts(tmp_path, LogQuery()) == []


def test_lines_of_all_files_come_in_the_order_of_writing(tmp_path: Path) -> None:
    fill(tmp_path, 50)
    assert len(list(tmp_path.glob("json.log.[0-9]*"))) > 3, "the log was rotated"
    lines = list(read_log(str(tmp_path), LogQuery()))
    assert [line.text for line in lines] == [f"line {number}\n" for number in range(50)]
    assert [line.stream for line in lines[:2]] == ["stdout", "stderr"]


@pytest.mark.parametrize("tail", [0, 1, 7, 30, 49, 50, 1000])
def test_the_tail_is_the_last_lines_wherever_the_files_end(tmp_path: Path, tail: int) -> None:
    fill(tmp_path, 50)
    assert texts(tmp_path, LogQuery(tail=tail)) == [f"line {number}\n" for number in range(max(0, 50 - tail), 50)]


def test_the_tail_of_a_file_larger_than_a_block_is_found(tmp_path: Path) -> None:
    fill(tmp_path, 3000, size=10_000_000)
    assert texts(tmp_path, LogQuery(tail=2000)) == [f"line {number}\n" for number in range(1000, 3000)]


def test_only_lines_of_the_span_of_time_are_given(tmp_path: Path) -> None:
    line = '{"log":"%s\\n","stream":"stdout","time":"1970-01-01T00:00:0%d.000000000Z"}\n'
    (tmp_path / "json.log").write_text("".join(line % (second, second) for second in range(6)))
    assert texts(tmp_path, LogQuery(since_ns=2 * 10**9, until_ns=4 * 10**9)) == ["2\n", "3\n", "4\n"]


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    good = b'{"log":"good\\n","stream":"stdout","time":"T"}\n'
    (tmp_path / "json.log").write_bytes(b'{"log":"hal\n' + b"\0" * 100 + b"\n[]\n3\n{}\n" + good + b'{"log":1,"stream":')
    assert texts(tmp_path, LogQuery()) == ["good\n"]
    assert parse_line(b'{"log":1,"stream":"stdout","time":"T"}') is None, "text is text"


def test_following_gives_every_line_once_while_the_log_is_rotated(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    finished = threading.Event()

    def write() -> None:
        log = JsonFile(str(tmp_path / "json.log"), 20_000, 50)
        for number in range(10, 9000):
            log.write(1, [b"line %d\n" % number])
        log.close()
        finished.set()

    writer = threading.Thread(target=write)
    writer.start()
    before = len(os.listdir("/proc/self/fd"))
    lines = [line.text for line in follow_log(str(tmp_path), LogQuery(), lambda: not finished.is_set())]
    writer.join()
    assert lines == [f"line {number}\n" for number in range(9000)], "none lost, none twice"
    assert len(os.listdir("/proc/self/fd")) <= before, "no descriptor is left"


def test_following_ends_with_the_container_and_a_follower_that_leaves_leaves_no_descriptor(tmp_path: Path) -> None:
    fill(tmp_path, 30)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        next(follow_log(str(tmp_path), LogQuery(), lambda: True))
    assert len(os.listdir("/proc/self/fd")) == before, "followers that vanish cost nothing"
    assert len(list(follow_log(str(tmp_path), LogQuery(), lambda: False))) == 30
