"""A monitor's life with a real process: output, the end, restarts, bad days."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from monitor_lab import INTERPRETER, RUNTIME, Container, Lab, eventually

from bayplan.errors import Conflict, NotFound
from bayplan.supervise import client
from bayplan.supervise.frames import STDIN
from bayplan.supervise.launch import HealthCheck, MonitorSettings, write_settings
from bayplan.supervise.logs import LogQuery, read_log

PYTHONS = sorted(str(path) for path in Path("/root/.pyenv/versions").glob("3.*/bin/python"))
SUPPORTED = [path for path in PYTHONS if int(path.split("/")[4].split(".")[1]) >= 9] or [INTERPRETER]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as started:
        yield started


def ended(container: Container) -> client.ExitStatus:
    assert container.join() == 0, "what follows the monitor ran in its place"
    status = client.read_exit(container.path)
    assert status is not None, "the end is recorded"
    return status


def lines(container: Container) -> list[tuple[str, str]]:
    return [(line.stream, line.text) for line in read_log(container.path, LogQuery())]


@pytest.mark.parametrize("interpreter", SUPPORTED)
def test_output_and_exit_status_are_recorded_under_every_python(lab: Lab, interpreter: str) -> None:
    container = lab.start("echo out; echo err >&2; printf last; exit 3", interpreter=interpreter)
    status = ended(container)
    assert (status.exit_code, status.signal, status.restart_at) == (3, 0, None)
    assert status.started_at < status.finished_at
    assert sorted(lines(container)) == [("stderr", "err\n"), ("stdout", "last"), ("stdout", "out\n")]
    assert (container.directory / "after").read_text().strip() == str(container.monitor), "the same process cleans up"
    assert not (container.directory / "monitor.error").exists()


def test_a_signal_is_told_from_an_exit_status(lab: Lab) -> None:
    container = lab.start("sleep 1000")
    container.kill(signal.SIGKILL)
    assert ended(container)[:2] == (137, 9)


def test_a_signal_is_sent_through_the_monitor_and_to_nobody_after_the_end(lab: Lab, tmp_path: Path) -> None:
    container = lab.start("trap 'exit 11' USR1; while :; do sleep 0.01; done")
    client.health(container.path)
    time.sleep(0.1)
    client.send_signal(container.path, signal.SIGUSR1)
    assert ended(container).exit_code == 11
    waiting = lab.start(
        "exit 1", name="waiting", settings=restarting("always"), restart_argv=again(tmp_path), streak=10, restarts=10
    )
    eventually(lambda: client.read_exit(waiting.path) is not None, "it has ended, and waits for its restart")
    with pytest.raises(Conflict, match="has ended"):
        client.send_signal(waiting.path, signal.SIGKILL)
    (waiting.directory / "stopped").touch()
    client.notify_stop(waiting.path)


def test_a_first_process_that_ended_before_the_monitor_began_is_not_missed(lab: Lab) -> None:
    for number in range(5):
        assert ended(lab.start("exit 7", name=f"c{number}")).exit_code == 7


def test_orphans_of_the_container_are_reaped(lab: Lab) -> None:
    container = lab.start("(sleep 0.05 & ) ; (sleep 0.05 & ) ; sleep 1000")
    children = Path(f"/proc/{container.monitor}/task/{container.monitor}/children")
    eventually(lambda: len(children.read_text().split()) == 3, "the orphans come to the monitor")
    eventually(lambda: len(children.read_text().split()) == 1, "none stays as a zombie")


def test_a_process_that_keeps_the_pipe_open_does_not_hold_the_end_up(lab: Lab) -> None:
    container = lab.start("sleep 5 & echo $! > /dev/stderr; echo before; exit 0")
    begun = time.monotonic()
    assert ended(container).exit_code == 0
    assert time.monotonic() - begun < 3, "the end does not wait for the pipe"
    os.kill(int(dict(lines(container))["stderr"]), signal.SIGKILL)
    assert ("stdout", "before\n") in lines(container)


def test_a_process_that_floods_the_pipe_after_the_end_does_not_hold_it_up_either(lab: Lab) -> None:
    container = lab.start("yes & echo $! >&2; exit 0")
    begun = time.monotonic()
    ended(container)
    assert time.monotonic() - begun < 6
    assert container.directory.joinpath("json.log").stat().st_size <= 10_000_000


def test_all_output_of_a_process_that_ends_at_once_is_logged(lab: Lab) -> None:
    container = lab.start("seq 1 50000; exit 0")
    ended(container)
    assert [text for _, text in lines(container)] == [f"{number}\n" for number in range(1, 50001)]


def test_a_line_without_an_end_costs_neither_memory_nor_disk(lab: Lab) -> None:
    container = lab.start("head -c 100000000 /dev/zero; sleep 1000", settings=MonitorSettings(log_max_size=1_000_000))
    client.health(container.path)  # answered: everything is loaded
    before = container.memory("Private_Dirty")
    files = [container.directory / f"json.log{suffix}" for suffix in ("", ".1", ".2")]
    eventually(lambda: all(path.exists() for path in files), "the log is rotated", 60)
    time.sleep(0.5)
    assert container.memory("Private_Dirty") < before + 1, "the monitor stays small"
    assert sum(path.stat().st_size for path in container.directory.glob("json.log*")) <= 3_000_000


def test_signals_of_a_session_that_ends_do_not_end_the_monitor(lab: Lab) -> None:
    container = lab.start("sleep 1000")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(container.monitor, number)
    time.sleep(0.3)
    assert container.poll() is None, "it ends with the container only"


def test_what_follows_the_monitor_inherits_nothing_of_it(lab: Lab, tmp_path: Path) -> None:
    report = f"ls /proc/self/fd > {tmp_path}/fds; grep Sig /proc/self/status > {tmp_path}/signals; " + (
        f"cat /proc/self/oom_score_adj > {tmp_path}/oom; pwd > {tmp_path}/cwd"
    )
    ended(lab.start("exit 0", after_argv=("/bin/sh", "-c", report)))
    descriptors = (tmp_path / "fds").read_text().split()
    assert len(descriptors) == 5, "the listing's own, and the control socket, whose end tells who waits"
    ignored = int((tmp_path / "signals").read_text().split("SigIgn:\t")[1].split()[0], 16)
    assert ignored & (1 << 14 | 1 << 0 | 1 << 1 | 1 << 12) == 0, "TERM, HUP, INT and PIPE are as a program expects"
    assert (tmp_path / "oom").read_text() == Path("/proc/self/oom_score_adj").read_text()
    assert (tmp_path / "cwd").read_text() == "/\n"


def restarting(policy: str, limit: int = 0) -> MonitorSettings:
    return MonitorSettings(restart=policy, restart_limit=limit)


def again(directory: Path) -> tuple[str, ...]:
    return ("/bin/sh", "-c", f'echo "$@" > {directory}/again.new; mv {directory}/again.new {directory}/again', "sh")


def test_a_restart_runs_in_the_monitors_place_after_the_delay(lab: Lab, tmp_path: Path) -> None:
    begun = time.monotonic()
    container = lab.start(
        "exit 1", settings=restarting("on-failure", 5), restart_argv=again(tmp_path), restarts=2, streak=2
    )
    assert container.join() == 0
    assert time.monotonic() - begun >= 0.4, "the third short life in a row waits 0.4 s"
    assert (tmp_path / "again").read_text() == "3 3\n", "both counts are passed on"
    status = client.read_exit(container.path)
    assert status is not None and status.restarts == 3 and status.restart_at is not None
    assert not (container.directory / "after").exists(), "nothing is cleaned up in between"


def test_a_user_who_stopped_the_container_before_its_end_wins(lab: Lab, tmp_path: Path) -> None:
    container = lab.start("sleep 1000", settings=restarting("always"), restart_argv=again(tmp_path))
    (container.directory / "stopped").touch()
    container.kill(signal.SIGTERM)
    ended(container)
    assert (container.directory / "after").exists() and not (tmp_path / "again").exists()


def test_a_user_who_stops_the_container_while_it_waits_wins_at_once(lab: Lab, tmp_path: Path) -> None:
    container = lab.start("exit 1", settings=restarting("always"), restart_argv=again(tmp_path), streak=10, restarts=10)
    eventually(lambda: client.read_exit(container.path) is not None, "the end is recorded")
    before = client.read_exit(container.path)
    assert before is not None and before.restart_at is not None, "it waits"
    assert container.memory() < 8 and container.poll() is None
    (container.directory / "stopped").touch()
    client.notify_stop(container.path)
    after = ended(container)
    assert after.restart_at is None and after.exit_code == 1
    assert (container.directory / "after").exists() and not (tmp_path / "again").exists()


def test_the_policy_can_change_while_the_container_runs(lab: Lab, tmp_path: Path) -> None:
    container = lab.start("sleep 1000", settings=restarting("no"), restart_argv=again(tmp_path))
    write_settings(container.path, restarting("always"))
    client.reload(container.path)
    container.kill()
    container.join()
    assert (tmp_path / "again").exists()


def test_a_cleaner_that_cannot_be_executed_leaves_the_status_and_a_note(lab: Lab) -> None:
    container = lab.start("exit 4", after_argv=("/nonexistent/python",))
    assert container.join() == 1
    status = client.read_exit(container.path)
    assert status is not None and status.exit_code == 4
    assert "/nonexistent/python" in (container.directory / "monitor.error").read_text() or (
        "FileNotFoundError" in (container.directory / "monitor.error").read_text()
    )


def test_an_oom_kill_is_recorded(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "events").write_text("oom 0\noom_kill 1\n")
    container = lab.start("sleep 1000", oom_file=str(tmp_path / "events"))
    client.health(container.path)  # answered: the count at the start has been taken
    (tmp_path / "events").write_text("oom 1\noom_kill 2\n")
    container.kill()
    assert ended(container).oom_killed
    calm = lab.start("exit 0", name="calm", oom_file=str(tmp_path / "events"), restarts=1)
    assert not ended(calm).oom_killed, "kills of an earlier life do not count"


def test_a_state_root_with_a_path_of_200_bytes_serves_its_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    with Lab(deep) as lab:
        container = lab.start("sleep 1000")
        client.resize(container.path, 1, 1)
        assert (container.directory / "monitor.sock").stat().st_mode & 0o777 == 0o600


def test_a_container_whose_monitor_is_gone_is_named_as_such(lab: Lab) -> None:
    container = lab.start("exit 0")
    ended(container)
    with pytest.raises(NotFound, match="not running"):
        client.wait(container.path)


def test_the_end_of_a_wait_for_the_cleaning_is_the_end_of_the_cleaner(lab: Lab, tmp_path: Path) -> None:
    def started(name: str) -> Container:
        cleaner = ("/bin/sh", "-c", f"sleep 1.5; touch {tmp_path}/{name}.cleaned")
        return lab.start("sleep 0.7; exit 5", name=name, after_argv=cleaner)

    assert client.wait(started("one").path).exit_code == 5
    assert not (tmp_path / "one.cleaned").exists(), "the status comes at once"
    assert client.wait(started("two").path, cleaned=True).exit_code == 5
    assert (tmp_path / "two.cleaned").exists(), "by then everything is removed"
    late = started("three")
    eventually(lambda: client.read_exit(late.path) is not None, "it has ended")
    time.sleep(0.1)
    assert client.wait(late.path, cleaned=True).exit_code == 5, "who asks while it is cleaned up hears the same"
    assert (tmp_path / "three.cleaned").exists()


def test_the_exit_record_is_json_that_a_person_can_read(lab: Lab) -> None:
    container = lab.start("exit 2")
    ended(container)
    record = json.loads((container.directory / "exit").read_text())
    assert record["exit_code"] == 2 and record["oom_killed"] is False
    assert (container.directory / "exit").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("interpreter", SUPPORTED)
def test_a_monitor_lives_on_when_its_runtime_is_removed_and_loads_nothing_more(
    lab: Lab, tmp_path: Path, interpreter: str
) -> None:
    runtime = tmp_path / "runtime"
    shutil.copytree(Path(RUNTIME) / "bayplan" / "supervise", runtime / "bayplan" / "supervise")
    (runtime / "bayplan" / "__init__.py").touch()
    container = lab.start(
        "read line; echo bye; echo err >&2; exit 6",
        stdin=True,
        interpreter=interpreter,
        runtime=str(runtime),
        settings=MonitorSettings(health=HealthCheck(interval=0.05)),
        health_argv=("/bin/echo", "fine"),
    )
    client.health(container.path)
    shutil.rmtree(runtime)
    eventually(lambda: b"healthy" in client.health(container.path), "it probes")
    write_settings(container.path, MonitorSettings(health=HealthCheck(interval=0.05), restart="no"))
    client.reload(container.path)
    session = lab.attach(container, stdin=True)
    session.send(STDIN, b"go\n")
    assert client.wait(container.path, cleaned=True).exit_code == 6
    container.join()
    assert sorted(lines(container)) == [("stderr", "err\n"), ("stdout", "bye\n")]
    assert not (container.directory / "monitor.error").exists()


def test_the_monitor_loads_builtin_and_c_modules_only() -> None:
    program = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {RUNTIME!r}); import bayplan.supervise.watch;"
        "print(*sorted(name for name in set(sys.modules) - before))"
    )
    loaded = subprocess.run([INTERPRETER, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    foreign = {name for name in loaded.stdout.split() if not name.startswith("bayplan")}
    allowed = {"__future__", "_json", "_signal", "_socket", "errno", "fcntl", "marshal", "posix", "select", "time"}
    assert foreign <= allowed, "each further module costs memory in every container's monitor"


def test_the_lock_that_says_there_is_a_monitor_lasts_as_long_as_it(lab: Lab, tmp_path: Path) -> None:
    def locked() -> dict[str, int]:
        lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {"lock_fd": lock}

    container = lab.start("read line", stdin=True, sockets=locked)
    client.replace_ports(container.path, ())
    with open(tmp_path / "lock") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        container.kill()
        container.join()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
