"""The host's own systemd as the first process of a container, by the command line: found by its path, booted, halted cleanly."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import Lab, lab, root_file_system

from bayplan.kernel.cgroups import observe_host

SYSTEMD = "/usr/lib/systemd"
PROGRAMS = (f"{SYSTEMD}/systemd", f"{SYSTEMD}/systemd-journald", f"{SYSTEMD}/systemd-shutdown", "/usr/bin/systemctl")
UNIT = """[Unit]
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/bin/sh -c "trap 'sleep 0.2; echo stopped > /data/end; exit 0' TERM; while :; do sleep 0.05; done"
"""
TARGET = "[Unit]\nRequires=box.service\nAfter=box.service\n"
HIERARCHIES = [mount for mount in (observe_host().mounts if os.path.isdir("/sys/fs/cgroup") else ()) if mount[0] in ("", "name=systemd")]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not all(map(os.path.exists, PROGRAMS)), reason="systemd is not installed (Debian: systemd)"),
    pytest.mark.skipif(not HIERARCHIES, reason="systemd's hierarchy of cgroup v1 is not mounted"),
]


def libraries(program: str) -> set[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {word for line in listed.splitlines() for word in line.split() if word.startswith("/")}


def root_with_systemd(path: Path) -> None:
    path.write_bytes(root_file_system())
    with tarfile.open(path, "a") as archive:
        archive.add(SYSTEMD, SYSTEMD[1:])
        for file in {*PROGRAMS, *(library for program in PROGRAMS for library in libraries(program))}:
            if not file.startswith(SYSTEMD):
                archive.add(os.path.realpath(file), file[1:])
        for name, content in (
            ("etc/systemd/system/box.service", UNIT), ("etc/systemd/system/default.target", TARGET),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), ("run/of-the-image", "kept\n"), ("etc/os-release", "ID=box\n"),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
        links = {"sbin/init": f"{SYSTEMD}/systemd", "lib/systemd": SYSTEMD, "bin/umount": "busybox"}  # /lib is where Debian 12 looks
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("cli")
    with lab(directory) as found:
        root_with_systemd(directory / "systemd.tar")
        found.ok("import", "-c", 'CMD ["/sbin/init"]', "-c", "ENV PATH=/usr/bin:/bin", str(directory / "systemd.tar"), "system:1")
        yield found


@pytest.fixture
def booted(host: Lab) -> Iterator[Lab]:
    host.ok("volume", "create", "data")
    host.ok("run", "-d", "--name", "system", "-v", "data:/data", "system:1")
    await_service(host)
    yield host
    host.run("rm", "-f", "system")
    host.run("volume", "rm", "data")


def await_service(host: Lab) -> None:
    deadline = time.monotonic() + 60
    while host.run("exec", "system", "systemctl", "is-active", "box.service").stdout != "active\n":
        assert time.monotonic() < deadline, f"it boots: {host.run('logs', 'system')}"
        time.sleep(0.1)


def test_it_boots_as_process_1_and_stops_its_services_in_turn(booted: Lab) -> None:
    assert booted.ok("exec", "system", "cat", "/proc/1/comm") == "systemd\n", "it is process 1"
    assert booted.ok("exec", "system", "cat", "/run/of-the-image") == "kept\n", "what the image has in /run is there"
    booted.ok("stop", "-t", "60", "system")
    assert booted.ok("inspect", "--format", "{{.State.ExitCode}} {{.Config.StopSignal}}", "system") == "0 SIGRTMIN+3\n", "a clean halt"
    mountpoint = booted.ok("volume", "inspect", "--format", "{{.Mountpoint}}", "data").strip()
    assert Path(mountpoint, "end").read_text() == "stopped\n", "each service got the time to stop"


def test_it_starts_again_and_leaves_nothing_in_its_hierarchy(booted: Lab) -> None:
    booted.ok("restart", "-t", "60", "system")
    await_service(booted)
    path = booted.ok("inspect", "--format", "{{.HostConfig.CgroupPath}}", "system").strip()
    places = [point + path for _, point in HIERARCHIES]
    assert all(map(os.path.isdir, places)), "it has its own cgroup there"
    booted.ok("rm", "-f", "system")
    deadline = time.monotonic() + 10  # the host's systemd, where there is one, removes the scope when it hears that the monitor has ended
    while any(map(os.path.exists, places)):
        assert time.monotonic() < deadline, "and none is left, those that systemd made neither"
        time.sleep(0.05)


@pytest.mark.skipif(observe_host().version == 2 if HIERARCHIES else False, reason="on version 2 its whole tree is delegated")
def test_it_can_write_to_its_own_hierarchy_only(booted: Lab) -> None:
    assert booted.run("exec", "system", "mkdir", "/sys/fs/cgroup/memory/x").returncode == 1, "its limits stay the host's matter"
    assert "init.scope" in booted.ok("exec", "system", "ls", "/sys/fs/cgroup/systemd").split(), "its own is where it keeps its units"
    assert "Read-only" in booted.run("exec", "system", "mkdir", "/sys/fs/cgroup/x").stderr


def test_any_other_command_is_prepared_only_where_that_is_declared(host: Lab) -> None:
    show = ["sh", "-c", "echo $container; cat /proc/mounts"]
    assert "/var/log/journal" not in host.ok("run", "--rm", "system:1", *show), "an ordinary command"
    declared = host.ok("run", "--rm", "--systemd", "always", "system:1", *show)
    assert declared.startswith("bayplan\n") and "/var/log/journal" in declared, "declared"
    done = host.run("run", "--rm", "--systemd", "maybe", "system:1", *show)
    assert done.returncode == 125 and "--systemd" in done.stderr


