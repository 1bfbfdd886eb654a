"""The real systemd as process 1 of a container: it boots there, and gives a process a scope of its own."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Iterator

import pytest
from sandbox_lab import MOUNTS, STATE, Ended, end, finish

from bayplan.kernel import cgroups, sandbox
from bayplan.kernel.rootfs import Overlay
from bayplan.model.capabilities import granted
from bayplan.model.runtime import Config, Linux, Mount, Namespace, Process, Resources, Root

SYSTEMD = "/usr/lib/systemd/systemd"
RUNTIME = str(pathlib.Path(sandbox.__file__).parents[2])
TREES = ("systemd", "unified")  # the hierarchies that systemd itself writes to, beside the controllers'
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts"),
    pytest.mark.skipif(not os.path.exists(SYSTEMD), reason="systemd is not installed (Debian: systemd)"),
    pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/systemd"), reason="systemd's hierarchy of cgroup v1 is not mounted"),
]


@pytest.fixture
def place() -> Iterator[cgroups.Cgroup]:
    host = cgroups.observe_host()
    name = f"{STATE}/systemd"
    made = cgroups.create(host, name, Resources())
    others = [f"/sys/fs/cgroup/{tree}/{name}" for tree in TREES if os.path.isdir(f"/sys/fs/cgroup/{tree}")]
    others += [f"{point}/{name}" for controller, point in host.mounts if controller in ("blkio", "freezer")]
    for directory in others:
        os.makedirs(directory, exist_ok=True)
    made = made._replace(directories=(*made.directories, *((directory, directory) for directory in others)))
    yield made
    cgroups.remove(made)
    for _, directory in made.directories:
        os.rmdir(os.path.dirname(directory))


@pytest.fixture
def booted(tmp_path: pathlib.Path, place: cgroups.Cgroup) -> Iterator[sandbox.Started]:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    rootfs = Overlay("/", (".",), str(tmp_path / "upper"), str(tmp_path / "work"))
    writable = tuple(m._replace(options=m.options[:3]) if m.type == "cgroup" else m for m in MOUNTS)
    extra = tuple(Mount(path, "tmpfs", "tmpfs", ("mode=1777",)) for path in ("/run", "/tmp"))
    extra += (Mount("/srv", "bind", RUNTIME, ("rbind", "ro")),)  # a checkout below /tmp is hidden by the mount there
    process = Process((SYSTEMD, "--unit=sysinit.target"), ("container=bayplan",), capabilities=granted(privileged=True))
    namespaces = tuple(Namespace(name) for name in ("pid", "network", "mount", "ipc", "uts", "cgroup"))
    config = Config(process, Root("/"), "sd", mounts=writable + extra, linux=Linux(namespaces))
    null = os.open("/dev/null", os.O_RDWR)
    started = sandbox.start(sandbox.create(config, rootfs, cgroup=place, stdio=(null, null, null)))
    os.close(null)
    for _ in range(1500):
        if os.path.exists(f"/proc/{started.pid}/root/run/systemd/private"):
            break
        time.sleep(0.02)
    yield started
    end(started)


def python(started: sandbox.Started, code: str) -> Ended:
    reader, writer = os.pipe()
    wanted = Process(("/usr/bin/python3", "-c", code), ("PATH=/usr/bin:/bin",), capabilities=granted(privileged=True))
    entered = sandbox.start(sandbox.enter(started.pid, wanted, cgroup=None, stdio=(writer, writer, writer)))
    os.close(writer)
    return finish(entered, reader)


CODE = """
import sys, subprocess, time
sys.path.insert(0, "/srv")
from bayplan.kernel import systemd
systemd.enter_scope("bayplan-x.scope", description='a "quoted" test')
systemd.enter_scope("bayplan-x.scope", description="again")
for _ in range(100):  # a hybrid host: the unified hierarchy first, systemd's own of version 1 a moment later
    rows = [line.rstrip().split(":")[2] for line in open("/proc/self/cgroup") if "name=systemd" in line]
    if rows[0].endswith(".scope"):
        break
    time.sleep(0.02)
print(rows[0])
print(subprocess.run(["systemctl", "show", "bayplan-x.scope", "-p", "Delegate,Slice,Description", "--no-pager"],
      capture_output=True, text=True).stdout)
"""


def test_a_process_moves_into_a_delegated_scope_of_a_real_systemd(booted: sandbox.Started) -> None:
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("the host's own /usr/bin/python3 is not there")
    ended = python(booted, CODE)
    lines = ended.output.split("\n")
    assert lines[0] == "/bayplan.slice/bayplan-x.scope", f"in the scope, and the second call changes nothing: {ended.output}"
    assert {"Delegate=yes", "Slice=bayplan.slice", 'Description=a "quoted" test'} <= set(lines), "delegated, in our slice"


OF_ANOTHER = """
import subprocess, sys, time
sys.path.insert(0, "/srv")
from bayplan.errors import Unavailable
from bayplan.kernel import systemd
children = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
systemd.make_scope("box-1.scope", pid=children[0].pid, slice_name="system-box.slice", description="container 1")
place = lambda pid: next(line.split(":")[2].strip() for line in open(f"/proc/{pid}/cgroup") if "name=systemd" in line)
for _ in range(100):  # as above
    if place(children[0].pid).endswith(".scope"):
        break
    time.sleep(0.02)
print(place(children[0].pid))
print("own", place("self").rpartition("/")[2])
systemd._SECONDS = 0.2
try:
    systemd.make_scope("box-1.scope", pid=children[1].pid, slice_name="system-box.slice", description="again")
except Unavailable as error:
    print("refused:", error)
for child in children:
    child.kill()
"""


def test_a_scope_is_made_for_another_process_in_any_slice(booted: sandbox.Started) -> None:
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("the host's own /usr/bin/python3 is not there")
    place, own, refused, *_ = python(booted, OF_ANOTHER).output.split("\n")
    assert place == "/system.slice/system-box.slice/box-1.scope", "that process is in there"
    assert own != "own box-1.scope", "who asked for it is not"
    assert refused.startswith("refused: making the scope box-1.scope: systemd refuses: "), "one that runs is not joined"
