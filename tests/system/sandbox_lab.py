"""What the sandbox's tests share: a root file system of busybox, and a container run to its end."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time
from typing import Any, NamedTuple

import pytest

from bayplan.kernel import cgroups, sandbox
from bayplan.kernel.rootfs import Overlay, Plain
from bayplan.model.capabilities import granted
from bayplan.model.runtime import Config, DeviceRule, Linux, Mount, Namespace, Process, Resources, Root

BASIC = ("nosuid", "noexec", "nodev")
MOUNTS = (
    Mount("/proc", "proc", "proc", BASIC),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Mount("/sys", "sysfs", "sysfs", (*BASIC, "ro")),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*BASIC, "ro")),
    Mount("/dev/mqueue", "mqueue", "mqueue", BASIC),
    Mount("/dev/shm", "tmpfs", "shm", (*BASIC, "mode=1777", "size=67108864")),
)
MASKED = (
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/acpi",
    "/proc/interrupts",
    "/sys/firmware",
    "/proc/absent",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NAMESPACES = tuple(Namespace(name) for name in ("pid", "network", "mount", "ipc", "uts", "cgroup"))
DEVICE_RULES = (
    DeviceRule(False),
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    *(
        DeviceRule(True, "c", *number)
        for number in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None))
    ),
)
STATE = f"bayplan-test{os.getpid()}"


class Ended(NamedTuple):
    status: int
    output: str


class Box:
    """A root file system in a directory of the test's, and what can be run in it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.layer = directory / "base" / "l" / "one"
        (self.layer / "bin").mkdir(parents=True)
        (self.layer / "etc").mkdir()
        shutil.copy("/bin/busybox", self.layer / "bin" / "busybox")
        for applet in subprocess.run(
            ["/bin/busybox", "--list"], capture_output=True, text=True, check=True
        ).stdout.split():
            if applet != "busybox":
                (self.layer / "bin" / applet).symlink_to("busybox")
        (directory / "upper").mkdir()
        (directory / "work").mkdir()
        self.rootfs: Overlay | Plain = Overlay(
            str(directory / "base"), ("l/one",), str(directory / "upper"), str(directory / "work")
        )

    def config(
        self, *args: str, mounts: tuple[Mount, ...] = (), linux: dict[str, Any] | None = None, **fields: Any
    ) -> Config:
        top = {name: fields.pop(name) for name in ("hostname", "domainname", "init") if name in fields}
        readonly = fields.pop("readonly", False)
        process = Process(args, **{"env": ("PATH=/bin",), "capabilities": granted(), **fields})
        kernel = Linux(NAMESPACES, masked_paths=MASKED, readonly_paths=READONLY)._replace(**(linux or {}))
        return Config(process, Root("/", readonly), mounts=MOUNTS + mounts, linux=kernel, **top)

    def run(self, *args: str, seccomp: bytes = b"", cgroup: cgroups.Cgroup | None = None, **fields: Any) -> Ended:
        """Run to the end; the status (negative for a signal), and what it wrote to both streams."""
        return self.run_config(self.config(*args, **fields), seccomp=seccomp, cgroup=cgroup)

    def sh(self, script: str, **fields: Any) -> str:
        ended = self.run("sh", "-c", script, **fields)
        assert ended.status == 0, f"the script ends well: {ended.output}"
        return ended.output

    def run_config(self, config: Config, *, seccomp: bytes = b"", cgroup: cgroups.Cgroup | None = None) -> Ended:
        reader, writer = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY)
        try:
            created = sandbox.create(config, self.rootfs, cgroup=cgroup, stdio=(null, writer, writer), seccomp=seccomp)
            started = sandbox.start(created)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
            os.close(null)
        return finish(started, reader)

    def background(self, *args: str, **fields: Any) -> sandbox.Started:
        cgroup = fields.pop("cgroup", None)
        null = os.open("/dev/null", os.O_RDWR)
        created = sandbox.create(self.config(*args, **fields), self.rootfs, cgroup=cgroup, stdio=(null, null, null))
        os.close(null)
        return sandbox.start(created)


def finish(started: sandbox.Started, reader: int) -> Ended:
    output = b""
    try:
        while chunk := os.read(reader, 65536):
            output += chunk
    except OSError:  # EIO: the terminal's other side has closed
        pass
    os.close(reader)
    return Ended(reap(started), output.decode(errors="replace").replace("\r\n", "\n"))


def close_pidfd(started: sandbox.Started) -> None:
    if started.pidfd >= 0:  # there is none before Linux 5.3
        os.close(started.pidfd)


def reap(started: sandbox.Started) -> int:
    close_pidfd(started)
    return os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1])


def end(started: sandbox.Started) -> None:
    os.kill(started.pid, 9)
    reap(started)


def run_in(pid: int, *args: str, **fields: Any) -> Ended:
    """Enter the container of process `pid`, as exec does."""
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    seccomp, cgroup = fields.pop("seccomp", b""), fields.pop("cgroup", None)
    process = Process(args, **{"env": ("PATH=/bin",), "capabilities": granted(), **fields})
    try:
        entered = sandbox.start(
            sandbox.enter(pid, process, cgroup=cgroup, stdio=(null, writer, writer), seccomp=seccomp)
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
        os.close(null)
    return finish(entered, reader)


def compile_c(directory: pathlib.Path, name: str, source: str, *flags: str) -> None:
    """A static program for the container; skips the test where there is no compiler."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed (Debian: gcc, libc6-dev)")
    (directory / f"{name}.c").write_text(source)
    subprocess.run(
        ["gcc", "-static", "-O1", *flags, "-o", str(directory / name), str(directory / f"{name}.c")], check=True
    )
    (directory / f"{name}.c").unlink()


class Limited:
    """A cgroup for one test, gone after it."""

    def __init__(self, resources: Resources) -> None:
        self.host = cgroups.observe_host()
        self.name = f"{STATE}/{time.monotonic_ns()}"
        self.cgroup = cgroups.create(self.host, self.name, resources)

    def __enter__(self) -> cgroups.Cgroup:
        return self.cgroup

    def __exit__(self, *error: object) -> None:
        cgroups.remove(self.cgroup)
        for _, point in self.host.mounts:
            try:
                os.rmdir(f"{point}/{STATE}")
            except OSError:
                continue
