"""Containers that another OCI runtime runs for us: they do all that ours do, and what they cannot do is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, Typist, root_file_system

from bayplan.engine.state import open_state
from bayplan.kernel.pids import read_start_time

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
RUNTIME = Path(__file__).parents[2] / "runtime"
HUGETLB = Path("/sys/fs/cgroup/hugetlb")
OWN = f"""#!{sys.executable} -IS
import sys
sys.path.insert(0, {str(RUNTIME)!r})
from bayplan.oci.main import main
sys.exit(main(sys.argv[1:]))
"""
# crun 1.8 wants every controller of version 1 that the kernel has: what is not mounted is, where nobody else sees it
MOUNTED = f"mount -t cgroup -o hugetlb cgroup {HUGETLB} && exec \"$@\""


class RuntimeLab(Lab):
    """A lab whose `run` and `create` name a runtime."""

    def __init__(self, directory: Path, runtime: str, before: tuple[str, ...] = ()) -> None:
        self.runtime, self.before = runtime, before
        super().__init__(directory)

    def command(self, *words: str) -> list[str]:
        named = ("--runtime", self.runtime) if words[0] in ("run", "create") and "--runtime" not in words else ()
        return [*self.before, *super().command(words[0], *named, *words[1:])]

    def container(self, name: str) -> Path:
        return self.root / "containers" / self.ok("inspect", "--format", "{{.Id}}", name).strip()

    def state_id(self) -> str:
        state = open_state(str(self.root))
        state.records.close()
        return state.id

    def pid(self, name: str) -> int:
        return int(self.ok("inspect", "--format", "{{.State.Pid}}", name))


def lacking_hierarchy() -> bool:
    return Path("/sys/fs/cgroup/memory").is_dir() and not (HUGETLB / "cgroup.procs").exists()


@pytest.fixture(scope="module", params=["runc", "crun", "bayplan-oci"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeLab]:
    directory, runtime, before = tmp_path_factory.mktemp("cli"), request.param, ()
    if runtime == "bayplan-oci":
        runtime = str(directory / "bayplan-oci")
        Path(runtime).write_text(OWN)
        Path(runtime).chmod(0o755)
    elif not shutil.which(runtime):
        pytest.skip(f"{runtime} is not installed (Debian: {runtime})")
    made = runtime == "crun" and lacking_hierarchy() and not HUGETLB.exists()
    if runtime == "crun" and lacking_hierarchy():
        HUGETLB.mkdir(exist_ok=True)
        before = (shutil.which("unshare") or "unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED, "sh")
        if subprocess.run([*before, "mkdir", f"{HUGETLB}/bayplan-try"], stderr=subprocess.DEVNULL).returncode:
            pytest.skip("crun needs the hugetlb hierarchy, which somebody else has mounted read-only")
        subprocess.run([*before, "rmdir", f"{HUGETLB}/bayplan-try"], check=True)
    found = RuntimeLab(directory, runtime, before)
    try:
        yield found
    finally:
        state = found.state_id()
        found.close()
        left = [str(each) for each in Path("/sys/fs/cgroup").glob(f"*/bayplan-{state}")]
        assert not left, f"no cgroup of the state is left: {left}"
        if made:
            HUGETLB.rmdir()


@pytest.fixture
def box(host: RuntimeLab) -> Iterator[str]:
    """The name of a container that may be made; it is removed afterwards."""
    yield "box"
    host.run("rm", "-f", "-v", "box")


def remains(host: RuntimeLab) -> list[str]:
    """What of ended containers is on this machine: processes that have to do with the state, mounts, cgroups."""
    root = str(host.directory)
    with_root = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if root in words and f" {os.getpid()} " not in words:
                with_root.append(words)
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if root in line]
    ids = host.ok("ps", "-aq", "--no-trunc").split()
    state = f"bayplan-{host.state_id()}"
    cgroups = [str(each) for each in Path("/sys/fs/cgroup").glob(f"*/{state}/*") if each.is_dir() and each.name not in ("monitors", *ids)]
    return [*with_root, *mounts, *cgroups]


def gone(host: RuntimeLab) -> bool:
    deadline = time.monotonic() + 10
    while remains(host) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not remains(host)


def until(condition: object, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# Running


def test_its_output_and_its_exit_status_are_the_commands(host: RuntimeLab) -> None:
    done = host.run("run", "--rm", "-i", IMAGE, "sh", "-c", "cat; echo to stderr >&2; exit 7", stdin=b"from stdin\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "from stdin\n", "to stderr\n"), "both streams, and the status"
    assert host.ids() == [] and gone(host), "nothing is left of one that is removed"


def test_its_output_is_in_the_log(host: RuntimeLab, box: str) -> None:
    host.ok("run", "-d", "--name", box, IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert host.ok("wait", box) == "0\n", "it ends"
    done = host.run("logs", box)
    assert (done.stdout, done.stderr) == ("out\n", "err\n"), "in the streams that it was written to"


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_run_is_126(host: RuntimeLab) -> None:
    absent = host.run("run", "--rm", IMAGE, "nothing-here")
    assert absent.returncode == 127 and "nothing-here" in absent.stderr, "as a shell has it"
    refused = host.run("run", "--rm", IMAGE, "/tmp")
    assert refused.returncode == 126 and "/tmp" in refused.stderr, "as a shell has it"
    assert host.ids() == [] and gone(host), "nothing is left of them"


def test_what_it_says_as_it_fails_is_our_error(host: RuntimeLab) -> None:
    done = host.run("run", "--rm", "--sysctl", "net.ipv4.no_such_thing=1", IMAGE, "true")
    assert done.returncode == 125 and "no_such_thing" in done.stderr, "in its own words"
    assert done.stderr.startswith("bayplan: ") and done.stderr.count("\n") == 1, "as one line of ours"
    assert host.ids() == [] and gone(host), "nothing is left of it"


def test_it_has_namespaces_hostname_and_domain_of_its_own(host: RuntimeLab) -> None:
    script = "hostname; cat /proc/sys/kernel/domainname; cat /etc/hostname; ls -l /proc/self/ns"
    seen = host.ok("run", "--rm", "--hostname", "named", "--domainname", "lab.test", IMAGE, "sh", "-c", script)
    assert seen.splitlines()[:3] == ["named", "lab.test", "named"], "its names"
    inside = dict(re.findall(r" (\w+) -> (\S+)", seen))
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    assert not {inside[kind] for kind in kinds} & {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}, "none is the host's"


def test_a_user_is_looked_up_in_the_images_files(host: RuntimeLab, tmp_path: Path) -> None:
    archive = tmp_path / "users.tar"
    archive.write_bytes(root_file_system())
    (tmp_path / "passwd").write_text("app:x:1000:1001::/srv/app:/bin/sh\n")
    (tmp_path / "group").write_text("more:x:7:app\n")
    with tarfile.open(archive, "a") as added:
        for name in ("passwd", "group"):
            added.add(tmp_path / name, f"etc/{name}")
    host.ok("import", "--change", "ENV PATH=/bin", str(archive), "with-users:1")
    try:
        seen = host.ok("run", "--rm", "--user", "app", "--group-add", "42", "with-users:1", "sh", "-c", "id -u; id -g; id -G; echo $HOME")
        assert seen.splitlines() == ["1000", "1001", "1001 7 42", "/srv/app"], "number, group, groups and home"
        missing = host.run("run", "--rm", "--user", "nobody-here", "with-users:1", "true")
        assert "user 'nobody-here' is not in the image's /etc/passwd" in missing.stderr, "ours says who is not there"
    finally:
        host.run("rmi", "with-users:1")


def test_the_default_filter_is_written_out_for_it(host: RuntimeLab) -> None:
    status = host.ok("run", "--rm", IMAGE, "cat", "/proc/self/status")
    assert "Seccomp:\t2" in status, "calls are filtered"
    ours = host.ok("run", "--rm", "--runtime", "bayplan", IMAGE, "cat", "/proc/self/status")
    rights = [line for line in ours.splitlines() if line.startswith("Cap")]
    assert [line for line in status.splitlines() if line.startswith("Cap")] == rights, "and it has the rights that it has with us"
    free = host.ok("run", "--rm", "--security-opt", "seccomp=unconfined", IMAGE, "cat", "/proc/self/status")
    assert filters(status) == filters(free) + 1, "and none where none is wanted"


def filters(status: str) -> int:
    return int(re.findall(r"^Seccomp_filters:\s(\d+)", status, re.MULTILINE)[0])


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_the_strict_profile_is_kept(host: RuntimeLab, options: tuple[str, ...]) -> None:
    seen = host.ok("run", "--rm", "--profile", "strict", *options, IMAGE, "cat", "/proc/mounts", "/proc/self/status")
    flags = re.findall(r"^overlay / overlay (\S+)", seen, re.MULTILINE)[-1].split(",")
    assert "nosuid" in flags and ("ro" if options else "rw") in flags, "nobody gets rights from the root file system"
    assert "NoNewPrivs:\t1" in seen, "nor otherwise"


def test_limits_are_set_and_can_be_changed_while_it_runs(host: RuntimeLab, box: str) -> None:
    host.ok("run", "-d", "--name", box, "--memory", "64m", "--pids-limit", "30", IMAGE, "sleep", "1000")
    directory = own_cgroup(host.pid(box), "memory")
    file = "memory.max" if (directory / "memory.max").exists() else "memory.limit_in_bytes"
    assert (directory / file).read_text() == f"{64 << 20}\n", "the memory"
    assert (own_cgroup(host.pid(box), "pids") / "pids.max").read_text() == "30\n", "the processes"
    host.ok("update", "--memory", "96m", box)
    assert (directory / file).read_text() == f"{96 << 20}\n", "in place"
    assert "sleep 1000" in host.ok("top", box), "and its process is untouched"


def own_cgroup(pid: int, controller: str) -> Path:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}")
    return Path(f"/sys/fs/cgroup{path}")


def test_one_that_exceeds_its_memory_is_killed_and_that_is_told(host: RuntimeLab, box: str) -> None:
    script = 'x=$(yes | head -c 60000000); echo "$x"'
    host.run("run", "--name", box, "--memory", "8m", "--memory-swap", "8m", IMAGE, "sh", "-c", script)
    assert host.ok("inspect", "--format", "{{.State.OOMKilled}}", box).strip() == "true", "counted in its cgroup"


def test_volumes_and_binds_are_mounted(host: RuntimeLab, box: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    script = "cat /bound/file; echo kept >/data/file; touch /bound/x 2>/dev/null || echo read-only; cat /proc/mounts"
    options = ("-v", f"{tmp_path}:/bound:ro", "-v", "stock:/data", "--tmpfs", "/scratch:size=1m", "--read-only")
    seen = host.ok("run", "--rm", *options, IMAGE, "sh", "-c", f"{script}; touch /x 2>/dev/null || echo root is read-only")
    assert seen.startswith("from the host\nread-only\n") and seen.endswith("root is read-only\n"), "content, and who may write"
    assert re.search(r"tmpfs /scratch tmpfs .*size=1024k", seen), "a file system in memory"
    assert host.ok("run", "--rm", "-v", "stock:/data", "--runtime", "bayplan", IMAGE, "cat", "/data/file") == "kept\n", "the same volume"
    host.ok("volume", "rm", "stock")


def test_it_is_reached_by_its_name_and_by_a_published_port(host: RuntimeLab, box: str) -> None:
    host.ok("network", "create", "lan")
    try:
        script = "mkdir -p /srv; echo served >/srv/index.html; httpd -f -p 80 -h /srv"
        host.ok("run", "-d", "--name", box, "--network", "lan", "-p", "127.0.0.1:0:80", IMAGE, "sh", "-c", script)
        port = host.ok("port", box).rpartition(":")[2].strip()
        assert until(lambda: fetch(port) == "served\n"), "from the host"
        seen = host.ok("run", "--rm", "--network", "lan", IMAGE, "wget", "-q", "-O", "-", f"http://{box}/")
        assert seen == "served\n", "by its name, from another one"
    finally:
        host.run("rm", "-f", box)
        host.ok("network", "rm", "lan")


def fetch(port: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


# Its life


def test_a_command_is_executed_in_it(host: RuntimeLab, box: str) -> None:
    host.ok("run", "-d", "--name", box, "--env", "A=b", IMAGE, "sleep", "1000")
    seen = host.run("exec", "-i", box, "sh", "-c", "echo $A; cat; hostname; cat /proc/self/cgroup; exit 3", stdin=b"typed\n")
    assert seen.returncode == 3 and seen.stdout.startswith("b\ntyped\n"), "its environment, our input, its status"
    inside = [line for line in host.ok("exec", box, "cat", "/proc/1/cgroup", "/proc/self/cgroup").splitlines() if limits(line)]
    assert inside[: len(inside) // 2] == inside[len(inside) // 2 :], "under the same limits"
    assert "sleep 1000" in host.ok("exec", box, "ps"), "among its processes"


def limits(line: str) -> bool:
    """Whether a line of /proc/PID/cgroup is of a hierarchy that limits: version 2's beside version 1 does not."""
    return not lacking_version_2() or not line.startswith("0::")


