"""Hostile images, containers and volumes against the whole engine, as the command line and the converger drive it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Typist
from engine_lab import RUNTIME, Lab, reap, service
from kernel_lab import needs

from bayplan import install
from bayplan.engine import containers, execute, files, images
from bayplan.errors import BayplanError, Conflict, Denied, Invalid
from bayplan.store import records
from bayplan.store.root import StateRoot

NET = ("--network", "none")
ESCAPES = "\x1b]0;gotcha\x07\x9b31m\x7f\u202e"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    found = Lab(tmp_path_factory.mktemp("attacks"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def alone(lab: Lab) -> Iterator[None]:
    """Each test begins without containers and volumes."""
    yield
    for record in containers.all_records(lab.state()):
        lab.command("rm", "-f", "-v", record.name)
    for row in records.volumes(lab.state().records):
        lab.command("volume", "rm", row.name)
    reap()


def load(lab: Lab, name: str, config: dict[str, Any], entries: tuple[tarfile.TarInfo, ...] = ()) -> None:
    """An image of the lab's tree and `entries` (without content), with whatever its author wrote into its config."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(str(Path(lab.path).parent / "tree"), arcname=".")
        for each in entries:
            tar.addfile(each)
    rootfs = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}
    run = {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000"], **config}
    document = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": run}).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    path = str(Path(lab.path).parent / "hostile.tar")
    with tarfile.open(path, "w") as tar:
        for member, data in (("config.json", document), ("layer.tar", layer.getvalue()), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    images.load(lab.state(), path)


def argv(lab: Lab, *words: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(RUNTIME / "bayplan/__main__.py"), "--root", lab.path, *words]


# volumes


def test_a_link_that_a_container_leaves_in_a_volume_gives_another_one_nothing_of_the_host(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the host's\n")
    up = "../" * 40 + str(tmp_path)[1:]
    links = f"busybox ln -s {tmp_path} /v/absolute; busybox ln -s {up} /v/up; busybox ln -s /real /v/inside"
    plant = f"mkdir /v/real; echo ours >/v/real/f; {links}"
    lab.command("run", "--rm", *NET, "-v", "shared:/v", "lab:1", "sh", "-c", plant)
    for link in ("absolute", "up"):
        mount = f"type=volume,source=shared,target=/m,volume-subpath={link}"
        said = lab.command("run", "--rm", *NET, "--mount", mount, "lab:1", "cat", "/m/secret", status=125)
        assert "does not exist" in said, "a subpath's links are resolved inside the volume, where there is nothing of the host"
    mount = "type=volume,source=shared,target=/m,volume-subpath=inside"
    assert lab.command("run", "--rm", *NET, "--mount", mount, "lab:1", "cat", "/m/f") == "ours\n", "a link inside the volume works"


def test_a_subpath_of_a_volume_that_is_a_file_system_is_refused_and_not_ignored(lab: Lab) -> None:
    lab.command("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "memory")
    mount = "type=volume,source=memory,target=/m,volume-subpath=part"
    assert "subpath" in lab.command("run", "--rm", *NET, "--mount", mount, "lab:1", "true", status=125), "never the whole for a part"


def test_who_shares_an_empty_volume_cannot_turn_its_filling_against_the_host(lab: Lab, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    entries = tuple(tarfile.TarInfo(f"seed/f{number:03}") for number in range(400))
    for each in entries:
        each.mode = 0o777
    load(lab, "seeds:1", {}, entries)
    racer = "import os,sys\nwhile 1:\n for n in os.listdir('.'):\n  try: os.unlink(n); os.symlink(sys.argv[1], n)\n  except OSError: pass\n"
    for number in range(4):
        lab.command("volume", "create", f"raced{number}")
        data = StateRoot(lab.path).volume_data(f"raced{number}")
        racing = subprocess.Popen([sys.executable, "-c", racer, "../" * 40 + str(victim)[1:]], cwd=data, stderr=subprocess.DEVNULL)
        try:
            subprocess.run(argv(lab, "run", "--rm", *NET, "-v", f"raced{number}:/seed", "seeds:1", "true"), capture_output=True, timeout=60)
        finally:
            racing.kill()
            racing.wait()
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600, "modes are set on what was copied, never through a link in the volume"


def test_a_tree_too_deep_to_copy_is_an_error_and_no_obstacle_to_removing_all(tmp_path: Path) -> None:
    own = Lab(tmp_path)
    deep = tarfile.TarInfo("seed/" + "d/" * 1400)
    deep.type, deep.mode = tarfile.DIRTYPE, 0o755
    load(own, "deep:1", {}, (deep,))
    assert "filling a volume" in own.command("run", "--rm", *NET, "-v", "deep:/seed", "deep:1", "true", status=125)
    root = StateRoot(own.path)
    assert os.listdir(root.volume_data("deep")) == [], "half an image's directory does not pass for all of it at the next start"
    assert os.listdir(root.volume("deep")) == ["_data"], "nothing is left beside it"
    own.command("uninstall", "--force", "--volumes")
    assert not os.path.exists(own.path), "however deep a tree is, it can be removed"


def test_several_that_fill_the_same_volume_at_once_all_find_it_filled(lab: Lab) -> None:
    rest = ("--rm", *NET, "-v", "once:/seed", "lab:1", "cat", "/seed/first")
    commands = [argv(lab, "run", "--name", f"filler{each}", *rest) for each in range(4)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands]
    assert [each.communicate(timeout=60)[0] for each in running] == ["from the image\n"] * 4


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "-x", "a\nb", "a b", "$(id)"])
def test_a_volume_s_name_is_one_plain_word(lab: Lab, name: str) -> None:
    mount = f"type=volume,source={name},target=/m"
    lab.command("run", "--rm", *NET, "--mount", mount, "lab:1", "true", status=125)
    assert not records.volumes(lab.state().records), "nothing was made"


# an image's config


@pytest.mark.parametrize("path", ["//data", "/x/../data", "/data/", "data"])
def test_an_image_s_own_volume_never_lies_over_a_declared_one(lab: Lab, path: str) -> None:
    load(lab, "cover:1", {"Volumes": {path: {}}})
    lab.command("run", "--rm", *NET, "-v", "mine:/data", "cover:1", "sh", "-c", "echo kept >/data/f")
    written = (Path(StateRoot(lab.path).volume_data("mine")) / "f").read_text()
    assert written == "kept\n", "what is written to /data is in the volume declared for it"


@pytest.mark.parametrize("path", ["/", "", "/.."])
def test_an_image_s_volume_at_the_root_is_refused(lab: Lab, path: str) -> None:
    load(lab, "rooted:1", {"Volumes": {path: {}}})
    assert "volume at /" in lab.command("create", "rooted:1", status=1)
    assert not containers.all_records(lab.state()), "and nothing of it is recorded"


def test_an_image_with_a_signal_that_there_is_not_can_be_stopped_and_removed(lab: Lab) -> None:
    load(lab, "unstoppable:1", {"StopSignal": "SIGFOO"})
    lab.command("run", "-d", *NET, "--init", "--name", "unstoppable", "unstoppable:1")
    lab.command("stop", "-t", "1", "unstoppable")
    assert lab.run("unstoppable").status == "exited", "an image's config never keeps its container from being stopped"


def test_a_health_check_that_is_due_in_a_century_does_not_end_the_monitor(lab: Lab) -> None:
    load(lab, "patient:1", {"Cmd": ["sh", "-c", "sleep 0.5; exit 7"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": 2**63 - 1}})
    lab.command("run", "-d", *NET, "--name", "patient", "patient:1")
    assert lab.command("wait", "patient") == "7\n", "the monitor lives, and keeps the exit status"


@pytest.mark.parametrize("test", [["CMD"], ["CMD-SHELL", "yes & exit 0"], ["CMD-SHELL"]])
def test_a_health_check_that_makes_no_sense_leaves_a_container_that_can_be_managed(lab: Lab, test: list[str]) -> None:
    check = {"Test": test, "Interval": 50_000_000, "Timeout": 200_000_000, "Retries": 1}
    load(lab, "odd:1", {"Healthcheck": check})
    lab.command("run", "-d", *NET, "--name", "odd", "odd:1")
    lab.wait("a probe has run", lambda: lab.run("odd").health in ("healthy", "unhealthy"))
    assert lab.run("odd").monitored, "its monitor is there"
    assert "Error" not in (lab.directory("odd") / "health").read_text(), "and no exception of ours passes for the probe's output"


def test_an_image_that_wants_thousands_of_volumes_is_refused(lab: Lab) -> None:
    with pytest.raises(Invalid, match="Volumes"):
        load(lab, "hoarder:1", {"Volumes": {f"/v{number}": {} for number in range(3000)}})


@pytest.mark.parametrize("port", ["99999/tcp", "0/tcp", "-1/tcp", "80/tcp;drop", "80/tcp\n", "x"])
def test_an_image_s_impossible_ports_are_refused_and_spoil_no_record(lab: Lab, port: str) -> None:
    load(lab, "ports:1", {"ExposedPorts": {port: {}}})
    assert "exposes" in lab.command("create", "-P", "ports:1", status=1)
    assert lab.command("ps", "-aq") == "", "the state can be read as before"


@pytest.mark.parametrize("path", ["/proc/self/fd/3", "/proc/1/root", "/proc/self/cwd/x", "relative"])
def test_a_working_directory_through_procfs_is_refused(lab: Lab, path: str) -> None:
    load(lab, "cwd:1", {"WorkingDir": path})
    lab.command("run", "--rm", *NET, "cwd:1", "true", status=125)


def test_what_an_image_calls_its_working_directory_is_made_inside(lab: Lab, tmp_path: Path) -> None:
    load(lab, "cwd:1", {"WorkingDir": f"/../../..{tmp_path}/made\nhere"})
    assert lab.command("run", "--rm", *NET, "cwd:1", "busybox", "pwd") == f"{tmp_path}/made\nhere\n"
    assert not os.listdir(tmp_path), "nothing was made on the host"


@pytest.mark.parametrize("user", ["-1", "4294967295", "root:", ":", "0:0:0", "root\n", "$(id)", " "])
def test_an_image_s_odd_user_is_refused_and_never_root_by_accident(lab: Lab, user: str) -> None:
    load(lab, "user:1", {"User": user})
    lab.command("run", "--rm", *NET, "user:1", "id", status=125)


def test_an_image_s_variables_are_the_container_s_alone(lab: Lab) -> None:
    load(lab, "env:1", {"Env": ["PATH=/bin", "LD_PRELOAD=/evil.so", "PYTHONPATH=/evil", "PYTHONSTARTUP=/evil", "BAYPLAN_ROOT=/evil"]})
    lab.command("run", "-d", *NET, "--name", "env", "env:1")
    monitor = json.loads((lab.directory("env") / "started").read_text())["monitor"]
    assert b"evil" not in Path(f"/proc/{monitor}/environ").read_bytes(), "the monitor has an environment of its own"
    assert "LD_PRELOAD=/evil.so" in lab.inside("env", "busybox", "env"), "the container has what its image says"


# what is shown


def test_what_an_image_says_never_reaches_a_terminal_raw(lab: Lab) -> None:
    load(lab, "shown:1", {"Labels": {"a": ESCAPES}, "Cmd": ["sleep", ESCAPES], "Env": [f"A={ESCAPES}"]})
    lab.command("create", *NET, "--name", "shown", "--label", f"b={ESCAPES}", "shown:1")
    said = [
        lab.command("ps", "-a", "--no-trunc"),
        lab.command("inspect", "shown"),
        lab.command("inspect", "--type", "image", "shown:1"),
        lab.command("ps", "-a", "--format", "json"),
    ]
    for text in said:
        assert text.replace("\n", "").isprintable(), "tables and JSON are escaped for everybody"
    assert json.loads(said[2])[0]["Config"]["Labels"] == {"a": ESCAPES}, "and JSON still says exactly what there is"
    for words in (("ps", "-a", "--format", "{{.Labels}}"), ("inspect", "--format", "{{.Config.Labels}}", "shown")):
        assert ESCAPES in lab.command(*words), "a program gets what it asked for"
        typist = Typist(argv(lab, *words))
        assert typist.end() == 0
        assert typist.seen.decode().replace("\r\n", "").isprintable(), "a terminal gets it escaped"


def test_output_of_a_container_is_one_json_line_a_line_whatever_it_says(lab: Lab) -> None:
    forged = r'x","stream":"stderr","time":"2000-01-01T00:00:00Z"}\n{"log":"forged'
    lab.command("run", "-d", *NET, "--name", "forger", "lab:1", "busybox", "printf", f"{forged}\\033[2J\\000\\377\n")
    lab.command("wait", "forger")
    lines = (lab.directory("forger") / "json.log").read_text().splitlines()
    assert [set(json.loads(line)) for line in lines] == [{"log", "stream", "time"}] * 2
    assert {json.loads(line)["stream"] for line in lines} == {"stdout"}, "no record can be forged from inside"


# exec


def test_exec_ends_with_its_process_although_a_child_of_it_writes_for_ever(lab: Lab) -> None:
    lab.command("run", "-d", *NET, "--name", "flooded", "lab:1", "sleep", "1000")
    done = subprocess.run(argv(lab, "exec", "flooded", "sh", "-c", "busybox yes & exit 3"), stdout=subprocess.DEVNULL, timeout=10)
    assert done.returncode == 3, "what is left in the pipes is shown, and not what comes after"


def test_exec_into_a_number_that_became_another_process_runs_nothing(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.command("run", "-d", *NET, "--name", "gone", "lab:1", "sleep", "1000")
    state, record = lab.state(), lab.record("gone")
    truth = containers.started(state, record)
    other = subprocess.Popen(["sleep", "1000"])
    looks = iter([truth._replace(pid=other.pid), truth])  # the number changes hands between the look and the entering
    monkeypatch.setattr(containers, "started", lambda *_: next(looks))
    try:
        wanted = execute.process(state, record, ("sh", "-c", f"echo out >{tmp_path}/escaped"))
        with pytest.raises(BayplanError), open("/dev/null", "r+b") as null:
            execute.enter(state, record, wanted, stdio=(null.fileno(),) * 3)
    finally:
        other.kill()
        other.wait()
    assert not os.listdir(tmp_path), "no program ran on the host"


def test_exec_of_proc_self_exe_reaches_no_file_of_the_host(lab: Lab) -> None:
    interpreter = os.stat(os.path.realpath(sys.executable))
    lab.command("run", "-d", *NET, "--name", "looped", "lab:1", "sleep", "1000")
    ran = subprocess.run(argv(lab, "exec", "looped", "/proc/self/exe"), capture_output=True, timeout=20)
    assert ran.returncode != 0, "what /proc/self/exe was is a trampoline without a program of its own"
    lab.command("exec", "looped", "sh", "-c", "for p in /proc/[0-9]*; do echo x 2>&1 >>$p/exe; done; true")
    assert os.stat(os.path.realpath(sys.executable)).st_mtime_ns == interpreter.st_mtime_ns, "the interpreter is as it was"


# /etc/hosts


def test_a_container_that_leases_its_hosts_file_keeps_nobody_waiting(lab: Lab) -> None:
    import fcntl

    lab.command("run", "-d", "--name", "leaser", "lab:1", "sleep", "1000")
    hosts = os.open(lab.directory("leaser") / "hosts", os.O_RDWR)  # the very inode that the container has, and may lease as its owner
    try:
        os.set_blocking(hosts, True)
        import signal

        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(hosts, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        begun = time.monotonic()
        lab.command("run", "--rm", "lab:1", "true")
        assert time.monotonic() - begun < 20, "a start on the same network does not wait for the lease to be broken (45 s)"
    finally:
        fcntl.fcntl(hosts, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        signal.signal(signal.SIGIO, before)
        os.close(hosts)


def test_whatever_a_container_writes_into_its_hosts_file_only_spoils_its_own(lab: Lab) -> None:
    from bayplan.plan.hostfiles import BEGIN, END

    lab.command("run", "-d", "--name", "writer", "lab:1", "sleep", "1000")
    forged = f"{END}\\n{BEGIN}\\n{BEGIN}\\n6.6.6.6 victim\\000\\377\\n"
    lab.inside("writer", "sh", "-c", f"busybox printf '{forged}' >/etc/hosts; busybox truncate -s 3G /etc/hosts")
    assert "6.6.6.6" not in lab.command("run", "--rm", "--name", "victim", "lab:1", "cat", "/etc/hosts"), "it reaches no neighbour"
    assert os.stat(lab.directory("writer") / "hosts").st_size <= 2 * files.HOSTS_LIMIT, "and is read up to a bound"
    lab.command("exec", "writer", "sh", "-c", "busybox rm /etc/hosts || busybox mv /etc/hosts /x", status=1)
    assert not (lab.directory("writer") / "hosts").is_symlink(), "it cannot be replaced by a link: it is a mount point"


# syntax in names and values


@pytest.mark.parametrize(
    "options",
    [
        ("--name", "x;reboot"), ("--name", "a\nb"), ("--name", "../ab"), ("--name", "-rf"),
        ("--hostname", "a\n6.6.6.6 b"), ("--hostname", "a b"), ("--domainname", "a\nb"),
        ("--add-host", "a\n6.6.6.6 b:1.2.3.4"), ("--add-host", "a:1.2.3.4\n6.6.6.6 b"), ("--add-host", "a b:1.2.3.4"),
        ("--dns", "1.1.1.1\nnameserver 6.6.6.6"), ("--dns", "fe80::1%eth0\n"), ("--dns-search", "a\nnameserver 6.6.6.6"),
        ("--dns-option", "a\nnameserver 6.6.6.6"), ("--dns-option", "a b"), ("--network-alias", "a\nb"),
        ("--network", "n;flush ruleset"), ("-p", "8080:80;drop"), ("-p", "1.2.3.4\n:8080:80"), ("--mac-address", "02:42:ac:11:00:02\n"),
        ("-v", "/etc\n:/x"), ("--tmpfs", "/x:mode=755,context=evil"), ("--sysctl", "kernel.core_pattern=|/evil"),
        ("--sysctl", "net/../../kernel.core_pattern=x"), ("--device", "/etc/passwd"), ("--ulimit", "nofile=1;2"),
    ],
)  # fmt: skip
def test_syntax_of_other_programs_is_refused(lab: Lab, options: tuple[str, str]) -> None:
    lab.command("run", "--rm", *options, "lab:1", "true", status=125)
    assert not containers.all_records(lab.state()), "nothing of it is recorded"


def test_a_secret_s_target_stays_inside_and_its_content_is_nowhere_else(lab: Lab, tmp_path: Path) -> None:
    content = "b64secret" + os.urandom(6).hex()
    target = f"/../../../../..{tmp_path}/stolen"
    web = service(network_mode="none", secrets=[{"source": "s", "target": target}])
    carried = {"files": {"./s": b64encode(content.encode()).decode()}}
    want = {"name": "secrets", "services": {"web": web}, "secrets": {"s": {"file": "./s"}}, "x-bayplan": carried}
    response = lab.done(want)
    name = "secrets-web-1"
    assert lab.inside(name, "cat", f"{tmp_path}/stolen") == content, "it is where it was asked for, in the container"
    assert not os.listdir(tmp_path), "and not on the host"
    run = json.loads((lab.directory(name) / "started").read_text())
    for pid in (run["pid"], run["monitor"]):
        for file in ("cmdline", "environ"):
            assert content.encode() not in Path(f"/proc/{pid}/{file}").read_bytes(), f"no secret in a process's {file}"
    # by another process: one that closes the database's file loses its locks on it, and sqlite's shared memory with them
    search = ["grep", "-rlFa", "-e", content, "-e", b64encode(content.encode()).decode(), lab.path]
    found = subprocess.run(search, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    assert found == [str(lab.directory(name) / "files/0")], "a secret lies in its own file and in no record, log or configuration"
    assert content not in repr(response), "nor in the answer"


def test_a_secret_that_is_declared_wrongly_is_not_in_the_error(lab: Lab) -> None:
    response = lab.converge({"name": "s", "services": {}, "secrets": {"key": {"content": "hunter2-of-ours"}}})
    assert response.error is not None
    assert "hunter2" not in repr(response), "an error goes to logs and screens"


# the host


def test_the_state_keeps_other_users_away(lab: Lab) -> None:
    lab.command("run", "-d", "--name", "modes", "lab:1", "sleep", "1000")
    assert stat.S_IMODE(os.stat(lab.path).st_mode) == 0o700, "nobody else looks into the state"
    lab.wait("there is a log", (lab.directory("modes") / "json.log").exists)
    for name in ("config.json", "started", "monitor.sock", "json.log"):
        assert not os.stat(lab.directory("modes") / name).st_mode & 0o077, f"{name} is root's even where its directory is opened up"


def test_a_state_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    os.chown(tmp_path, 1000, 1000)
    with pytest.raises(Denied, match="1000"):
        StateRoot(str(tmp_path)).create()
    assert not os.listdir(tmp_path), "its owner could replace the runtime that root runs from there"


def test_a_container_s_command_line_keeps_no_runtime_in_place(lab: Lab) -> None:
    forged = StateRoot(lab.path).runtime("0" * 64)
    lab.command("run", "-d", *NET, "--name", "forger", "lab:1", "sh", "-c", f"exec busybox sh -c 'sleep 1000; true' {forged}/bayplan")
    lab.wait("it runs", lambda: forged in lab.inside("forger", "cat", "/proc/1/cmdline"))
    assert not any(forged.encode() in line for line in install._command_lines()), "only the runtime's own processes count"


def test_a_container_with_months_of_grace_can_be_stopped(lab: Lab) -> None:
    lab.command("run", "-d", *NET, "--init", "--stop-timeout", "90000000", "--name", "graceful", "lab:1", "sleep", "1000")
    lab.command("stop", "graceful")
    assert lab.run("graceful").status == "exited"


def test_nothing_of_ours_listens_in_the_abstract_namespace(lab: Lab) -> None:
    lab.command("run", "-d", "--network", "host", "--name", "listener", "lab:1", "sleep", "1000")
    run = json.loads((lab.directory("listener") / "started").read_text())
    inodes = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{run['monitor']}/fd") if os.path.islink(entry.path)}
    lines = [line.split() for line in lab.inside("listener", "cat", "/proc/net/unix").splitlines()]
    abstract = {f"socket:[{words[6]}]" for words in lines if len(words) > 7 and words[7].startswith("@")}
    assert not inodes & abstract, "a container on the host's network reaches no socket of the runtime (CVE-2020-15257)"


def test_the_strict_profile_has_eleven_capabilities_and_a_nosuid_root(lab: Lab) -> None:
    show = "busybox grep -e CapEff -e CapBnd -e CapInh -e NoNewPrivs /proc/self/status; busybox grep ' / ' /proc/mounts"
    said = lab.command("run", "--rm", *NET, "--profile", "strict", "lab:1", "sh", "-c", show)
    values = dict(line.split(":\t") for line in said.splitlines() if ":\t" in line)
    counts = {name: bin(int(value, 16)).count("1") for name, value in values.items()}
    assert counts == {"CapInh": 0, "CapEff": 11, "CapBnd": 11, "NoNewPrivs": 1}
    assert "nosuid" in said.splitlines()[-1].split()[3].split(","), "no set-user-ID program of the image's takes effect"


@needs("a test without a seccomp filter of its own")
def test_privileged_is_all_and_only_for_whom_it_is_asked(lab: Lab) -> None:
    show = "busybox grep CapInh /proc/self/status; busybox grep -c Seccomp:.0 /proc/self/status; busybox grep -c ' /proc/sys ' /proc/mounts"
    said = lab.command("run", "--rm", *NET, "--privileged", "lab:1", "sh", "-c", f"{show}; true").split()
    assert said == ["CapInh:", "0" * 16, "1", "0"], "no inheritable capability, no filter, /proc/sys writable"
    lab.command("run", "-d", *NET, "--name", "plain", "lab:1", "sleep", "1000")
    plain = lab.inside("plain", "busybox", "grep", "CapEff", "/proc/self/status").split()[1]
    assert bin(int(plain, 16)).count("1") == 14, "exec has what its container has"


def test_conflicting_starts_of_one_name_leave_one_container(lab: Lab) -> None:
    command = argv(lab, "run", "-d", *NET, "--name", "single", "lab:1", "sleep", "1000")
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert sorted(each.wait(60) for each in running) == [0, 125, 125]
    assert len(containers.all_records(lab.state())) == 1
    with pytest.raises(Conflict):
        containers.create(lab.state(), lab.record("single").spec)
