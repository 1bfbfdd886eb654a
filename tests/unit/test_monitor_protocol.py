"""What crosses between a monitor, its builder and its clients."""

from __future__ import annotations

import marshal
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.store.status import parse_exit, read_exit, write_failure
from bayplan.supervise import frames, settings
from bayplan.supervise.health import judge, render
from bayplan.supervise.launch import HealthCheck, MonitorConfig, MonitorSettings, encode, write_settings
from bayplan.supervise.pump import Keys
from bayplan.supervise.status import Ending, oom_kills

CONFIG = MonitorConfig(
    id="ab" * 32,
    name="keen_hopper",
    directory="/d",
    pid=7,
    settings=MonitorSettings(restart="always", health=HealthCheck(interval=1.5)),
    after_argv=("/bin/true",),
)


def test_both_sides_of_the_configuration_have_the_same_fields() -> None:
    assert list(settings.Config.__annotations__) == list(MonitorConfig._fields)
    assert list(settings.Settings.__annotations__) == list(MonitorSettings._fields)
    assert HealthCheck._fields == settings.HEALTH_FIELDS


def test_the_configuration_arrives_as_it_was_sent() -> None:
    read, write = os.pipe()
    os.write(write, encode(CONFIG))
    os.close(write)
    arrived = settings.load_config(read)
    for field in MonitorConfig._fields:
        if field != "settings":
            assert getattr(arrived, field) == getattr(CONFIG, field), field
    assert arrived.settings.restart == "always"
    assert arrived.settings.health is not None and arrived.settings.health.interval == 1.5


def test_settings_are_replaced_in_one_step_and_read_by_every_version(tmp_path: Path) -> None:
    write_settings(str(tmp_path), MonitorSettings(log_max_files=9))
    assert [path.name for path in tmp_path.iterdir()] == ["monitor.settings"], "no temporary file is left"
    assert (tmp_path / "monitor.settings").stat().st_mode & 0o777 == 0o600
    assert settings.load_settings(str(tmp_path)).log_max_files == 9
    assert marshal.dumps(MonitorSettings()._asdict(), 2), "marshal's version 2 is enough for all fields"


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=300)), max_size=10), st.integers(1, 50))
def test_frames_arrive_whole_however_the_bytes_are_cut(sent: list[tuple[int, bytes]], step: int) -> None:
    wire = b"".join(frames.frame(kind, payload) for kind, payload in sent)
    buffer, arrived = bytearray(), []
    for start in range(0, len(wire), step):
        buffer += wire[start : start + step]
        while (taken := frames.take(buffer)) is not None:
            arrived.append(taken)
    assert arrived == sent


@pytest.mark.parametrize("header", [b"\1\0\0\0\xff\xff\xff\xff", b"\1\0\0\0\0\1\0\1", b"\x09" + bytes(7), b"\0\1" + bytes(6)])
def test_a_header_that_is_none_of_ours_is_refused_before_anything_is_kept(header: bytes) -> None:
    with pytest.raises(frames.Broken):
        frames.take(bytearray(header))


def test_an_ending_reads_back_as_it_was_written(tmp_path: Path) -> None:
    ending = Ending(wait_status=9, started_ns=0, finished_ns=10**9, oom_killed=True)
    status = parse_exit(ending.render(restarts=2, delay=0.5))
    assert (status.exit_code, status.signal, status.oom_killed) == (137, 9, True)
    assert status.restart_at == "1970-01-01T00:00:01.500000000Z"
    assert parse_exit(Ending(3 << 8, 0, 1, False).render(restarts=0, delay=-1)).restart_at is None
    assert read_exit(str(tmp_path)) is None, "none was recorded"
    (tmp_path / "exit").write_text('{"exit_code":')
    assert read_exit(str(tmp_path)) is None, "a power cut has left a piece"
    write_failure(str(tmp_path), "no more room")
    failed = read_exit(str(tmp_path))
    assert failed and failed.error == "no more room" and failed.restart_at is None, "a restart that could not be made is an end too"
    with pytest.raises(Invalid):
        parse_exit(b"[]")


@pytest.mark.parametrize("text", ["low 0\noom 3\noom_kill 2\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"])
def test_the_kernels_count_of_oom_kills_is_read_from_both_kinds_of_cgroup(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    assert oom_kills(str(tmp_path / "file")) == 2
    assert oom_kills(str(tmp_path / "none")) == 0
    assert oom_kills("") == 0


HEALTH = [
    (("starting", 0), {"failed": False, "early": True}, ("healthy", 0)),
    (("starting", 0), {"failed": True, "early": True}, ("starting", 0)),
    (("starting", 0), {"failed": True, "early": False}, ("starting", 1)),
    (("starting", 2), {"failed": True, "early": False}, ("unhealthy", 3)),
    (("healthy", 0), {"failed": True, "early": True}, ("healthy", 1)),
    (("healthy", 2), {"failed": True, "early": False}, ("unhealthy", 3)),
    (("unhealthy", 9), {"failed": True, "early": False}, ("unhealthy", 10)),
    (("unhealthy", 9), {"failed": False, "early": False}, ("healthy", 0)),
]


@pytest.mark.parametrize(("before", "probe", "after"), HEALTH)
def test_a_probe_changes_the_health_as_docker_has_it(
    before: tuple[str, int], probe: dict[str, bool], after: tuple[str, int]
) -> None:
    assert judge(*before, failed=probe["failed"], early=probe["early"], retries=3) == after


def test_what_a_probe_prints_cannot_break_the_health_file() -> None:
    import json

    state = json.loads(render("healthy", 0, [("S", "E", 1, '"}],\n\x1b[2J\0')]))
    assert state["Log"] == [{"Start": "S", "End": "E", "ExitCode": 1, "Output": '"}],\n\x1b[2J\0'}]


@given(st.lists(st.sampled_from([b"\x10", b"\x11", b"a", b"ab"]), max_size=12))
def test_the_detaching_keys_are_found_however_they_arrive(typed: list[bytes]) -> None:
    keys = Keys(b"\x10\x11")
    passed, left = b"", False
    for data in typed:
        some, left = keys.filter(data)
        passed += some
        if left:
            break
    before, found, _ = b"".join(typed).partition(b"\x10\x11")
    assert left == bool(found), "the sequence leaves, and nothing else does"
    assert passed == before if found else before.startswith(passed) and len(before) - len(passed) < 2