def lacking_version_2() -> bool:
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def test_it_is_told_to_stop_and_then_killed(host: RuntimeLab, box: str) -> None:
    script = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    host.ok("run", "-d", "--name", box, IMAGE, "sh", "-c", script)
    assert until(lambda: host.run("logs", box).stdout == "ready\n"), "it runs"
    host.ok("stop", box)
    assert host.ok("inspect", "--format", "{{.State.ExitCode}}", box) == "5\n", "by its own trap"
    assert not (host.container(box) / "runtime").exists() and gone(host), "the runtime has forgotten it"
    host.ok("start", box)
    assert host.status(box) == "running", "it can be started again"
    host.ok("kill", box)
    host.wait(box, "exited")
    assert host.ok("inspect", "--format", "{{.State.ExitCode}}", box) == "137\n", "by the signal"


def test_its_restart_policy_brings_it_back(host: RuntimeLab, box: str) -> None:
    host.ok("run", "-d", "--name", box, "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo life; exit 1")
    assert until(lambda: host.status(box) == "exited", 30), "and gives up"
    assert host.run("logs", box).stdout == "life\n" * 3, "two lives more"
    assert gone(host), "nothing of them is left"


def test_it_is_paused_and_its_health_is_checked(host: RuntimeLab, box: str) -> None:
    checks = ("--health-cmd", "test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "1")
    host.ok("run", "-d", "--name", box, *checks, IMAGE, "sh", "-c", "touch /tmp/well; sleep 1000")
    healthy = lambda: host.ok("inspect", "--format", "{{.State.Health.Status}}", box).strip() == "healthy"  # noqa: E731
    assert until(healthy), "probes run in it"
    host.ok("pause", box)
    assert host.status(box) == "paused", "its cgroup is frozen"
    host.ok("unpause", box)
    assert host.status(box) == "running", "and thawed"


def test_it_has_a_terminal(host: RuntimeLab, box: str) -> None:
    typist = Typist(host.command("run", "-it", "--name", box, IMAGE, "sh"), rows=40, columns=100)
    typist.type(b"stty size; tty=$(ls -l /proc/self/fd/0); echo seen\r")
    typist.expect(b"40 100")
    typist.type(b"exit 9\r")
    assert typist.end() == 9, "its status is ours"
    assert gone(host), "nothing is left"


def test_namespaces_of_another_container_are_joined(host: RuntimeLab, box: str) -> None:
    host.ok("run", "-d", "--name", box, "--hostname", "shared", IMAGE, "sleep", "1000")
    options = [f"--{kind}=container:{box}" for kind in ("network", "pid", "ipc", "uts")]
    seen = host.ok("run", "--rm", *options, IMAGE, "sh", "-c", "hostname; ps; ls -l /proc/self/ns")
    inside = dict(re.findall(r" (\w+) -> (\S+)", seen))
    joined = {kind: os.readlink(f"/proc/{host.pid(box)}/ns/{kind}") for kind in ("net", "pid", "ipc", "uts")}
    assert {kind: inside[kind] for kind in joined} == joined, "all four"
    assert seen.startswith("shared\n") and "sleep 1000" in seen, "its name and its processes"


@pytest.mark.skipif(not Path("/sys/fs/cgroup/unified/cgroup.procs").exists(), reason="needs version 2's tree beside version 1")
def test_on_version_2_it_is_in_the_cgroup_that_is_ours_to_find(host: RuntimeLab, box: str) -> None:
    if host.runtime == "crun":
        pytest.skip("crun's device filter needs CAP_SYS_RESOURCE, or a limit of locked memory that was raised before")
    before = host.before
    there = 'mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec "$@"'
    host.before = (shutil.which("unshare") or "unshare", "--mount", "--propagation", "private", "sh", "-c", there, "sh")
    try:
        host.ok("run", "-d", "--name", box, IMAGE, "sleep", "1000")
        own = f"/bayplan-{host.state_id()}/{host.container(box).name}/container"
        assert f"0::{own}\n" in Path(f"/proc/{host.pid(box)}/cgroup").read_text(), "the leaf for processes"
        host.ok("pause", box)
        assert host.status(box) == "paused", "as one of ours"
        host.ok("rm", "-f", box)
        assert not Path(f"/sys/fs/cgroup/unified{own}").parent.exists(), "nothing of it is left"
    finally:
        host.before = before


def test_a_devices_hooks_are_run_by_it(host: RuntimeLab, tmp_path: Path) -> None:
    """Beside its groups and its nodes: what a vendor's file (CDI) says is in the bundle."""
    directory, vendor, log = Path("/etc/cdi"), f"runtimes{os.getpid()}.example", tmp_path / "log"
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat >/dev/null; echo $1 >>{log}\n")
    hook.chmod(0o755)
    moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    hooks = [{"hookName": each, "path": str(hook), "args": ["hook", each]} for each in moments]
    edits = {"hooks": hooks, "additionalGids": [44], "deviceNodes": [{"path": "/dev/zero2", "type": "c", "major": 1, "minor": 5}]}
    document = {"cdiVersion": "0.7.0", "kind": f"{vendor}/thing", "devices": [{"name": "0", "containerEdits": edits}]}
    (directory / f"{vendor}.json").write_text(json.dumps(document))
    try:
        seen = host.ok("run", "--rm", "--device", f"{vendor}/thing=0", IMAGE, "sh", "-c", "id -G; head -c 3 /dev/zero2 | ls -l /dev/zero2")
        assert seen.split()[:2] == ["0", "44"] and "1,   5" in seen, "its group and its node"
        assert log.read_text().split() == list(moments), "each once, in the specification's order"
    finally:
        (directory / f"{vendor}.json").unlink()
        if made:
            directory.rmdir()


# What goes wrong


def test_a_runtime_that_is_not_installed_is_an_error_before_anything_is_made(host: RuntimeLab) -> None:
    for name in ("no-such-runtime", "/nowhere/runc"):
        done = host.run("run", "--runtime", name, "-v", "never:/data", IMAGE, "true")
        assert done.returncode == 125 and f"looking for the runtime {name}" in done.stderr, "it is named"
    assert host.ids() == [] and "never" not in host.ok("volume", "ls", "-q"), "no container, no volume"


@pytest.mark.parametrize("name", ["../runc", "a b", "-x", "run\nc", "./runc"])
def test_what_is_no_name_of_a_runtime_is_refused(host: RuntimeLab, name: str) -> None:
    done = host.run("run", f"--runtime={name}", IMAGE, "true")
    assert done.returncode == 125 and "--runtime: " in done.stderr, "before it is looked for"


@pytest.mark.parametrize(
    "options",
    [("--init",), ("--userns", "private"), ("--systemd", "always"), ("-v", "/tmp:/data:rshared"),
     ("--mount", "type=volume,source=stock,target=/data,volume-subpath=a")],
)  # fmt: skip
def test_what_only_ours_can_do_is_refused(host: RuntimeLab, options: tuple[str, ...]) -> None:
    done = host.run("run", "--rm", *options, IMAGE, "true")
    assert done.returncode == 125 and f"cannot be had from the runtime {host.runtime}" in done.stderr, done.stderr
    assert host.ids() == [], "and nothing is made"


@pytest.mark.parametrize("verb", ["create", "start"])
def test_a_runtime_that_is_killed_leaves_nothing(host: RuntimeLab, tmp_path: Path, verb: str) -> None:
    """When it is halfway: its first process may be there already, in the cgroup or not yet."""
    program = host.runtime if host.runtime.startswith("/") else shutil.which(host.runtime)
    for delay in ("0.001", "0.01", "0.03", "0.1"):
        fatal = tmp_path / "fatal"
        killing = f'"{program}" "$@" & sleep {delay}; kill -9 $!; kill -9 $$'
        fatal.write_text(f'#!/bin/sh\ncase " $* " in *" {verb} "*) {killing};; esac\nexec "{program}" "$@"\n')
        fatal.chmod(0o755)
        done = host.run("run", "--rm", "--runtime", str(fatal), "-p", "127.0.0.1:0:80", IMAGE, "sleep", "1000")
        assert done.returncode == 125 and "was killed by signal 9" in done.stderr, done
        assert host.ids() == [] and gone(host), f"nothing is left where it is killed after {delay} s"
        assert not sleepers(), "no process of the container's either"


def sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == b"sleep\x001000\x00" and os.readlink(entry / "root") != "/":
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_what_a_crash_has_left_does_not_keep_it_from_starting(host: RuntimeLab, box: str) -> None:
    host.ok("run", "--name", box, IMAGE, "true")
    left = host.container(box) / "runtime" / host.container(box).name
    left.mkdir(parents=True)
    for name in ("state.json", "status", "record.json", "exec.fifo"):
        (left / name).write_text("{half of it")
    host.ok("start", box)
    assert host.ok("wait", box) == "0\n" and gone(host), "what a runtime was killed over is removed"


def test_one_whose_monitor_was_killed_can_be_removed_and_started_anew(host: RuntimeLab, box: str) -> None:
    for ending in (("stop", "-t", "0", box), ("rm", "-f", box)):
        host.run("start", box) if host.ids() else host.ok("run", "-d", "--name", box, IMAGE, "sleep", "1000")
        first = host.pid(box)
        os.kill(int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1]), 9)
        host.ok(*ending)
        assert until(lambda: not is_alive(first)) and gone(host), f"nothing runs on after {ending[0]}"  # noqa: B023


