"""Records that are truncated, older, newer or half written, and a machine that has been rebooted in between."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, Host, eventually

from bayplan.store import status

FILES = {
    "start": ("started",),
    "end": ("exit", "stopped", "health"),
    "rest": ("config.json", "monitor.settings", "hosts", "json.log", "monitor.sock"),
}
STARTED = {"pid": 1, "pid_start": 1, "monitor": 1, "monitor_start": 1, "boot_id": "x", "at": 1, "restarts": 0}
DAMAGES = {
    "gone": None,
    "empty": b"",
    "half": b'{"pid": 12, "pid_st',
    "binary": bytes(range(256)),
    "list": b"[1, 2]",
    "older": b'{"pid": 12}',
    "newer": json.dumps({**STARTED, "exit_code": 1, "something_new": {"a": 1}}).encode(),
    "wrong types": json.dumps({**dict.fromkeys(STARTED, "x"), "exit_code": "x", "log": 1}).encode(),
    "huge": json.dumps({**STARTED, "pid": 1 << 80, "at": 1 << 80, "exit_code": 1 << 80}).encode(),
    "nested": b"[" * 100_000,
}
COMMANDS = (("ps", "-a"), ("inspect", "hurt"), ("logs", "hurt"), ("top", "hurt"), ("stop", "-t", "0", "hurt"), ("start", "hurt"))


def hurt(host: Host, names: tuple[str, ...], damage: str) -> None:
    for name in names:
        path = host.directory("hurt") / name
        path.unlink(missing_ok=True)
        content = DAMAGES[damage]
        if content is not None:
            path.write_bytes(content)


@pytest.mark.parametrize("files", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_of_an_ended_container_are_an_error_or_mended_and_it_can_be_removed(host: Host, damage: str, files: str) -> None:
    host.up("hurt", "sh", "-c", "echo said; exec sleep 1000")
    host.command("kill", "hurt")
    host.command("wait", "hurt")
    hurt(host, FILES[files], damage)
    for words in COMMANDS:
        host.ran(*words, timeout=30)  # fails on a traceback
    assert "hurt" in host.command("ps", "-a", "--format", "{{.Names}}"), "it is still known"
    done = host.ran("rm", "-f", "hurt", timeout=30)
    assert done.returncode == 0, f"it can be removed: {done}"


@pytest.mark.parametrize("damage", ["gone", "half", "newer"])
def test_damaged_files_of_a_running_container_do_not_keep_it_from_being_removed(host: Host, damage: str) -> None:
    host.up("hurt")
    process = host.first("hurt")
    hurt(host, (*FILES["end"], *FILES["rest"][:-1]), damage)
    for words in COMMANDS[:3]:
        host.ran(*words, timeout=30)
    assert host.ran("rm", "-f", "hurt", timeout=30).returncode == 0, "it can be removed"
    eventually(lambda: zombie(process), "and nothing of it runs on")


def test_a_running_container_whose_start_is_no_longer_recorded_can_be_removed(host: Host) -> None:
    host.up("hurt")
    process = host.first("hurt")
    hurt(host, FILES["start"], "gone")
    try:
        assert host.ran("rm", "-f", "hurt", timeout=8).returncode == 0, "its monitor and its control group know it"
        assert zombie(process), "and nothing of it runs on"
    finally:
        if not zombie(process):
            os.kill(process, signal.SIGKILL)
            eventually(lambda: not (host.directory("hurt") / "lock").exists() or not held(host), "its monitor has ended")


def held(host: Host) -> bool:
    from bayplan.store import locks

    return locks.container_is_held(str(host.directory("hurt")))


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


# the database


@pytest.fixture
def copied(host: Host, tmp_path: Path) -> Iterator[Path]:
    """A copy of the state's records, in a state of its own with the same directories."""
    host.command("create", *NET, "--name", "kept", IMAGE, "sleep")
    state = tmp_path / "state"
    # By another process: whoever closes a file that SQLite has open in the same process drops its locks (sqlite.org/howtocorrupt.html,
    # 2.2), and a command that starts then truncates the index that this process has mapped: a bus error, some time later.
    subprocess.run(["cp", "-a", host.path, state], check=True)
    yield state


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scribble(path: Path) -> None:
    with open(path, "r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(512))


def sql(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def settled(path: Path) -> None:
    """The log of the last changes is in the file itself, so that a damage of it counts."""
    sql(path, "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA journal_mode=DELETE")


BREAK = {
    "truncated": cut,
    "empty header": lambda path: path.write_bytes(b"\0" * 4096),
    "scribbled": scribble,
    "newer": lambda path: sql(path, "PRAGMA user_version=99"),
    "negative": lambda path: sql(path, "PRAGMA user_version=-1"),
    "without a table": lambda path: sql(path, "PRAGMA foreign_keys=OFF", "DROP TABLE container"),
    "half a record": lambda path: sql(path, "UPDATE container SET document = substr(document, 1, 20)"),
    "no record": lambda path: sql(path, "UPDATE container SET document = ''"),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "another program's": lambda path: (path.unlink(), sql(path, "CREATE TABLE container (a)", "CREATE TABLE mine (b)")),
}


def contents(state: Path) -> set[str]:
    return {str(path.relative_to(state)) for path in state.rglob("*") if "db.sqlite" not in path.name and "tmp" not in path.parts}


@pytest.mark.parametrize("how", BREAK)
def test_damaged_records_are_one_clear_error_and_nothing_is_deleted_on_doubt(host: Host, copied: Path, how: str) -> None:
    database = copied / "db.sqlite"
    settled(database)
    BREAK[how](database)
    before = contents(copied)
    for words in (
        ("ps", "-a"),
        ("images",),
        ("rm", "-f", "kept"),
        ("image", "prune", "-a", "-f"),
        ("run", "--rm", *NET, IMAGE, "true"),
        ("boot",),
    ):
        done = host.ran("--root", str(copied), *words)
        assert done.stderr.count(b"\n") <= 2, f"{words}: at most a line or two: {done}"
    lost = before - contents(copied)
    mine = {each for each in lost if each.split("/")[0] in ("layers", "blobs", "chains", "l", "volumes")}
    assert not mine, f"images, layers and volumes are there for who mends the records: {sorted(mine)[:5]}"


@pytest.mark.parametrize("log", ["cut", "noise", "gone"])
def test_a_log_of_changes_that_is_damaged_loses_no_older_record(host: Host, copied: Path, log: str) -> None:
    database = copied / "db.sqlite"
    settled(database)
    wal = copied / "db.sqlite-wal"
    if log != "gone":
        wal.write_bytes(os.urandom(9000) if log == "noise" else b"\x37\x7f\x06\x82")
    (copied / "db.sqlite-shm").write_bytes(os.urandom(32768))
    assert "kept" in host.ran("--root", str(copied), "ps", "-a").stdout.decode(), "what was settled is read"


# a reboot


def test_after_a_reboot_a_recorded_number_is_nobody(host: Host) -> None:
    """podman#22431, #27829: numbers, start times even, come again; only the boot id tells."""
    host.up("before", options=(*NET, "--restart", "always"))
    directory = host.directory("before")
    started = status.read_started(str(directory))
    assert started is not None
    os.kill(started.monitor, signal.SIGKILL)
    os.kill(started.pid, signal.SIGKILL)
    with subprocess.Popen(["sleep", "1000"]) as other:
        again = started._replace(
            pid=other.pid, pid_start=status.start_time(other.pid), monitor=other.pid, monitor_start=status.start_time(other.pid)
        )
        status.write_file(f"{directory}/started", json.dumps(again._replace(boot_id="another-boot")._asdict()))
        assert host.command("ps", "-q") == "", "what ran in another boot does not run"
        for words in (("kill", "before"), ("stop", "-t", "0", "before"), ("exec", "before", "true"), ("top", "before")):
            host.ran(*words)
            assert other.poll() is None, f"{words}: and nothing is done to whoever has its number now"
        host.ran("start", "before")
        assert host.inside("before", "echo", "well") == "well\n", "it can be started again"
        assert other.poll() is None
        now = status.read_started(str(directory))
        assert now is not None
        status.write_file(f"{directory}/started", json.dumps(now._replace(boot_id="another-boot")._asdict()))
        assert host.command("ps", "-q") == "", "the boot id alone decides, so the test bites"
        status.write_file(f"{directory}/started", json.dumps(now._asdict()))
        os.kill(other.pid, signal.SIGKILL)
        host.ran("rm", "-f", "before")
