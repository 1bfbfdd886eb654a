"""What containers use and what runs in them, by the command line: stats and top."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest
from cli_lab import IMAGE, Lab, Typist, lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BUSY = "while :; do :; done"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("cli")) as found:
        found.ok("run", "-d", "--name", "busy", "--memory", "64m", "--network", "none", IMAGE, "sh", "-c", BUSY)
        found.ok("run", "-d", "--name", "idle", "--user", "12345", IMAGE, "sleep", "1000")
        found.ok("create", "--name", "made", IMAGE)
        try:
            yield found
        finally:
            found.run("rm", "-f", "busy", "idle", "made")


def documents(output: str) -> dict[str, dict[str, str]]:
    return {each["Name"]: each for each in map(json.loads, output.splitlines())}


def test_stats_shows_once_what_the_running_containers_use(host: Lab) -> None:
    heading, *rows = host.ok("stats", "--no-stream").splitlines()
    assert re.split(r" {2,}", heading) == [
        "CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS",
    ], "Docker's columns"  # fmt: skip
    assert [row.split()[1] for row in rows] == ["idle", "busy"], "the youngest first, and none that does not run"


def test_stats_has_dockers_members_and_their_forms(host: Lab) -> None:
    found = documents(host.ok("stats", "--no-stream", "--format", "json"))
    busy, idle = found["busy"], found["idle"]
    assert set(busy) == {"BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"}
    assert float(busy["CPUPerc"].rstrip("%")) > 5 > float(idle["CPUPerc"].rstrip("%")), "one computes, the other sleeps"
    assert re.fullmatch(r"[\d.]+[KM]iB / 64MiB", busy["MemUsage"]) and busy["NetIO"] == "0B / 0B", "its limit, and it has no network"
    assert idle["PIDs"] == "1" and re.fullmatch(r"[\d.]+[KM]iB / [\d.]+[GT]iB", idle["MemUsage"]), "without a limit it is the host's"


def test_stats_names_containers_and_shows_nothing_used_by_one_that_does_not_run(host: Lab) -> None:
    made = documents(host.ok("stats", "--no-stream", "--format", "json", "made"))["made"]
    assert (made["CPUPerc"], made["MemUsage"], made["PIDs"]) == ("0.00%", "0B / 0B", "0")
    assert len(host.ok("stats", "-a", "--no-stream", "--format", "{{.Name}}").split()) == 3, "--all has them, too"
    full = host.ok("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "idle").strip()
    assert len(full) == 64, "whole ids"
    assert host.run("stats", "--no-stream", "nobody").returncode == 1


def test_stats_goes_on_until_it_is_interrupted(host: Lab) -> None:
    process = subprocess.Popen(host.command("stats", "--format", "{{.Name}}", "idle"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == [b"idle\n"] * 2, "again and again"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b""), "that is no failure"


def test_stats_at_a_terminal_replaces_what_it_showed(host: Lab) -> None:
    typist = Typist(host.command("stats", "idle"))
    typist.expect(b"\x1b[H\x1b[2J")
    typist.expect(b"idle")
    typist.expect(b"\x1b[H\x1b[2J")
    typist.type(b"\x03")
    assert typist.end() == 0


def test_top_shows_the_processes_as_ps_would(host: Lab) -> None:
    pid = host.ok("inspect", "--format", "{{.State.Pid}}", "idle").strip()
    for options in ("", "-ef", "aux", "-o pid,ppid,nice=N,comm"):
        heading, row = host.ok("top", "idle", *options.split()).splitlines()
        theirs = subprocess.run(["ps", *(options or "-ef").split()], capture_output=True, text=True, check=False)
        if theirs.returncode == 0:
            assert heading.split() == theirs.stdout.splitlines()[0].split(), f"the columns of ps {options}"
        assert pid in row.split(), "its process, by the host's number"
    assert host.ok("top", "idle").splitlines()[1].split()[0] == "12345", "a user that the host does not know is a number"
    assert host.ok("top", "idle", "-eo", "args").splitlines() == ["COMMAND", "sleep 1000"]


@pytest.mark.parametrize(
    ("options", "message"), [(("-o", "pid,nothing"), "no column 'nothing'"), (("--forest",), "'--forest' is not known")]
)
def test_top_refuses_what_it_does_not_know(host: Lab, options: tuple[str, ...], message: str) -> None:
    done = host.run("top", "idle", *options)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
