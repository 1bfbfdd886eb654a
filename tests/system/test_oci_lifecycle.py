"""bayplan-oci by hand: every command, and what it says where it cannot do what it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import oci_lab
import pytest
from oci_lab import CGROUPS, Lab, alive

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/busybox").exists(), reason="needs root and busybox-static")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with oci_lab.lab(tmp_path) as found:
        yield found


def test_a_container_lives_from_create_to_delete(lab: Lab) -> None:
    bundle = lab.bundle("sh", "-c", "echo begun > /tmp/begun; exec sleep 1000", change={"annotations": {"a.b": "c"}})
    lab.create("c1", bundle, "--pid-file", str(lab.directory / "pid"))
    state = lab.state("c1")
    pid = int((lab.directory / "pid").read_text())
    assert {name: state[name] for name in ("ociVersion", "id", "status", "pid", "bundle", "annotations")} == {
        "ociVersion": "1.2.0", "id": "c1", "status": "created", "pid": pid, "bundle": str(bundle), "annotations": {"a.b": "c"},
    }, "the state is the specification's"  # fmt: skip
    (bundle / "config.json").write_text("changed")
    assert not (lab.directory / "rootfs/tmp/begun").exists(), "a created container runs nothing of its image"
    lab.ok("start", "c1")
    assert lab.state("c1")["status"] == "running", "start begins it, whatever has become of the bundle"
    listed = json.loads(lab.ok("list", "--format", "json"))
    assert [(row["id"], row["status"], row["pid"]) for row in listed] == [("c1", "running", pid)], "list tells of it"
    assert lab.ok("list", "--quiet") == "c1\n", "list --quiet tells its id"
    assert json.loads(lab.ok("ps", "--format", "json", "c1")) == [pid], "ps tells its process"
    lab.ok("kill", "c1", "KILL")
    lab.wait("c1", "stopped")
    assert lab.state("c1")["pid"] == 0, "a stopped container has no process"
    lab.ok("delete", "c1")
    assert not any((CGROUPS / place / lab.cgroup / "bundle").exists() for place in ("memory", "pids", ".")), "its cgroup is gone"


def test_what_is_not_there_is_said_in_words_that_engines_look_for(lab: Lab) -> None:
    lab.ok("list")
    for command in ("state", "start", "kill", "delete", "ps", "pause", "resume", "update"):
        done = lab.run(command, "none")
        assert done.returncode == 1 and "container does not exist" in done.stderr, f"{command}: {done}"
    done = lab.run("exec", "none", "true")
    assert done.returncode == 255 and "container does not exist" in done.stderr, f"exec: {done}"
    assert lab.run("delete", "--force", "none").returncode == 0, "delete --force of none is no error"


def test_a_stopped_container_refuses_what_needs_a_running_one(lab: Lab) -> None:
    lab.create("c1", lab.bundle("true"))
    lab.ok("start", "c1")
    lab.wait("c1", "stopped")
    for command in (("kill", "c1", "TERM"), ("update", "--memory", "64m", "c1"), ("events", "--stats", "c1"), ("exec", "c1", "true")):
        done = lab.run(*command)
        assert done.returncode in (1, 255) and "container not running" in done.stderr, f"{command}: {done}"
    for command in (("start", "c1"), ("pause", "c1"), ("resume", "c1")):
        assert lab.run(*command).returncode == 1, f"{command} is refused"
    lab.ok("kill", "--all", "c1", "KILL")


def test_a_running_container_is_deleted_by_force_only_and_a_created_one_at_once(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    created = lab.state("c1")["pid"]
    lab.ok("delete", "c1")
    assert not alive(created), "what was never started ends with its record"
    lab.create("c1", lab.bundle("sleep", "1000"))
    lab.ok("start", "c1")
    pid = lab.state("c1")["pid"]
    refused = lab.run("delete", "c1")
    assert refused.returncode == 1 and "not stopped" in refused.stderr and alive(pid), "a running one stays"
    again = lab.run("create", "--bundle", str(lab.bundle("true", name="other")), "c1")
    assert again.returncode == 1 and "already exists" in again.stderr, "and so does its id"
    lab.ok("delete", "--force", "c1")
    assert not alive(pid), "it has ended when delete returns"


def test_signals_have_names_and_numbers_and_zero_asks(lab: Lab) -> None:
    script = "trap 'echo TERM >> /tmp/got' TERM; trap 'echo USR1 >> /tmp/got' USR1; echo > /tmp/got; while :; do sleep 0.02; done"
    lab.create("c1", lab.bundle("sh", "-c", script))
    lab.ok("start", "c1")
    got = lab.directory / "rootfs/tmp/got"
    wait_until(got.exists)
    for signal in ("0", "USR1", "sigusr1", "10", "TERM", "15"):
        count = len(got.read_text().split())
        lab.ok("kill", "c1", signal)
        wait_until(lambda expected=count + (signal != "0"): len(got.read_text().split()) == expected)
    assert got.read_text().split() == ["USR1"] * 3 + ["TERM"] * 2, "each arrived once"
    for signal in ("NOSUCH", "65", "-1"):
        assert lab.run("kill", "c1", signal).returncode == 1, f"{signal} is none"


def test_kill_ends_what_shares_its_pid_namespace_with_the_host(lab: Lab) -> None:
    kinds = [{"type": kind} for kind in ("network", "mount", "uts", "ipc")]
    lab.create("c1", lab.bundle("sh", "-c", "sleep 1001 & sleep 1002 & wait", change={"linux": {"namespaces": kinds}}))
    lab.ok("start", "c1")
    wait_until(lambda: len(json.loads(lab.ok("ps", "--format", "json", "c1"))) == 3)
    inside = json.loads(lab.ok("ps", "--format", "json", "c1"))
    lab.ok("kill", "c1", "KILL")
    wait_until(lambda: not any(alive(pid) for pid in inside))
    lab.wait("c1", "stopped")


def test_nothing_is_executed_in_what_has_not_begun(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    refused = lab.run("exec", "c1", "true")
    assert refused.returncode == 255 and "it is created; container not running" in refused.stderr
    lab.ok("start", "c1")
    lab.ok("exec", "c1", "true")


def test_create_refuses_to_join_processes_of_which_one_may_trace(lab: Lab) -> None:
    for container, held in (("tracer", ["CAP_SYS_PTRACE"]), ("plain", [])):
        change = {"process": {"capabilities": {"bounding": held}}}
        lab.create(container, lab.bundle("sleep", "1000", name=container, change=change))
        lab.ok("start", container)
    for container, status in (("tracer", 1), ("plain", 0)):
        joined = f"/proc/{lab.state(container)['pid']}/ns/pid"
        kinds = [{"type": "mount"}, {"type": "pid", "path": joined}]
        done = lab.run("run", "--bundle", str(lab.bundle("true", change={"linux": {"namespaces": kinds}})), "beside")
        assert (done.returncode, "CAP_SYS_PTRACE" in done.stderr) == (status, bool(status)), f"beside {container}: {done}"
        lab.run("delete", "--force", "beside")


def test_pause_and_resume(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sh", "-c", "while :; do date +%s%N > /tmp/now; done"))
    lab.ok("start", "c1")
    lab.ok("pause", "c1")
    assert lab.state("c1")["status"] == "paused", "it is told"
    before = (lab.directory / "rootfs/tmp/now").read_text()
    refused = lab.run("exec", "c1", "true")
    assert refused.returncode == 255 and "paused" in refused.stderr, "nothing is executed in it"
    assert lab.run("pause", "c1").returncode == 1, "it cannot be paused twice"
    time.sleep(0.05)
    assert (lab.directory / "rootfs/tmp/now").read_text() == before, "nothing runs"
    lab.ok("resume", "c1")
    wait_until(lambda: (lab.directory / "rootfs/tmp/now").read_text() != before)
    assert lab.run("resume", "c1").returncode == 1, "it cannot be resumed twice"
    lab.ok("pause", "c1")
    lab.ok("kill", "c1", "KILL")
    lab.wait("c1", "stopped")


def test_run_is_the_containers_streams_and_status(lab: Lab) -> None:
    script = "cat; echo problem >&2; exit 7"
    done = lab.run("run", "--bundle", str(lab.bundle("sh", "-c", script)), "c1", stdin="typed")
    assert (done.returncode, done.stdout, done.stderr) == (7, "typed", "problem\n"), "both streams, and the exit status"
    done = lab.run("run", "--bundle", str(lab.bundle("sh", "-c", "kill -9 $$")), "c1")
    assert done.returncode == 0 or done.returncode == 137, "pid 1 cannot kill itself"
    done = lab.run("run", "--keep", "--bundle", str(lab.bundle("true")), "c2")
    assert done.returncode == 0 and lab.state("c2")["status"] == "stopped", "--keep keeps the record"
    assert lab.ok("list", "--quiet").split() == ["c2"], "and without it nothing is left"


def test_a_program_that_cannot_be_executed_leaves_nothing(lab: Lab) -> None:
    (lab.directory / "rootfs/etc/script").write_text("no program")
    for program, said in (("/nosuch", "no such file or directory"), ("nosuch", "executable file not found in $PATH"),
                          ("/etc/script", "permission denied"), ("/etc", "permission denied")):  # fmt: skip
        done = lab.run("run", "--bundle", str(lab.bundle(program)), "c1")
        assert done.returncode == 1 and said in done.stderr, f"engines read 126 and 127 out of these words: {done}"
        done = lab.run("create", "--bundle", str(lab.bundle(program)), "c1")
        assert done.returncode == 1 and said in done.stderr, f"create says it already: {done}"
        assert lab.ok("list", "--quiet") == "", "no record is left"


def test_errors_go_to_the_log_that_is_asked_for(lab: Lab) -> None:
    log = lab.directory / "log"
    lab.run("list")
    done = subprocess.run([str(lab.program), "--log", str(log), "--log-format", "json", "--root", str(lab.root), "state", "none"],
                          capture_output=True, text=True)  # fmt: skip
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert done.returncode == 1 and entry["level"] == "error" and "container does not exist" in entry["msg"], "one line of JSON"
    subprocess.run([str(lab.program), "--log", str(log), "--root", str(lab.root), "state", "none"], capture_output=True)
    assert 'level=error msg="' in log.read_text().splitlines()[1], "text is appended"
    done = subprocess.run([str(lab.program), "--log", str(log), "--log-format", "xml", "list"], capture_output=True, text=True)
    assert done.returncode == 1 and "--log-format" in done.stderr, "another form is refused"


def test_a_global_option_after_the_command_is_refused(lab: Lab) -> None:
    for option in (("--root", "/tmp"), ("--debug",), ("--log", "/tmp/x"), ("--systemd-cgroup",)):
        done = lab.run("list", *option)
        assert done.returncode == 1 and "unknown option" in done.stderr, f"{option}: {done}"


def test_half_made_and_damaged_records_are_deleted_by_force(lab: Lab) -> None:
    lab.ok("list")
    for name, content in (("half", None), ("damaged", "{"), ("foreign", '{"id": 5}')):
        (lab.root / name).mkdir(parents=True)
        if content is not None:
            (lab.root / name / "state.json").write_text(content)
        refused = lab.run("delete", name)
        assert refused.returncode == 1 and "--force" in refused.stderr, f"{name}: the error says what to do"
        assert lab.run("list").returncode == 0, "list goes on without it"
        lab.ok("delete", "--force", name)
    assert alive(os.getpid()) and lab.ok("list", "--quiet") == "", "and nobody else's process ended with it"


def test_a_cgroup_with_somebodys_processes_is_not_taken(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    pid = lab.state("c1")["pid"]
    done = lab.run("run", "--bundle", str(lab.bundle("true")), "c2")
    assert done.returncode == 1 and "is not empty" in done.stderr, f"it is refused: {done}"
    assert alive(pid) and lab.ok("list", "--quiet").split() == ["c1"], "who is in there lives on, and no record is left"
    for path in ("/", "../other", "/.."):
        done = lab.run("run", "--bundle", str(lab.bundle("true", change={"linux": {"cgroupsPath": path}})), "c2")
        assert done.returncode == 1 and "linux.cgroupsPath" in done.stderr, f"{path}: {done}"


def test_exec_has_the_containers_world(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000", env=["PATH=/bin", "A=container"]))
    lab.ok("start", "c1")
    inside = ("exec", "--env", "A=1", "-e", "B=2", "--cwd", "/tmp", "c1", "sh", "-c", "echo $A $B $PWD")
    assert lab.ok(*inside) == "1 2 /tmp\n", "variables and directory"
    assert lab.ok("exec", "--user", "5:6", "-g", "7", "--additional-gids", "8", "c1", "id") == "uid=5 gid=6 groups=7,8\n", "user"
    status = lab.ok("exec", "--cap", "CAP_NET_ADMIN", "--no-new-privs", "c1", "grep", "-E", "CapEff|CapInh|NoNewPrivs", "/proc/self/status")
    assert words(status) == {"CapInh:": "0" * 16, "CapEff:": "0000000020001420", "NoNewPrivs:": "1"}, "capabilities, none inheritable"
    assert lab.run("exec", "c1", "sh", "-c", "exit 9").returncode == 9, "its status"
    assert lab.run("exec", "c1", "sh", "-c", "kill -9 $$").returncode == 137, "also of a signal"
    assert lab.run("exec", "c1", "cat", stdin="typed").stdout == "typed", "its streams"
    process = {"args": ["sh", "-c", "id -u; pwd"], "cwd": "/etc", "env": ["PATH=/bin"], "user": {"uid": 3, "gid": 3}}
    (lab.directory / "process.json").write_text(json.dumps(process))
    assert lab.ok("exec", "--process", str(lab.directory / "process.json"), "c1") == "3\n/etc\n", "a process object says it all"
    for wrong in ("--user nobody c1 id", "c1", "--process /nonexistent c1", "--cwd x c1 id", "c1 /no", "--preserve-fds -1 c1 id"):
        done = lab.run("exec", *wrong.split())
        assert done.returncode == 255 and done.stderr.startswith("bayplan-oci: "), f"{wrong}: {done}"


def test_exec_can_be_left_alone(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    lab.ok("start", "c1")
    pid_file = lab.directory / "pid"
    done = subprocess.run(lab.command("exec", "--detach", "--pid-file", str(pid_file), "c1", "sleep", "1001"),
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)  # fmt: skip
    pid = int(pid_file.read_text())
    assert done.returncode == 0 and alive(pid), "it runs on"
    assert sorted(json.loads(lab.ok("ps", "--format", "json", "c1"))) == sorted([pid, lab.state("c1")["pid"]]), "in the container's cgroup"


def test_exec_in_a_paused_container_waits_for_its_resumption_where_that_is_asked_for(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    lab.ok("start", "c1")
    lab.ok("pause", "c1")
    command = lab.command("exec", "--ignore-paused", "c1", "echo", "late")
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    time.sleep(0.3)
    assert child.poll() is None, "it waits"
    lab.ok("resume", "c1")
    assert child.communicate(timeout=20)[0] == "late\n", "and goes on"


def test_exec_in_a_sub_cgroup(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    lab.ok("start", "c1")
    missing = lab.run("exec", "--cgroup", "sub", "c1", "true")
    assert missing.returncode == 255 and "is not there" in missing.stderr, "one that is not there is said"
    own = [path for path in {CGROUPS, *CGROUPS.glob("*")} if (path / lab.cgroup / "bundle").is_dir()]
    for hierarchy in own:
        sub = hierarchy / lab.cgroup / "bundle/sub"
        sub.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (sub / name).exists():
                (sub / name).write_text((sub.parent / name).read_text())
    places = lab.ok("exec", "--cgroup", "sub", "c1", "cat", "/proc/self/cgroup")
    assert places.count("/sub\n") == len(own), "it is in there, in every hierarchy"
    out = lab.run("exec", "--cgroup", "../..", "c1", "true")
    assert out.returncode == 255 and "leads out" in out.stderr, "one outside of the container's is refused"
    if (CGROUPS / "pids").is_dir():
        places = lab.ok("exec", "--cgroup", "pids:sub", "c1", "cat", "/proc/self/cgroup")
        assert places.count("/sub\n") == 1, "of one controller alone"
        assert "no hierarchy" in lab.run("exec", "--cgroup", "nosuch:sub", "c1", "true").stderr, "whose name must be known"


def test_update_changes_what_is_given_and_zero_is_unsaid(lab: Lab) -> None:
    if not (CGROUPS / "memory").is_dir():
        pytest.skip("reads the files of cgroup version 1")
    lab.create("c1", lab.bundle("sleep", "1000", change={"linux": {"resources": {"pids": {"limit": 50}, "cpu": {"shares": 512}}}}))
    files = ("memory", "memory.limit_in_bytes"), ("pids", "pids.max"), ("cpu", "cpu.shares")
    memory, pids, shares = (CGROUPS / controller / lab.cgroup / "bundle" / file for controller, file in files)
    lab.ok("update", "--memory", "64m", "--memory-swap", "64m", "c1")
    assert memory.read_text() == "67108864\n", "an option"
    cpu = {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}
    zeros = {"memory": {"limit": 0, "swap": 0, "reservation": 0}, "cpu": cpu, "blockIO": {"weight": 0}, "pids": {"limit": 0}}
    lab.ok("update", "--resources", "-", "c1", stdin=json.dumps(zeros))
    assert (memory.read_text(), pids.read_text(), shares.read_text()) == ("67108864\n", "50\n", "512\n"), "zeros change nothing"
    lab.ok("update", "-r", "-", "c1", stdin=json.dumps({"memory": {"limit": 1 << 27, "swap": -1}, "pids": {"limit": 9}}))
    assert (memory.read_text(), pids.read_text(), shares.read_text()) == ("134217728\n", "9\n", "512\n"), "a document, from standard input"
    lab.ok("update", "--memory", "-1", "--pids-limit", "-1", "--cpu-share", "300", "c1")
    assert int(memory.read_text()) > 1 << 60 and (pids.read_text(), shares.read_text()) == ("max\n", "300\n"), "-1 is no limit"
    lab.ok("update", "c1")
    for wrong in (("--memory", "7x"), ("--pids-limit", "x"), ("--blkio-weight", "5"), ("--l3-cache-schema", "L3:0=f")):
        assert lab.run("update", *wrong, "c1").returncode == 1, f"{wrong} is refused"


def test_events_tell_what_is_used_and_that_memory_ran_out(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000", change={"linux": {"resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}}}))
    lab.ok("start", "c1")
    told = json.loads(lab.ok("events", "--stats", "c1"))
    assert (told["type"], told["id"], told["data"]["memory"]["usage"]["limit"]) == ("stats", "c1", 16 << 20), "once"
    child = subprocess.Popen(lab.command("events", "--interval", "100ms", "c1"), stdout=subprocess.PIPE, text=True)
    assert child.stdout
    with contextlib.closing(child.stdout):
        assert json.loads(child.stdout.readline())["type"] == "stats", "again and again"
        assert lab.run("exec", "c1", "sh", "-c", "yes 0123456789 | tail -c 100m").returncode != 0, "its memory runs out"
        assert any(json.loads(line)["type"] == "oom" for line in child.stdout), "which is told"
        lab.ok("kill", "c1", "KILL")
        for _ in child.stdout:
            pass
    assert child.wait(20) == 0, "until the container ends"


def test_ps_shows_the_lines_of_its_processes(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    lab.ok("start", "c1")
    pid = lab.state("c1")["pid"]
    assert [line.split()[1] for line in lab.ok("ps", "c1").splitlines()] == ["PID", str(pid)], "as ps -ef says it"
    assert lab.ok("ps", "c1", "-o", "pid,comm").split() == ["PID", "COMMAND", str(pid), "sleep"], "or with options of its own"
    assert "no column PID" in lab.run("ps", "c1", "-o", "comm").stderr, "of which PID must be one"


def test_systemd_is_said_to_be_missing_where_it_is(lab: Lab) -> None:
    if Path("/run/systemd/private").exists():
        pytest.skip("this host has systemd")
    bundle = lab.bundle("true", change={"linux": {"cgroupsPath": "system.slice:test:c1"}})
    done = subprocess.run([str(lab.program), "--systemd-cgroup", "--root", str(lab.root), "run", "--bundle", str(bundle), "c1"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1 and "systemd does not answer" in done.stderr, f"a clear error: {done}"
    assert lab.ok("list", "--quiet") == "", "and nothing is left"


def test_what_is_refused_says_why(lab: Lab) -> None:
    bundle = str(lab.bundle("true"))
    for words_given, said in (
        (("run", "--no-pivot", "--bundle", bundle, "c1"), "--no-pivot"),
        (("checkpoint", "c1"), "not supported"),
        (("restore", "c1"), "not supported"),
        (("spec", "--rootless"), "only root"),
        (("run", "--bundle", bundle, "a/b"), "not a container's id"),
        (("run", "--bundle", bundle, "@seccomp"), "not a container's id"),
        (("run", "--bundle", "/nonexistent", "c1"), "--bundle"),
        (("create",), "usage"),
        (("nosuch",), "not a command"),
    ):
        done = lab.run(*words_given)
        assert done.returncode == 1 and said in done.stderr, f"{words_given}: {done}"
    assert lab.ok("list", "--quiet") == "", "nothing is left of them"


def test_what_spec_writes_runs(lab: Lab) -> None:
    directory = lab.directory / "made"
    directory.mkdir()
    lab.ok("spec", "--bundle", str(directory))
    assert "exists" in lab.run("spec", "--bundle", str(directory)).stderr, "it is not overwritten"
    document = json.loads((directory / "config.json").read_text())
    document["process"] |= {"terminal": False, "args": ["true"]}
    document["root"]["path"] = str(lab.directory / "rootfs")
    document["linux"]["cgroupsPath"] = f"/{lab.cgroup}/made"
    (directory / "config.json").write_text(json.dumps(document))
    if not _may_raise_limits():
        document["process"].pop("rlimits")
        (directory / "config.json").write_text(json.dumps(document))
    lab.ok("run", "--bundle", str(directory), "c1")


def _may_raise_limits() -> bool:
    code = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (1024, 1024))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def wait_until(true: object) -> None:
    assert callable(true)
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it comes true within ten seconds"
        time.sleep(0.01)


def words(status: str) -> dict[str, str]:
    return dict(line.split() for line in status.splitlines())
