"""A host whose first process is systemd, with cgroup v2: containers in scopes, which no session, reload or other runtime changes."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from cli_lab import Lab, lab
from oci_lab import executable
from sandbox_lab import NAMESPACES, Box

from bayplan.kernel import cgroups

NAME = f"test{os.getpid()}"
ROOT = pathlib.Path(cgroups.ROOT)
BOOTED = os.path.exists("/run/systemd/private") and (ROOT / "cgroup.controllers").exists()

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts"),
    pytest.mark.skipif(not BOOTED, reason="no systemd runs this host with cgroup v2"),
]
LIMITS = {"memory.max": "67108864", "pids.max": "50", "cpu.max": "20000 100000"}


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True, timeout=120).stdout


def unit(name: str, *properties: str) -> dict[str, str]:
    shown = systemctl("show", name, "--property", ",".join(("LoadState", "ActiveState", *properties)))
    return dict(line.split("=", 1) for line in shown.splitlines())


def limits(directory: pathlib.Path) -> dict[str, str]:
    return {name: (directory / name).read_text().strip() for name in LIMITS}


def until_gone(name: str) -> None:
    deadline = time.monotonic() + 60
    while unit(name)["LoadState"] != "not-found":
        assert time.monotonic() < deadline, f"systemd has forgotten {name}: {unit(name)}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("cli")) as found:
        yield found


# -- bayplan ----------------------------------------------------------------------------------------------------------------


class Session:
    """An sshd for this test alone, through PAM as everywhere, so that each connection is a session of systemd-logind's.

    It is a service: what is in a session, as the tests may be, gets no other.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
        self.key, config = directory / "user", directory / "sshd_config"
        config.write_text(
            f"HostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\nUsePAM yes\nPermitRootLogin yes\nStrictModes no\n"
        )
        self.proxy = f"ProxyCommand=systemd-run --quiet --pipe --collect /usr/sbin/sshd -i -f {config}"

    def command(self, *words: str) -> list[str]:
        options = [self.proxy, "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        return ["ssh", "-i", str(self.key), *(word for option in options for word in ("-o", option)), "root@host", *words]


def test_a_container_outlives_the_session_that_started_it(host: Lab, tmp_path: pathlib.Path) -> None:
    if not shutil.which("sshd", path="/usr/sbin") or not os.path.exists("/usr/bin/loginctl"):
        pytest.skip("there is no sshd, or no logind (Debian: openssh-server, libpam-systemd)")
    run = host.command("run", "-d", "--name", "left", "-m", "64m", "--cpus", "0.2", "--pids-limit", "50", "box:1", "sleep", "1000")
    # the session's last process waits on, so that it can be ended with all that is in it
    script = f"{' '.join(run)} && cat /proc/self/cgroup && exec sleep 1000"
    with subprocess.Popen(Session(tmp_path).command(script), stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout
        container = session.stdout.readline().strip()
        scope = session.stdout.readline().strip().rpartition("/")[2]
        assert scope.startswith("session-") and scope.endswith(".scope"), f"it is started in a session: {scope!r}"
        assert scope not in pathlib.Path("/proc/self/cgroup").read_text(), "not in that of the tests"
        systemctl("kill", "--signal", "KILL", scope)
    until_gone(scope)
    assert host.status("left") == "running", "the session has ended, and everything in it; not the container"
    [name] = [line.split()[0] for line in systemctl("list-units", "--plain", "--no-legend", f"bayplan-*{container}.scope").splitlines()]
    seen = unit(name, "Slice", "Delegate", "ControlGroup")
    assert (seen["ActiveState"], seen["Slice"], seen["Delegate"]) == ("active", "bayplan.slice", "yes"), "it has a scope of its own"
    place = pathlib.Path(f"{ROOT}{seen['ControlGroup']}")
    assert limits(place / "container") == LIMITS, "and its limits"
    systemctl("daemon-reload")
    assert limits(place / "container") == LIMITS, "which systemd does not touch"
    host.ok("rm", "-f", "left")
    until_gone(name)
    assert not place.exists(), "nothing of it is left"


def test_a_shared_cgroup_namespace_leaves_the_hosts_options_alone(host: Lab, tmp_path: pathlib.Path) -> None:
    def options() -> str:
        rows = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        return next(row.rpartition(" ")[2] for row in rows if row.split(" ")[4] == str(ROOT))

    # as systemd mounts it; another runtime's container may have changed it since
    subprocess.run(["mount", "-o", "remount,nsdelegate,memory_recursiveprot", str(ROOT)], check=True)
    before = options()
    assert "nsdelegate" in before
    shared = {"namespaces": tuple(each for each in NAMESPACES if each.type != "cgroup")}
    said = Box(tmp_path).run("sh", "-c", "test -e /sys/fs/cgroup/system.slice && mkdir /sys/fs/cgroup/x", linux=shared)
    assert said.status == 1 and "Read-only" in said.output, "it sees the host's tree, which it cannot write"
    assert options() == before, "and has not changed it for all"
    said = host.run("run", "--rm", "-m", "64m", "--systemd", "always", "box:1", "sh", "-c", "echo max > /sys/fs/cgroup/memory.max")
    assert said.returncode == 1 and "not permitted" in said.stderr, "so no container lifts its own limits, though it has cgroups to write"


# -- bayplan-oci ------------------------------------------------------------------------------------------------------------


class Bundle:
    def __init__(self, box: Box) -> None:
        self.directory = box.directory / "bundle"
        self.directory.mkdir()
        self.program = executable(self.directory)
        assert self.oci("spec").returncode == 0, "there is a configuration to start from"
        document = json.loads((self.directory / "config.json").read_text())
        document["root"] = {"path": str(box.layer)}
        document["process"].update(args=["sleep", "1000"], terminal=False, env=["PATH=/bin"])
        document["linux"]["cgroupsPath"] = f"bayplan-test.slice:bayplan:{NAME}"
        document["linux"]["resources"].update(memory={"limit": 67108864}, pids={"limit": 50}, cpu={"quota": 20000, "period": 100000})
        (self.directory / "config.json").write_text(json.dumps(document))

    def oci(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), "--root", str(self.directory / "state"), "--systemd-cgroup", *words]
        with open(self.directory / "stdout", "w+") as out, open(self.directory / "stderr", "w+") as err:  # a container keeps its own
            done = subprocess.run(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=120, check=False)
        said = [(self.directory / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(words, done.returncode, *said)

    def ok(self, *words: str) -> str:
        done = self.oci(*words)
        assert (done.returncode, done.stderr) == (0, ""), f"bayplan-oci {' '.join(words)}: {done}"
        return done.stdout


@pytest.fixture
def bundle(tmp_path: pathlib.Path) -> Iterator[Bundle]:
    made = Bundle(Box(tmp_path))
    yield made
    made.oci("delete", "--force", NAME)


def test_the_oci_runtime_has_a_scope_whose_limits_a_reload_leaves(bundle: Bundle) -> None:
    scope = f"bayplan-{NAME}.scope"
    bundle.ok("create", NAME)
    seen = unit(scope, "Slice", "Delegate", "ControlGroup", "DefaultDependencies")
    assert seen["ControlGroup"] == f"/bayplan.slice/bayplan-test.slice/{scope}", "where cgroupsPath says"
    assert (seen["ActiveState"], seen["Slice"], seen["Delegate"]) == ("active", "bayplan-test.slice", "yes"), "systemd knows it"
    assert seen["DefaultDependencies"] == "no", "and leaves it to its engine at a shutdown"
    place = pathlib.Path(f"{ROOT}{seen['ControlGroup']}")
    assert limits(place / "container") == LIMITS, "it has its limits before it starts"
    bundle.ok("start", NAME)
    pid = json.loads(bundle.ok("state", NAME))["pid"]
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", scope, "MemoryMax=1G")
    assert limits(place / "container") == LIMITS, "they stay, whatever systemd does with its units"
    assert int((place / "container/cgroup.procs").read_text()) == pid, "its process is in there, and nothing else"
    bundle.ok("update", "--pids-limit", "70", NAME)
    assert limits(place / "container") == {**LIMITS, "pids.max": "70"}, "but what is changed"
    assert bundle.ok("exec", NAME, "cat", "/proc/self/cgroup") == "0::/\n", "what enters it is in its cgroup"
    bundle.ok("delete", "--force", NAME)
    until_gone(scope)
    assert not place.exists(), "nothing of it is left"


def test_a_scope_that_is_ended_by_systemd_is_a_stopped_container(bundle: Bundle) -> None:
    bundle.ok("run", "--detach", NAME)
    refused = bundle.oci("--root", str(bundle.directory / "other"), "run", "--detach", NAME)
    assert refused.returncode == 1 and "is not empty" in refused.stderr, "two containers are not in one scope"
    systemctl("kill", "--signal", "KILL", f"bayplan-{NAME}.scope")
    until_gone(f"bayplan-{NAME}.scope")
    assert json.loads(bundle.ok("state", NAME))["status"] == "stopped", "it has ended, and can be looked at"
    bundle.ok("delete", NAME)
    bundle.ok("run", "--detach", NAME)
    assert unit(f"bayplan-{NAME}.scope")["ActiveState"] == "active", "and the name is free again"


@pytest.fixture
def storage() -> Iterator[pathlib.Path]:
    """Podman's, whose paths are short, and which it mounts on itself."""
    if not shutil.which("podman"):
        pytest.skip("podman is not installed (Debian: podman)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bayplan-", dir="/var/tmp"))
    yield directory
    subprocess.run(["umount", "--lazy", str(directory / "storage/overlay")], capture_output=True, check=False)
    shutil.rmtree(directory)


def test_podman_runs_containers_in_scopes_by_the_oci_runtime(tmp_path: pathlib.Path, storage: pathlib.Path) -> None:
    box, name = Box(tmp_path), f"podman-{NAME}"
    (tmp_path / "runtime").mkdir()
    places = ("--root", str(storage / "storage"), "--runroot", str(storage / "run"), "--storage-driver", "overlay")
    command = ["podman", *places, "--cgroup-manager", "systemd", "--runtime", str(executable(tmp_path / "runtime")), "--log-level", "error"]

    def podman(*words: str) -> str:
        with open(tmp_path / "said", "w+") as said:  # what watches a container keeps its streams
            done = subprocess.run([*command, *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=120, check=False)
        text = (tmp_path / "said").read_text()
        assert done.returncode == 0, f"podman {' '.join(words)}: {text}"
        return text

    subprocess.run(["tar", "-C", str(box.layer), "-cf", str(tmp_path / "root.tar"), "."], check=True)
    podman("import", str(tmp_path / "root.tar"), "localhost/box:1")
    options = ("--network", "none", "--memory", "64m", "--cpus", "0.2", "--pids-limit", "50")
    podman("run", "--detach", "--name", name, *options, "localhost/box:1", "sleep", "1000")
    scope = f"libpod-{podman('inspect', '--format', '{{.Id}}', name).strip()}.scope"
    try:
        place = pathlib.Path(f"{ROOT}{unit(scope, 'ControlGroup')['ControlGroup']}")
        systemctl("daemon-reload")
        assert limits(place / "container") == LIMITS, "its limits are there, and stay"
        assert podman("exec", name, "cat", "/proc/self/cgroup") == "0::/\n", "what enters it is in its cgroup"
        assert "67.11MB" in podman("stats", "--no-stream", name), "it is measured"
        podman("pause", name)
        assert podman("inspect", "--format", "{{.State.Status}}", name) == "paused\n", "it is paused"
        podman("unpause", name)
    finally:
        podman("rm", "--force", "--time", "0", name)
    until_gone(scope)
    podman("rmi", "localhost/box:1")
