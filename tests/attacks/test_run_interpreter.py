"""Overwriting the host's interpreter through /proc (CVE-2019-5736), and descriptors and directories that leak (CVE-2024-21626)."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, RUNTIME, Host, digest, digest_of_tree, eventually, interpreter_copy, weakened

WITHOUT_TRAMPOLINE = (
    "kernel/process.py",
    "        linux.execveat(trampoline, words, [os.fsencode(entry) for entry in env])",
    "        for n in range(3, 64):\n            try:\n                os.set_inheritable(n, False)\n            except OSError:\n"
    "                pass\n        os.execve(path, words[1:], dict(e.split('=', 1) for e in env))",
)
DUMPABLE = tuple((f"kernel/{name}.py", "linux.prctl(linux.PR_SET_DUMPABLE, 0)", "pass") for name in ("sandbox", "process"))
SLOW = ("kernel/process.py", "        linux.execveat(tr", "        __import__('time').sleep(0.2)\n        linux.execveat(tr")
INSIDE = (  # who enters is born in the container's pid namespace, and executes the program itself
    ("kernel/sandbox.py", "build.enter(entry, wire), ", "build.enter(entry, wire), pid_namespace=joined.pop(linux.CLONE_NEWPID, -1), "),
    ("kernel/sandbox.py", "program=program, enters=True", "program=program"),
    ("kernel/build.py", "    launch = process.Launch(entry.", "    wire = await_go(wire)\n    launch = process.Launch(entry."),
    ("kernel/build.py", '("enter", "gate", "exec")', '("exec",)'),
)
ENTRIES = ["/proc/self/exe", "/bin/hashbang"]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """An interpreter that only the attacked command runs on: while a monitor ran on it, the kernel itself would keep it from writers."""
    yield interpreter_copy(tmp_path / "python3")


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_an_entry_point_that_is_proc_self_exe_gets_no_file_of_the_host(host: Host, victim: Path, verb: str, entry: str) -> None:
    before, files = digest(victim), digest_of_tree(RUNTIME / "bayplan")
    host.up("target")
    words = ("exec", "target", entry) if verb == "exec" else ("run", *NET, "--name", "started", IMAGE, entry)
    assert host.ran(*words, python=victim).returncode != 0, "there is no program at the end of it"
    kept = host.ran("exec", "target" if verb == "exec" else "started", "cat", "/loader.log")
    assert kept.returncode != 0, f"the image's dynamic linker was never run as the host's interpreter: {kept.stdout!r}"
    assert digest(victim) == before, "the interpreter is as it was"
    assert digest_of_tree(RUNTIME / "bayplan") == files, "and so are all files of the runtime"


@pytest.mark.parametrize("entry", ENTRIES)
def test_without_the_trampoline_that_entry_point_overwrites_the_interpreter(host: Host, victim: Path, tmp_path: Path, entry: str) -> None:
    weak, before = weakened(tmp_path / "weak", WITHOUT_TRAMPOLINE, *INSIDE), digest(victim)
    host.up("target")
    host.ran("exec", "target", entry, python=victim, runtime=weak)
    eventually(lambda: digest(victim) != before, "a descriptor that was kept is written to once the runtime is gone")
    assert victim.read_bytes().startswith(b"OVERWRITTEN"), "so the attack bites"


ENTER = ("exec", "watcher", "true")
BESIDE = ("run", "--rm", *NET, "--pid", "container:watcher", IMAGE, "true")
LOOK = ("kernel/sandbox.py", "            tracing.verify_untraced(joined)", "            pass")


def watched(
    host: Host, victim: Path, *options: str, runtime: Path = RUNTIME, times: int = 25, words: tuple[str, ...] = ENTER, status: int = 0
) -> str:
    """What a container's root has found in /proc while `times` processes were brought in by `words`."""
    host.up("watcher", "watch", options=(*NET, *options))
    eventually(lambda: host.output("watcher"), "it watches")
    for _ in range(times):
        with contextlib.suppress(OSError):  # it cannot be executed any more: it has been overwritten
            killed = {137} if "SYS_PTRACE" in options else set()  # its own processes are the watcher's to kill
            assert host.ran(*words, python=victim, runtime=runtime).returncode in {status, *killed}
    eventually(lambda: host.ran("exec", "watcher", "touch", "/stop").returncode == 0, "it is told to stop")
    eventually(lambda: "end" in host.output("watcher").split(), "it has ended")
    return host.output("watcher")


def test_who_watches_proc_while_others_enter_finds_no_executable_or_directory_of_the_host(host: Host, victim: Path) -> None:
    before, found = digest(victim), watched(host, victim)
    assert digest(victim) == before and "overwritten" not in found, f"nothing could be written to: {found}"
    assert set(found.splitlines()) == {"watching", "end"}, f"and no file or directory of the host's was ever there: {found}"


def test_without_the_dumpable_flag_who_watches_overwrites_the_interpreter(host: Host, victim: Path, tmp_path: Path) -> None:
    weak, before = weakened(tmp_path / "weak", *DUMPABLE, SLOW, *INSIDE), digest(victim)
    assert "overwritten" in watched(host, victim, runtime=weak, times=6), "so the attack bites"
    assert digest(victim) != before


def test_who_watches_with_the_right_to_trace_finds_no_executable_of_the_host_either(host: Host, victim: Path) -> None:
    before, found = digest(victim), watched(host, victim, "--cap-add", "SYS_PTRACE")
    assert digest(victim) == before and str(victim) not in found, "CAP_SYS_PTRACE is for the container's own processes"