def is_alive(pid: int) -> bool:
    return read_start_time(pid) != 0


def test_a_builder_that_is_killed_takes_the_runtime_with_it(host: RuntimeLab, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\ncase " $* " in *" create "*) echo $$ $PPID >"$0.pids"; sleep 30;; esac\n')
    slow.chmod(0o755)
    caller = subprocess.Popen(host.command("run", "--rm", "--runtime", str(slow), IMAGE, "true"), stderr=subprocess.PIPE, text=True)
    pids = tmp_path / "slow.pids"
    assert until(lambda: pids.exists() and pids.read_text().endswith("\n")), "it is called"
    runtime, builder = map(int, pids.read_text().split())
    os.kill(builder, 9)
    assert "has been killed" in (caller.communicate(timeout=30)[1] or ""), "the caller says so"
    assert until(lambda: not is_alive(runtime)), "the runtime has died with it"
    assert host.ids() == [], "and so is the container"


def test_a_runtime_without_namespaces_of_its_own_is_refused(host: RuntimeLab, tmp_path: Path) -> None:
    """Such as one of virtual machines: what is connected, or executed, would be so on the host."""
    fake = tmp_path / "fake"
    script = 'while [ "$1" != create ]; do [ $# -gt 0 ] || exit 0; shift; done\nwhile [ "$1" != --pid-file ]; do shift; done\n'
    fake.write_text(f"#!/bin/sh\n{script}sleep 600 >/dev/null 2>&1 &\nprintf %s $! >\"$2\"\n")
    fake.chmod(0o755)
    done = host.run("run", "--rm", "--runtime", str(fake), IMAGE, "true")
    assert done.returncode == 125 and "namespace of its own; use another runtime" in done.stderr, done
    assert host.ids() == [], "and nothing is left"


