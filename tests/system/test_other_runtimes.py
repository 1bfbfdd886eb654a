"""Containers that another OCI runtime runs for us: they do all that ours do, and what they cannot do is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Typist, root_file_system
from runtime_lab import RUNTIMES, RuntimeLab, gone, runtime_lab, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module", params=RUNTIMES)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeLab]:
    with runtime_lab(tmp_path_factory.mktemp("cli"), request.param) as found:
        yield found


@pytest.fixture
def box(host: RuntimeLab) -> Iterator[str]:
    """The name of a container that may be made; it is removed afterwards."""
    yield "box"
    host.run("rm", "-f", "-v", "box")


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
    healthy = lambda: host.run("inspect", "--format", "{{.State.Health.Status}}", box).stdout.strip() == "healthy"  # noqa: E731
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
