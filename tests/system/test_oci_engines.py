"""Podman and Docker with bayplan-oci as their runtime: what people do with them all day.

Each engine lives in mount, network and process namespaces of its own: whatever it starts or mounts ends with the test.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import oci_lab
import pytest
from oci_lab import CGROUPS

INSIDE = """
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
if [ -d /sys/fs/cgroup/memory ] && [ ! -e /sys/fs/cgroup/hugetlb/cgroup.procs ]; then  # containerd measures nothing without it
    mkdir -p /sys/fs/cgroup/hugetlb
    mount -t cgroup -o hugetlb cgroup /sys/fs/cgroup/hugetlb || mount -t tmpfs tmpfs /sys/fs/cgroup/hugetlb
fi
echo ready
exec sleep 100000
"""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
IMAGE = "localhost/box:1"
INITS = {"podman": ("/usr/libexec/podman/catatonit",), "docker": ("/usr/bin/docker-init", "/usr/libexec/docker/docker-init")}
NEEDED = ("unshare", "nsenter", "ip", "iptables", "tar")


class Engine:
    """An engine in namespaces of its own; `argv` begins its commands."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.cgroup = f"bayplan-oci-{name}{os.getpid()}"
        self.environment = {**ENVIRONMENT, "HOME": str(directory)}
        self.runtime = oci_lab.executable(directory)
        namespaces = ("--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private")
        command = ["unshare", *namespaces, "sh", "-c", INSIDE]
        self.outside = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)
        assert self.outside.stdout and self.outside.stdout.readline() == "ready\n", "the namespaces are made"
        self.first = Path(f"/proc/{self.outside.pid}/task/{self.outside.pid}/children").read_text().split()[0]
        self.argv = self.podman() if name == "podman" else self.docker()

    def podman(self) -> list[str]:
        settings = self.directory / "containers.conf"  # raising limits beyond what we have ourselves is refused
        settings.write_text('[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
        self.environment["CONTAINERS_CONF"] = str(settings)
        place = ("--root", f"{self.directory}/root", "--runroot", f"{self.directory}/run", "--tmpdir", f"{self.directory}/tmp")
        return ["podman", *place, "--runtime", str(self.runtime)]

    def docker(self) -> list[str]:
        socket = f"unix://{self.directory}/docker.sock"
        options = ["--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec", "-H", socket,
                   "-p", f"{self.directory}/pid", "--cgroup-parent", f"/{self.cgroup}",
                   "--add-runtime", f"bay={self.runtime}", "--default-runtime", "bay"]  # fmt: skip
        with open(self.directory / "log", "w") as log:
            server = subprocess.Popen(self.inside("dockerd", *options), stdout=log, stderr=log, env=self.environment)
        argv = ["docker", "-H", socket]
        deadline = time.monotonic() + 60
        while subprocess.run(self.inside(*argv, "version"), capture_output=True, env=self.environment).returncode:
            assert server.poll() is None and time.monotonic() < deadline, (self.directory / "log").read_text()[-2000:]
            time.sleep(0.1)
        self.server = server
        return argv

    def inside(self, *words: str) -> list[str]:
        return ["nsenter", "-t", self.first, "-m", "-n", "-p", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        parent = ("--cgroup-parent", f"/{self.cgroup}") if words[0] in ("run", "create") and self.name == "podman" else ()
        command = self.inside(*self.argv, words[0], *parent, *words[1:])
        return subprocess.run(command, capture_output=True, text=True, timeout=90, env=self.environment, stdin=subprocess.DEVNULL)

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{self.name} {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def on_terminal(self, *words: str) -> tuple[int, str]:
        """The exit status, and what the terminal showed."""
        master, slave = pty.openpty()
        parent = ("--cgroup-parent", f"/{self.cgroup}") if words[0] == "run" and self.name == "podman" else ()
        child = subprocess.Popen(self.inside(*self.argv, words[0], *parent, *words[1:]), stdin=slave, stdout=slave, stderr=slave,
                                 env=self.environment, start_new_session=True)  # fmt: skip
        os.close(slave)
        said = oci_lab.read_all(master)
        return child.wait(60), said

    def close(self) -> None:
        """Everything in its namespaces ends, with the first process there."""
        self.outside.kill()
        self.outside.communicate()
        if self.name == "docker":
            self.server.wait()
        for hierarchy in {CGROUPS, *CGROUPS.glob("*")}:
            for top in (self.cgroup, "libpod_parent"):
                if top == self.cgroup or self.name == "podman":
                    remove_tree(hierarchy / top)


def remove_tree(directory: Path) -> None:
    """Of cgroups whose processes have ended, or are about to."""
    deadline = time.monotonic() + 5
    while directory.is_dir() and time.monotonic() < deadline:
        for inner, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(inner)


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    programs = ("podman", "conmon") if request.param == "podman" else ("docker", "dockerd", "containerd")
    missing = [program for program in (*programs, *NEEDED) if not shutil.which(program, path=ENVIRONMENT["PATH"])]
    if os.geteuid() != 0 or missing or not Path("/bin/busybox").exists():
        pytest.skip(f"needs root, busybox-static and {', '.join(missing) or request.param}")
    directory = Path(tempfile.mkdtemp(prefix="bpe", dir="/var/tmp"))  # overlayfs does not lie on overlayfs
    found = Engine(request.param, directory)
    try:
        rootfs = oci_lab.make_rootfs(directory / "image")
        subprocess.run(["tar", "-C", str(rootfs), "-cf", str(directory / "image.tar"), "."], check=True)
        found.ok("import", str(directory / "image.tar"), IMAGE)
        yield found
    finally:
        found.close()
        shutil.rmtree(directory)


@pytest.fixture
def sleeper(engine: Engine) -> Iterator[str]:
    engine.ok("run", "--detach", "--name", "sleeper", "--network", "none", IMAGE, "/bin/sleep", "1000")
    yield "sleeper"
    engine.ok("rm", "--force", "sleeper")


def test_a_container_runs_to_its_end(engine: Engine) -> None:
    done = engine.run("run", "--rm", "--network", "none", IMAGE, "/bin/sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout) == (5, "out\n") and "err\n" in done.stderr, f"streams and exit status: {done}"
    assert engine.ok("ps", "--all", "--quiet") == "", "--rm leaves nothing"


@pytest.mark.parametrize(("program", "status"), [("/bin/nosuch", 127), ("nosuch", 127), ("/etc", 126), ("/etc/passwd", 126)])
def test_a_program_that_cannot_be_executed_has_a_shells_status(engine: Engine, program: str, status: int) -> None:
    done = engine.run("run", "--rm", "--network", "none", IMAGE, program)
    assert done.returncode == status, f"{program}: {done}"


def test_a_terminal_has_the_container(engine: Engine) -> None:
    status, said = engine.on_terminal("run", "--rm", "--interactive", "--tty", "--network", "none", IMAGE, "/bin/sh", "-c", "tty; exit 9")
    assert status == 9 and "/dev/pts/0" in said, f"run --tty: {said}"


def test_exec_runs_more_programs(engine: Engine, sleeper: str) -> None:
    done = engine.run("exec", "--env", "A=b", "--user", "5:6", "--workdir", "/tmp", sleeper, "/bin/sh", "-c", "echo $A $PWD; id; exit 4")
    assert done.returncode == 4 and done.stdout.startswith("b /tmp\nuid=5 gid=6"), f"with options: {done}"
    status, said = engine.on_terminal("exec", "--interactive", "--tty", sleeper, "/bin/sh", "-c", "tty; exit 6")
    assert status == 6 and "/dev/pts/" in said, f"with a terminal: {said}"
    status = 127 if engine.name == "podman" else 126  # which Docker 20.10 says of any runtime
    assert engine.run("exec", sleeper, "/bin/nosuch").returncode == status, "with a shell's status"
    engine.ok("exec", "--detach", sleeper, "/bin/sleep", "1001")
    assert "sleep 1001" in engine.ok("top", sleeper), "and left alone"


def test_pause_and_unpause(engine: Engine, sleeper: str) -> None:
    engine.ok("pause", sleeper)
    assert engine.ok("inspect", "--format", "{{.State.Status}}", sleeper).strip() == "paused", "it is shown as paused"
    assert engine.run("exec", sleeper, "/bin/true").returncode != 0, "nothing is executed in it"
    engine.ok("unpause", sleeper)
    engine.ok("exec", sleeper, "/bin/true")


def test_what_it_uses_is_told(engine: Engine) -> None:
    engine.ok("run", "--detach", "--name", "busy", "--memory", "64m", "--network", "none", IMAGE, "/bin/sh", "-c", "while :; do :; done")
    try:
        used, limit = engine.ok("stats", "--no-stream", "--format", "{{.MemUsage}}", "busy").split(" / ")
        assert limit.strip() in ("64MiB", "67.11MB") and not used.startswith("0B"), f"memory, of its limit: {used} / {limit}"
        busy = engine.ok("stats", "--no-stream", "--format", "{{.CPUPerc}}", "busy").strip()
        assert float(busy.rstrip("%")) > 0, f"and the processor: {busy}"
    finally:
        engine.ok("rm", "--force", "busy")


def test_update_changes_limits(engine: Engine, sleeper: str) -> None:
    done = engine.run("update", "--memory", "64m", "--memory-swap", "64m", "--cpu-shares", "300", sleeper)
    if "unrecognized command" in done.stderr.lower():
        pytest.skip("this podman has no update")
    assert done.returncode == 0, f"it is done: {done}"
    if (CGROUPS / "memory").is_dir():
        limits = [path.read_text() for path in (CGROUPS / "memory" / engine.cgroup).rglob("memory.limit_in_bytes")]
        assert "67108864\n" in limits, "in the container's cgroup"


def test_stop_is_graceful_first(engine: Engine) -> None:
    script = "trap 'exit 3' TERM; while :; do sleep 0.05; done"
    engine.ok("run", "--detach", "--name", "polite", "--network", "none", IMAGE, "/bin/sh", "-c", script)
    engine.ok("run", "--detach", "--name", "deaf", "--network", "none", IMAGE, "/bin/sleep", "1000")
    time.sleep(0.5)
    for name, status in (("polite", "3"), ("deaf", "137")):
        engine.ok("stop", "--time", "1", name)
        assert engine.ok("inspect", "--format", "{{.State.ExitCode}}", name).strip() == status, f"{name} ends as it does"
        engine.ok("rm", name)


def test_it_starts_again(engine: Engine) -> None:
    engine.ok("create", "--name", "again", "--network", "none", IMAGE, "/bin/sh", "-c", "echo once")
    for _ in range(2):
        assert engine.ok("start", "--attach", "again") == "once\n", "from the same container"
    engine.ok("rm", "again")


def test_kill_sends_any_signal(engine: Engine) -> None:
    script = "trap 'exit 8' USR1; while :; do sleep 0.05; done"
    engine.ok("run", "--detach", "--name", "told", "--network", "none", IMAGE, "/bin/sh", "-c", script)
    time.sleep(0.5)
    engine.ok("kill", "--signal", "USR1", "told")
    assert engine.ok("wait", "told").strip() == "8", "which its process gets"
    engine.ok("rm", "told")


def test_a_bridge_network_and_a_published_port(engine: Engine) -> None:
    done = engine.run("run", "--detach", "--name", "web", "--publish", "8080:80", IMAGE, "/bin/sh", "-c",
                      "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www")  # fmt: skip
    if done.returncode and ("netavark" in done.stderr or "cni" in done.stderr.lower()):
        pytest.skip(f"there is no network for it here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, f"it starts: {done}"
    try:
        assert "eth0" in engine.ok("exec", "web", "/bin/cat", "/proc/net/dev"), "it has an interface"
        address = "127.0.0.1:8080"
        deadline, said = time.monotonic() + 15, ""
        while "hello" not in said and time.monotonic() < deadline:
            got = subprocess.run(engine.inside("busybox", "wget", "-qO-", f"http://{address}/"), capture_output=True, text=True)
            said = got.stdout
            time.sleep(0.1)
        assert said == "hello\n", "its port is reached from the host"
    finally:
        engine.ok("rm", "--force", "web")


def test_what_people_give_a_container_arrives(engine: Engine) -> None:
    (engine.directory / "shared").mkdir(exist_ok=True)
    options = ("--volume", f"{engine.directory}/shared:/shared", "--tmpfs", "/scratch", "--hostname", "named", "--read-only", "--init",
               "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--security-opt", "no-new-privileges", "--pids-limit", "100",
               "--shm-size", "16m", "--sysctl", "net.ipv4.ip_forward=1", "--ulimit", "core=0:0",
               "--ulimit", "nofile=99:99", "--ulimit", "nproc=999:999", "--device", "/dev/fuse")  # fmt: skip
    if not any(Path(path).exists() for path in INITS[engine.name]):
        options = tuple(word for word in options if word != "--init")
    script = """hostname; echo x > /shared/file && touch /scratch/a && ! touch /y 2>/dev/null &&
                grep CapEff /proc/self/status && cat /proc/sys/net/ipv4/ip_forward"""
    if not Path("/dev/fuse").exists():
        options = options[: options.index("--device")]
    done = engine.run("run", "--rm", "--network", "none", *options, IMAGE, "/bin/sh", "-c", script)
    assert done.returncode == 0 and done.stdout.split() == ["named", "CapEff:", "0000000000001000", "1"], f"volumes to sysctls: {done}"
    assert (engine.directory / "shared/file").read_text() == "x\n", "and the other way"