def test_another_runtime_is_another_container(host: RuntimeLab, tmp_path: Path) -> None:
    compose = tmp_path / "compose.yaml"
    document = f"services:\n  web:\n    image: {IMAGE}\n    command: [sleep, '1000']\n    stop_signal: SIGKILL\n"
    compose.write_text(document)
    host.ok("apply", "--project-name", "lab", str(compose))
    before = host.ids()
    compose.write_text(f"{document}    runtime: {host.runtime}\n")
    try:
        assert "runtime" in host.ok("apply", "--project-name", "lab", str(compose)), "the reason is said"
        assert len(host.ids()) == 1 and host.ids() != before, "it was replaced"
        name = host.ok("ps", "--format", "{{.Names}}").strip()
        assert host.ok("inspect", "--format", "{{.HostConfig.Runtime}}", name).strip() == host.runtime, "and says by what it is run"
        again = host.ok("apply", "--project-name", "lab", str(compose))
        assert len(host.ids()) == 1 and "replace" not in again, "a second time nothing is done"
    finally:
        for each in host.ids():
            host.run("rm", "-f", each)


def test_nothing_of_other_runtimes_is_loaded_for_ours(host: RuntimeLab) -> None:
    interpreter, *rest = host.command("run", "--rm", "--runtime", "bayplan", IMAGE, "true")[len(host.before) :]
    line = [*host.before, interpreter, "-X", "importtime", *rest]
    done = subprocess.run(line, capture_output=True, text=True)
    loaded = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    ours = {"bayplan.engine.runtimes", "bayplan.engine.runtime_calls", "bayplan.plan.portable", "bayplan.kernel.seccomp_words"}
    assert done.returncode == 0 and not loaded & ours, "a start is as quick as before"