def test_who_watches_the_host_s_processes_finds_no_interpreter_that_enters(host: Host, victim: Path) -> None:
    """With `--pid host` it is visible, and protected by its rights and by not being dumpable."""
    before, found = digest(victim), watched(host, victim, "--pid", "host")
    assert digest(victim) == before and str(victim) not in found and "overwritten" not in found, f"{found}"


def test_born_inside_who_enters_is_overwritten_by_who_may_trace(host: Host, victim: Path, tmp_path: Path) -> None:
    weak, before = weakened(tmp_path / "weak", SLOW, *INSIDE), digest(victim)
    assert "overwritten" in watched(host, victim, "--cap-add", "SYS_PTRACE", runtime=weak, times=6), "so the attack bites"
    assert digest(victim) != before


def test_a_container_that_starts_beside_another_is_not_overwritten_by_it(host: Host, victim: Path) -> None:
    before, found = digest(victim), watched(host, victim, words=BESIDE, times=10)
    assert digest(victim) == before and str(victim) not in found and "overwritten" not in found, f"it is not dumpable: {found}"


def test_nothing_starts_beside_who_may_trace(host: Host, victim: Path) -> None:
    before, found = digest(victim), watched(host, victim, "--cap-add", "SYS_PTRACE", words=BESIDE, times=10, status=125)
    assert digest(victim) == before and str(victim) not in found, "it was refused before anything was born there"


def test_without_that_look_who_starts_beside_who_may_trace_is_overwritten(host: Host, victim: Path, tmp_path: Path) -> None:
    weak, before = weakened(tmp_path / "weak", SLOW, LOOK), digest(victim)
    assert "overwritten" in watched(host, victim, "--cap-add", "SYS_PTRACE", runtime=weak, times=6, words=BESIDE), "so the attack bites"
    assert digest(victim) != before


LIST = "for f in /proc/self/fd/*; do echo ${f##*/} $(readlink $f); done"


@pytest.mark.parametrize("options", [(), ("-i",), ("--init",)], ids=["plain", "stdin", "init"])
def test_a_process_has_three_descriptors_whatever_its_caller_has_open(host: Host, tmp_path: Path, options: tuple[str, ...]) -> None:
    """CVE-2024-21626: /proc/self/fd/7 was the host's cgroup directory. The caller leaves dozens open and inheritable."""
    opened = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(30)]
    try:
        inherited = {"pass_fds": opened, "capture_output": True, "timeout": 60, "input": b""}
        enters = tuple(each for each in options if each != "--init")
        started = subprocess.run(host.argv("run", *NET, "--name", "first", *options, IMAGE, "sh", "-c", LIST), **inherited)  # type: ignore
        host.up("second")
        entered = subprocess.run(host.argv("exec", *enters, "second", "sh", "-c", LIST), **inherited)  # type: ignore[call-overload]
    finally:
        for each in opened:
            os.close(each)
    for done in (started, entered):
        lines = dict(line.split(" ", 1) for line in done.stdout.decode().splitlines() if " " in line)
        kept = {number: link for number, link in lines.items() if not link.startswith("/proc/")}
        assert set(kept) == {"0", "1", "2"}, f"nothing but its standard streams: {done}"
        assert all(link.startswith("pipe:") or link == "/dev/null" for link in kept.values()), f"and these lead nowhere: {kept}"


@pytest.mark.parametrize("number", range(3, 24, 4))
def test_a_working_directory_behind_a_descriptor_is_refused_at_start_and_exec(host: Host, number: int) -> None:
    host.up("there")
    for path in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../../..", f"/proc/1/fd/{number}"):
        for words in (("run", "--rm", *NET, "-w", path, IMAGE), ("exec", "-w", path, "there")):
            done = host.ran(*words, "sh", "-c", "busybox pwd; ls ..")
            inside = done.stdout.split(b"\n")[0] in (b"/", b"/proc")  # what does not exist is left out before `..`
            assert done.returncode != 0 or inside, f"no process runs in {path}: {done}"


def test_a_working_directory_that_becomes_a_link_is_resolved_inside(host: Host, tmp_path: Path) -> None:
    """CVE-2024-21626 by exec: the directory of the container's own configuration is swapped for a link by the container."""
    host.up("there", "sh", "-c", f"mkdir /d; ln -s {'../' * 20}{str(tmp_path)[1:]} /d/up; ln -s /proc/self/fd/5 /d/five; exec sleep 1000")
    host.wait("the links are there", lambda: "five" in host.inside("there", "ls", "/d"))
    for link in ("/d/up", "/d/five"):
        done = host.ran("exec", "-w", link, "there", "busybox", "pwd")
        assert done.returncode != 0, f"{link} leads nowhere inside: {done}"


def test_without_the_closing_a_descriptor_leaks_and_the_host_is_reached(host: Host, tmp_path: Path) -> None:
    closing = "    os.closerange(first, kept)\n    linux.close_from(max(first, kept + 1))\n"
    weak = weakened(tmp_path / "weak", ("kernel/process.py", closing, "    return\n"))
    host.up("there")
    (tmp_path / "secret").write_text("the host's")
    opened = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        argv = host.argv("exec", "there", "cat", f"/proc/self/fd/{opened}/secret", runtime=weak)
        done = subprocess.run(argv, pass_fds=[opened], capture_output=True, timeout=60)
    finally:
        os.close(opened)
    assert done.stdout == b"the host's", f"so the attack bites: {done}"
