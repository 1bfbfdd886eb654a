"""The health check, with Docker's semantics: https://docs.docker.com/reference/dockerfile/#healthcheck.

A probe is a process of its own (`MonitorConfig.health_argv`); status 0 is healthy, anything else is not. The state is the
file containers/ID/health, shaped as `State.Health` of Docker's inspect. Lean, see loop.py.
"""

from __future__ import annotations

import posix
import time

from bayplan.supervise.log import timestamp
from bayplan.supervise.settings import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from json.encoder import encode_basestring

    from bayplan.supervise.loop import Loop
    from bayplan.supervise.settings import Health
else:
    import _signal
    from _json import encode_basestring

OUTPUT = 4096  # bytes of a probe's output that are kept
RESULTS = 5
# What a monitor ignores or handles, PIPE and XFSZ by Python's doing: programs expect none of it, execve(2) passes it on.
DEFAULT_SIGNALS = (
    _signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGXFSZ,
)  # fmt: skip


def judge(status: str, streak: int, *, failed: bool, early: bool, retries: int) -> tuple[str, int]:
    """(status, failing streak) after a probe. `early`: still starting, within the start period. Pure."""
    if not failed:
        return "healthy", 0
    if early and status == "starting":
        return status, streak
    return ("unhealthy" if streak + 1 >= retries else status), streak + 1


def render(status: str, streak: int, results: list[tuple[str, str, int, str]]) -> bytes:
    """The file's content; a result is (start, end, exit code, output)."""
    log = ",".join(
        f'{{"Start":"{start}","End":"{end}","ExitCode":{code},"Output":{encode_basestring(output)}}}'
        for start, end, code, output in results
    )
    text = f'{{"Status":"{status}","FailingStreak":{streak},"Log":[{log}]}}\n'
    return text.encode()


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


class Checker:
    """Runs one probe at a time; the next one comes `interval` after the end of the last."""

    __slots__ = (
        "_argv", "_born", "_health", "_loop", "_output", "_path", "_paused", "_pid", "_pipe", "_results", "_started", "_status",
        "_streak", "_timed_out",
    )  # fmt: skip

    def __init__(self, loop: Loop, directory: str, argv: tuple[str, ...]) -> None:
        self._loop = loop
        self._path = directory + "/health"
        self._paused = directory + "/paused"
        self._argv = argv
        self._health: Health | None = None
        self._status = "starting"
        self._streak = 0
        self._results: list[tuple[str, str, int, str]] = []
        self._born = time.monotonic()
        self._pid = 0
        self._pipe = -1
        self._output = b""
        self._started = 0
        self._timed_out = False

    def set(self, health: Health | None) -> None:
        """Starts, changes or (None) ends the check."""
        had = self._health
        self._health = health
        if health is None or not self._argv:
            self.close()
            return
        if had is None:
            self._status, self._streak = "starting", 0
            self._save()
        if not self._pid:
            self._plan()

    def state(self) -> bytes:
        """What the file says."""
        return render(self._status, self._streak, self._results) if self._health is not None else b""

    def close(self) -> None:
        """Ends a running probe and the check; the file keeps the last state."""
        self._loop.cancel("health")
        self._loop.cancel("probe")
        self._kill()
        self._pid = 0
        self._close_pipe()

    def reaped(self, pid: int, exit_code: int) -> None:
        """A child has ended; ignored unless it is the probe."""
        if pid != self._pid:
            return
        self._kill()  # what it may have left behind in its process group
        self._pid = 0
        self._loop.cancel("probe")
        self._read(0)
        self._close_pipe()
        if self._health is None:
            return
        output = self._output.decode("utf-8", "replace")
        if self._timed_out:
            exit_code = -1
            output = f"Health check exceeded timeout ({self._health.timeout:g}s)"
        self._result(exit_code, output)
        self._plan()

    def _early(self) -> bool:
        assert self._health is not None
        return time.monotonic() - self._born < self._health.start_period

    def _plan(self) -> None:
        assert self._health is not None
        starting = self._status == "starting" and self._early()
        self._loop.later("health", self._health.start_interval if starting else self._health.interval, self._probe)

    def _probe(self) -> None:
        assert self._health is not None
        if _exists(self._paused):  # the probe would stand still with the container
            self._plan()
            return
        self._started = time.time_ns()
        self._output = b""
        self._timed_out = False
        self._pipe, write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        posix.set_blocking(write, True)
        try:
            self._pid = self._spawn(write)
        except OSError as error:
            self._close_pipe()
            self._result(-1, f"the probe could not be started: {error.strerror}")
            self._plan()
            return
        finally:
            posix.close(write)
        self._loop.watch(self._pipe, self._read)
        self._loop.later("probe", self._health.timeout, self._expire)

    def _spawn(self, write: int) -> int:
        """posix_spawn does not copy the monitor's memory, as fork would."""
        actions = [(posix.POSIX_SPAWN_DUP2, write, 1), (posix.POSIX_SPAWN_DUP2, write, 2)]
        return posix.posix_spawn(
            self._argv[0], self._argv, posix.environ, file_actions=actions, setpgroup=0, setsigdef=DEFAULT_SIGNALS
        )

    def _expire(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        if self._pid:
            try:
                posix.killpg(self._pid, _signal.SIGKILL)
            except OSError:
                return

    def _read(self, _: int) -> None:
        """Reads all that is there, keeps the beginning."""
        while self._pipe >= 0:
            try:
                chunk = posix.read(self._pipe, OUTPUT)
            except BlockingIOError:
                return
            self._output += chunk[: OUTPUT - len(self._output)]
            if not chunk:
                self._close_pipe()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            self._loop.forget(self._pipe)
            posix.close(self._pipe)
            self._pipe = -1

    def _result(self, exit_code: int, output: str) -> None:
        assert self._health is not None
        self._results.append((timestamp(self._started), timestamp(time.time_ns()), exit_code, output))
        del self._results[:-RESULTS]
        retries = int(self._health.retries) or 1
        self._status, self._streak = judge(
            self._status, self._streak, failed=exit_code != 0, early=self._early(), retries=retries
        )
        self._save()

    def _save(self) -> None:
        try:
            replace_file(self._path, self.state())
        except OSError:
            return  # no space: the next result is written again
