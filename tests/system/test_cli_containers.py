"""Containers by the command line, for real: run, exec, logs, lists, ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, Typist, lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("cli")) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_left(host: Lab) -> Iterator[None]:
    yield
    for container in host.ids():
        host.run("rm", "-f", "-v", container)


def test_a_foreground_container_gives_its_output_and_its_exit_status_and_is_gone(host: Lab) -> None:
    done = host.run("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n"), "each stream comes by its own way"
    assert host.ids() == [], "--rm leaves nothing"


def test_a_foreground_container_without_rm_stays_with_its_exit_status_and_log(host: Lab) -> None:
    assert host.run("run", "--name", "once", IMAGE, "sh", "-c", "echo hello; exit 4").returncode == 4
    assert host.ok("ps", "-a", "--format", "{{.Names}} {{.State}} {{.ExitCode}}") == "once exited 4\n"
    assert host.ok("logs", "once") == "hello\n" and host.ok("wait", "once") == "4\n"


def test_standard_input_reaches_the_container_and_its_end_too(host: Lab) -> None:
    data = bytes(range(256)) * 4000
    done = subprocess.run(host.command("run", "--rm", "-i", IMAGE, "cat"), input=data, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, data), "every byte, in order, and the end of file"
    assert host.ok("run", "--rm", IMAGE, "cat", stdin=b"not asked for") == "", "without -i there is nothing to read"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["/no/such"], 127, "/no/such"),
        (["nosuch"], 127, "nosuch"),
        (["/etc"], 126, "/etc"),
        (["sh", "-c", "exit 200"], 200, ""),
        (["sh", "-c", "exit 125"], 125, ""),
    ],
)
def test_the_exit_status_says_whose_error_it_was(host: Lab, command: list[str], code: int, message: str) -> None:
    done = host.run("run", "--rm", IMAGE, *command)
    assert done.returncode == code and message in done.stderr
    assert (done.stderr.count("\n") == 1) == bool(message), "one line where it is ours, none where it is the command's"
    assert host.ids() == [], "--rm leaves nothing, however it ended"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "lots"], "--memory: "),
        (["-p", "99999:80"], "--publish: "),
        (["-v", "~/x:/x"], "'~' is nobody's home"),
        (["--network", "nowhere"], "nowhere"),
        (["--user", "nobody-here"], "nobody-here"),
        (["--pull", "never", "--name", "nn"], ""),
    ],
)
def test_an_error_of_ours_is_125_and_leaves_nothing(host: Lab, options: list[str], message: str) -> None:
    done = host.run("run", "--rm", *options, "missing:1" if "never" in options else IMAGE, "true")
    assert done.returncode == 125 and done.stderr.startswith("bayplan: ") and message in done.stderr, done.stderr
    assert host.ids() == [], "what could not be started is not there"


def test_a_detached_container_prints_its_id_and_has_docker_columns(host: Lab) -> None:
    identity = host.ok("run", "-d", "--name", "web", "-p", "127.0.0.1:18431:80", "-l", "tier=front", IMAGE, "sleep", "100").strip()
    assert re.fullmatch("[0-9a-f]{64}", identity)
    heading, line = host.ok("ps").splitlines()
    assert re.split(r"\s{3,}", heading) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    cells = re.split(r"\s{3,}", line)
    assert cells[:3] == [identity[:12], IMAGE, '"sleep 100"'] and cells[4].startswith("Up ")
    assert cells[5:] == ["127.0.0.1:18431->80/tcp", "web"]
    assert host.ok("port", "web") == "80/tcp -> 127.0.0.1:18431\n" and host.ok("port", "web", "80/tcp") == "127.0.0.1:18431\n"
    assert host.ok("ps", "-q", "--no-trunc").strip() == identity
    (document,) = map(json.loads, host.ok("ps", "--format", "json").splitlines())
    assert (document["Names"], document["Labels"], document["State"]) == ("web", "tier=front", "running")


def test_filters_of_ps_choose(host: Lab) -> None:
    for name, label in (("one", "a=1"), ("two", "a=2")):
        host.ok("run", "-d", "--name", name, "-l", label, IMAGE, "sleep", "100")
    host.ok("create", "--name", "three", "-l", "a=1", IMAGE)
    identity = host.ok("ps", "-q", "--filter", "name=one").strip()

    def names(*filters: str) -> list[str]:
        words = [word for text in filters for word in ("--filter", text)]
        return sorted(host.ok("ps", "--format", "{{.Names}}", *words).split())

    assert names() == ["one", "two"], "without -a only those that run"
    assert names("label=a=1") == ["one"] and names("label=a") == ["one", "two"] and names("label=a=1", "label=a=2") == []
    assert names("status=created") == ["three"] and names("status=created", "status=running") == ["one", "three", "two"]
    assert names(f"id={identity}") == ["one"] and names("name=t") == ["two"] and names("name=^two$") == ["two"]
    assert names("network=bridge") == ["one", "two"] and names(f"ancestor={IMAGE}") == ["one", "two"] and names("ancestor=other") == []
    assert host.ok("ps", "-n", "1", "--format", "{{.Names}}") == "three\n" == host.ok("ps", "-l", "--format", "{{.Names}}")


def test_exec_runs_beside_and_gives_its_exit_status(host: Lab) -> None:
    host.ok("run", "-d", "--name", "web", "-e", "A=1", IMAGE, "sleep", "100")
    done = host.run("exec", "-e", "B=2", "-w", "/tmp", "web", "sh", "-c", "echo $A $B $PWD; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "1 2 /tmp\n", "err\n")
    data = bytes(range(256)) * 3000
    piped = subprocess.run(host.command("exec", "-i", "web", "cat"), input=data, capture_output=True, timeout=60)
    assert (piped.returncode, piped.stdout) == (0, data), "every byte, in order, and the end of file"
    assert host.ok("exec", "-u", "1000:1001", "web", "id", "-u") == "1000\n"
    assert host.run("exec", "web", "nosuch").returncode == 127 and host.run("exec", "web", "/etc").returncode == 126
    host.ok("exec", "-d", "web", "sh", "-c", "touch /tmp/left; sleep 0.1")
    host.ok("exec", "web", "test", "-e", "/tmp/left")
    assert host.run("exec", "nobody", "true").returncode == 125
    host.ok("kill", "web")
    host.ok("wait", "web")
    assert host.run("exec", "web", "true").returncode == 125, "what does not run cannot be entered"


def test_signals_are_passed_on_and_the_status_is_the_containers(host: Lab) -> None:
    script = "trap 'echo caught; exit 9' TERM; echo ready; while true; do sleep 0.05; done"
    for words in (["run", "--rm", IMAGE], ["exec", "beside"]):
        host.run("run", "-d", "--name", "beside", IMAGE, "sleep", "100")
        process = subprocess.Popen(host.command(*words, "sh", "-c", script), stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"caught\n" and process.wait(15) == 9, words
        process.stdout.close()


def test_a_terminal_is_lent_and_given_back(host: Lab) -> None:
    typist = Typist(host.command("run", "--rm", "-it", IMAGE, "sh"), rows=31, columns=97)
    typist.expect(b"# ")
    typist.type(b"stty size; test -t 0 && echo tty-$((40+2))\r")
    typist.expect(b"31 97")
    typist.expect(b"tty-42")
    typist.resize(20, 70)
    time.sleep(0.2)
    typist.type(b"stty size\r")
    typist.expect(b"20 70")
    typist.type(b"\x03")  # ctrl-c goes to the container
    typist.expect(b"# ")
    typist.type(b"exit 5\r")
    assert typist.end() == 5 and host.ids() == []


def test_the_detaching_keys_leave_the_container_running_and_attach_comes_back(host: Lab) -> None:
    typist = Typist(host.command("run", "-it", "--name", "kept", IMAGE, "sh"))
    typist.expect(b"# ")
    typist.type(b"echo $((6*7))\r")
    typist.expect(b"42")
    typist.type(b"\x10\x11")
    assert typist.end() == 0 and host.status("kept") == "running", "leaving is no error and ends nothing"
    again = Typist(host.command("attach", "--detach-keys", "ctrl-x,y", "kept"))
    again.type(b"echo $((6*8))\r")
    again.expect(b"48")
    again.type(b"\x18y")
    assert again.end() == 0 and host.status("kept") == "running"
    last = Typist(host.command("attach", "kept"))
    last.type(b"exit 6\r")
    assert last.end() == 6, "who is attached when it ends gets its exit status"
    host.wait("kept", "exited")


def test_exec_lends_the_terminal_too(host: Lab) -> None:
    host.ok("run", "-d", "--name", "web", IMAGE, "sleep", "100")
    typist = Typist(host.command("exec", "-it", "web", "sh"), rows=33, columns=99)
    typist.expect(b"# ")
    typist.type(b"stty size\r")
    typist.expect(b"33 99")
    typist.type(b"exit 8\r")
    assert typist.end() == 8


def test_a_terminal_is_not_pretended(host: Lab) -> None:
    host.ok("run", "-d", "--name", "web", IMAGE, "sleep", "100")
    for words in (["run", "--rm", "-it", IMAGE], ["exec", "-it", "web"]):
        done = host.run(*words, "true")
        assert done.returncode == 125 and "standard input is not a terminal" in done.stderr


def test_what_is_detached_and_removed_by_its_end_is_gone(host: Lab) -> None:
    host.ok("run", "-d", "--rm", "--name", "short", "-v", "/data", IMAGE, "true")
    deadline = time.monotonic() + 10
    while host.ids() or host.ok("volume", "ls", "-q"):
        assert time.monotonic() < deadline, "its monitor removes it, and its anonymous volume"
        time.sleep(0.05)


def test_logs_show_what_is_asked_for(host: Lab) -> None:
    host.run("run", "--name", "talk", IMAGE, "sh", "-c", "echo a; echo b >&2; sleep 0.2; echo c")
    done = host.run("logs", "talk")
    assert (done.stdout, done.stderr) == ("a\nc\n", "b\n"), "each stream comes by its own way"
    assert host.ok("logs", "--tail", "1", "talk") == "c\n" and host.ok("logs", "-n", "0", "talk") == ""
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z c\n", host.ok("logs", "-t", "--tail", "1", "talk"))
    assert host.ok("logs", "--since", "2099-01-01", "talk") == "" and host.ok("logs", "--until", "1h", "talk") == ""


def test_following_a_log_ends_with_the_container(host: Lab) -> None:
    host.ok("run", "-d", "--name", "talk", IMAGE, "sh", "-c", "echo a; sleep 0.3; echo b")
    assert host.ok("logs", "-f", "talk") == "a\nb\n"


def test_start_stop_restart_and_kill_do_what_they_say(host: Lab) -> None:
    host.ok("create", "--name", "web", "--stop-signal", "TERM", IMAGE, "sh", "-c", "trap 'exit 3' TERM; while true; do sleep 0.02; done")
    assert host.status("web") == "created"
    assert host.ok("start", "web") == "web\n" and host.status("web") == "running"
    time.sleep(0.2)
    assert host.ok("stop", "web") == "web\n" and host.status("web") == "exited"
    assert host.ok("inspect", "--format", "{{.State.ExitCode}}", "web") == "3\n", "it had time to end by itself"
    host.ok("start", "web")
    first = host.ok("inspect", "--format", "{{.State.Pid}}", "web")
    host.ok("restart", "-t", "0", "web")
    assert host.ok("inspect", "--format", "{{.State.Pid}}", "web") != first and host.status("web") == "running"
    assert host.run("rm", "web").returncode == 1, "what runs is not removed"
    host.ok("kill", "-s", "KILL", "web")
    assert host.ok("wait", "web") == "137\n"
    assert host.run("kill", "web").returncode == 1
    assert host.ok("rm", "web") == "web\n" and host.ids() == []


def test_one_that_fails_does_not_keep_the_others_from_it(host: Lab) -> None:
    host.ok("create", "--name", "one", IMAGE)
    host.ok("create", "--name", "two", IMAGE)
    done = host.run("rm", "one", "nobody", "two")
    assert (done.returncode, done.stdout) == (1, "one\ntwo\n") and "nobody" in done.stderr
    assert host.ok("rm", "-f", "nobody") == "nobody\n", "--force: that it is not there is what was wanted"


def test_a_container_is_started_again_in_the_foreground(host: Lab) -> None:
    host.ok("create", "-i", "--name", "again", IMAGE, "sh", "-c", "cat; exit 5")
    for said in (b"one", b"two"):
        done = host.run("start", "-a", "-i", "again", stdin=said)
        assert (done.returncode, done.stdout) == (5, said.decode())
    assert host.ok("logs", "again") == "onetwo", "its log goes on"
    assert host.run("attach", "again").returncode == 1, "there is nothing to attach to"


def test_top_shows_the_processes_of_a_container(host: Lab) -> None:
    host.ok("run", "-d", "--name", "web", "-u", "1234", IMAGE, "sh", "-c", "sleep 100 & wait")
    heading, *rows = host.ok("top", "web").splitlines()
    while len(rows) < 2 or "sh" in rows[1].split():  # a copy of the shell still
        time.sleep(0.02)
        heading, *rows = host.ok("top", "web").splitlines()
    assert heading.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"], "those of `ps -ef`"
    assert [row.split()[0] for row in rows] == ["1234", "1234"] and rows[1].endswith("sleep 100")
    host.ok("kill", "web")
    host.ok("wait", "web")
    assert host.run("top", "web").returncode == 1


def test_update_changes_a_running_container_in_place(host: Lab) -> None:
    host.ok("run", "-d", "--name", "web", "-m", "64m", IMAGE, "sleep", "100")
    pid = host.ok("inspect", "--format", "{{.State.Pid}}", "web")
    host.ok("update", "-m", "96m", "--restart", "always", "web")
    shown = host.ok("inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "web")
    assert shown == f"{96 << 20} always\n" and host.ok("inspect", "--format", "{{.State.Pid}}", "web") == pid
    assert host.run("update", "web").returncode == 1


def test_the_id_is_written_where_it_was_asked_for_and_never_over_a_file(host: Lab, tmp_path: Path) -> None:
    file = tmp_path / "id"
    identity = host.ok("create", "--cidfile", str(file), IMAGE).strip()
    assert file.read_text() == identity
    assert host.run("create", "--cidfile", str(file), IMAGE).returncode == 1 and file.read_text() == identity
    assert host.run("create", "--cidfile", str(tmp_path / "no"), "missing:1", "--pull=never").returncode == 1
    assert not (tmp_path / "no").exists() and len(host.ids()) == 1, "what was not made has no id"


def test_exposed_ports_are_published_all_at_once(host: Lab) -> None:
    host.ok("run", "-d", "--name", "web", "-P", "--expose", "81", IMAGE, "sleep", "100")
    assert re.fullmatch(r"80/tcp -> 0\.0\.0\.0:\d+\n81/tcp -> 0\.0\.0\.0:\d+\n", host.ok("port", "web"))


def test_mounts_are_taken_from_another_container(host: Lab, tmp_path: Path) -> None:
    host.ok("create", "--name", "store", "-v", "named:/named", "-v", f"{tmp_path}:/host", IMAGE)
    host.ok("run", "--rm", "--volumes-from", "store", IMAGE, "sh", "-c", "echo x > /named/file; echo y > /host/file")
    assert (tmp_path / "file").read_text() == "y\n"
    assert host.run("run", "--rm", "--volumes-from", "store:ro", IMAGE, "touch", "/named/more").returncode == 1


def test_an_anonymous_volume_is_shared_and_goes_with_its_last_container(host: Lab) -> None:
    before = set(host.ok("volume", "ls", "-q").split())
    host.ok("create", "--name", "first", "-v", "/data", IMAGE)
    (volume,) = set(host.ok("volume", "ls", "-q").split()) - before
    host.ok("run", "--rm", "--volumes-from", "first", IMAGE, "touch", "/data/file")
    host.ok("create", "--name", "second", "--volumes-from", "first", IMAGE)
    assert volume in host.ok("ps", "-a", "--no-trunc", "--format", "{{.Mounts}}"), "it is known by its digits"
    host.ok("rm", "-v", "first")
    assert volume in host.ok("volume", "ls", "-q").split(), "the second still has it"
    host.ok("rm", "-v", "second")
    assert volume not in host.ok("volume", "ls", "-q").split()


def test_a_made_up_name_is_given_to_the_nameless(host: Lab) -> None:
    host.ok("create", IMAGE)
    assert re.fullmatch(r"[a-z]+_[a-z]+\d?\n", host.ok("ps", "-a", "--format", "{{.Names}}"))


def test_a_name_that_is_taken_is_refused(host: Lab) -> None:
    host.ok("create", "--name", "web", IMAGE)
    done = host.run("create", "--name", "web", IMAGE)
    assert done.returncode == 1 and "web" in done.stderr and len(host.ids()) == 1


def test_a_reader_that_has_gone_is_no_traceback(host: Lab) -> None:
    words = host.command("run", "--rm", IMAGE, "sh", "-c", "yes | head -n 100000")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(15) >= 0
    process.stderr.close()


def test_an_absent_state_is_an_empty_one_and_looking_makes_nothing(host: Lab, tmp_path: Path) -> None:
    for words in (["ps", "-a"], ["images"], ["network", "ls"], ["volume", "ls"], ["info"]):
        done = subprocess.run([*host.command()[:4], "--root", str(tmp_path / "none"), *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert not (tmp_path / "none").exists(), f"{words} made the state"
