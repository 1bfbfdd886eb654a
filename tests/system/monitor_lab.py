"""Real monitors for tests: a small builder forks a shell as the container's first process and becomes its monitor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bayplan.supervise import client
from bayplan.supervise.launch import MonitorConfig, MonitorSettings, exec_monitor

RUNTIME = str(Path(__file__).parents[2] / "runtime")
INTERPRETER = os.environ.get("BAYPLAN_TEST_INTERPRETER") or os.path.realpath(sys.executable)
PR_SET_CHILD_SUBREAPER = 36
MARK = "BAYPLAN_LAB"  # in the environment of everything that a container starts, so that it can be found and ended
CONTAINER_ID = "ab" * 32


class Container:
    """A shell, its monitor, and the directory of both."""

    def __init__(self, directory: Path, monitor: int, owner: socket.socket | None) -> None:
        self.directory = directory
        self.monitor = monitor
        self.owner = owner
        self.status: int | None = None

    @property
    def path(self) -> str:
        return str(self.directory)

    def first_process(self) -> int:
        return int((self.directory / "pid").read_text())

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.first_process(), number)

    def join(self, seconds: float = 10) -> int:
        """The monitor's own exit status, once it has ended."""
        eventually(lambda: self.poll() is not None, f"the monitor ends within {seconds} s", seconds)
        assert self.status is not None
        return self.status

    def poll(self) -> int | None:
        if self.status is None:
            pid, status = os.waitpid(self.monitor, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def destroy(self) -> None:
        if self.owner is not None:
            self.owner.close()
        if self.poll() is None:
            os.kill(self.monitor, signal.SIGKILL)
            os.waitpid(self.monitor, 0)

    def log(self) -> str:
        files = sorted(self.directory.glob("json.log*"), key=lambda path: path.name, reverse=True)
        return "".join(path.read_text() for path in files)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.monitor}/fd"))

    def memory(self, field: str = "Pss") -> float:
        """MiB."""
        for line in Path(f"/proc/{self.monitor}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"smaps_rollup has {field}")


def eventually(condition: Callable[[], object], statement: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, statement
        time.sleep(0.01)


def start(
    directory: Path,
    script: str,
    *,
    settings: MonitorSettings = MonitorSettings(),  # noqa: B008 - immutable
    interpreter: str = INTERPRETER,
    runtime: str = RUNTIME,
    terminal: bool = False,
    stdin: bool = False,
    owner: bool = False,
    sockets: Callable[[], dict[str, Any]] = dict,
    **fields: Any,
) -> Container:
    """`sockets` runs in the builder and returns more fields of MonitorConfig."""
    directory.mkdir(exist_ok=True)
    ours, theirs = socket.socketpair() if owner else (None, None)
    fields.setdefault("after_argv", ("/bin/sh", "-c", f"echo $$ > {directory}/after.new; mv {directory}/after.new {directory}/after"))
    monitor = os.fork()
    if monitor == 0:
        try:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
            os.setsid()
            fields.update(sockets())
            if theirs is not None:
                fields["owner_fd"] = theirs.detach()
            control = client.listen(str(directory))
            fields.update(_spawn(directory, script, terminal, stdin))
            config = MonitorConfig(
                id=CONTAINER_ID,
                name="keen_hopper",
                directory=str(directory),
                settings=settings,
                started_ns=time.time_ns(),
                control_fd=control,
                **fields,
            )
            exec_monitor(config, interpreter, runtime)
        except BaseException:
            import traceback

            (directory / "builder.error").write_text(traceback.format_exc())
        finally:
            os._exit(111)
    if theirs is not None:
        theirs.close()
    container = Container(directory, monitor, ours)
    eventually(lambda: (directory / "pid").exists() or container.poll() is not None, "the builder starts the shell")
    return container


def _spawn(directory: Path, script: str, terminal: bool, stdin: bool) -> dict[str, Any]:
    if terminal:
        master, slave = os.openpty()
        pid = _fork(directory, script, slave, slave, slave)
        os.close(slave)
        return {"terminal_fd": master, "pid": pid}
    out, err, into = os.pipe(), os.pipe(), os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    pid = _fork(directory, script, into[0] if stdin else null, out[1], err[1])
    return {"stdout_fd": out[0], "stderr_fd": err[0], "stdin_fd": into[1] if stdin else -1, "pid": pid}


def _fork(directory: Path, script: str, stdin: int, stdout: int, stderr: int) -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, descriptor in enumerate((stdin, stdout, stderr)):
            os.dup2(descriptor, number)
        os.execve("/bin/sh", ["/bin/sh", "-c", script], {**os.environ, MARK: f"{directory}/"})
    (directory / "pid.new").write_text(str(pid))
    (directory / "pid.new").rename(directory / "pid")
    return pid


class Lab:
    """Starts containers in one directory and leaves none behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.containers: list[Container] = []
        self.sessions: list[client.Session] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self.sessions:
            session.close()
        for container in self.containers:
            container.destroy()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.directory}/".encode() in environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)

    def attach(self, container: Container, *, stdin: bool = False) -> client.Session:
        self.sessions.append(client.attach(container.path, stdin=stdin))
        return self.sessions[-1]

    def start(self, script: str, name: str = "c", **options: Any) -> Container:
        container = start(self.directory / name, script, **options)
        self.containers.append(container)
        return container
