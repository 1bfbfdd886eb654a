"""The life of a monitor: runs, records the end, and then starts again or makes room for what cleans up.

    running --first process ends--> draining --output has ended--> over --+--> backoff --> exec restart_argv
                                                                          +--> exec after_argv, or the owner cleans up

Writes in the container's directory only: json.log*, health, exit, monitor.error. Lean, see loop.py.
"""

from __future__ import annotations

import posix
import time

from bayplan.supervise import shipping
from bayplan.supervise.control import Control
from bayplan.supervise.health import DEFAULT_SIGNALS, Checker
from bayplan.supervise.log import Discard, JsonFile
from bayplan.supervise.loop import Loop
from bayplan.supervise.output import Output
from bayplan.supervise.relay import Relays
from bayplan.supervise.resolver import Resolver
from bayplan.supervise.restart import decide
from bayplan.supervise.settings import load_settings, replace_file
from bayplan.supervise.status import Ending, codes, oom_kills
from bayplan.supervise.stdin import Stdin

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from bayplan.supervise.output import Driver
    from bayplan.supervise.settings import Config
else:
    import _signal

DRAIN_STEP = 0.2  # seconds without output after which a pipe that somebody still holds is given up
LAST_BYTES = 2 << 20  # that are read after the end: more than two pipes hold, pipe(7), comes from who outlived it
PROTECTED = b"-999"  # proc_pid_oom_score_adj(5): killing the monitor saves no memory and loses the exit status
IGNORED = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT)  # the container is stopped, and then the monitor ends


class Monitor:
    """Owns all parts; `run` does not return."""

    __slots__ = (
        "_config", "_control", "_delay", "_ending", "_errors", "_health", "_loop", "_oom_before", "_oom_score",
        "_output", "_relays", "_resolver", "_restarts", "_settings", "_since", "_stdin", "_streak", "_told",
        "_wait_status", "_wakeup",
    )  # fmt: skip

    def __init__(self, config: Config) -> None:
        self._config = config
        self._settings = config.settings
        self._since = time.monotonic()
        self._wait_status = -1
        self._ending: Ending | None = None
        self._delay = -1.0
        self._restarts, self._streak = config.restarts, config.streak
        self._errors = 0
        self._told = False  # whether everybody has been told of the end
        # The first life's cgroup is new, and its process may have been killed before we are here to count; a later one's is not.
        self._oom_before = oom_kills(config.oom_file) if config.restarts else 0
        self._loop = loop = Loop(self._report)
        self._control = Control(
            loop, health=lambda: self._health.state(), reload=self._reload, stop=self._stop, ports=self._ports,
            signal=self._send_signal, left=self._proceed,
        )  # fmt: skip
        self._output = Output(loop, self._driver(), self._control.output, self._drained)
        self._stdin = self._open_stdin()
        self._health = Checker(loop, config.directory, config.health_argv)
        self._resolver = Resolver(loop)
        self._relays = Relays(loop)

    def run(self) -> None:
        """Until the process becomes another program or exits."""
        self._protect()
        self._catch_signals()
        self._open_output()
        self._control.start(self._output, self._stdin, self._config.control_fd, self._config.owner_fd)
        self._resolver.set(self._settings)
        self._resolver.listen(self._config.dns_udp_fds, self._config.dns_tcp_fds)
        self._relays.add([*self._config.relays, *((held, "", 0) for held in self._config.held_fds)])
        self._health.set(self._settings.health)
        self._reap(0)
        self._loop.run()

    # Setting up

    def _driver(self) -> Driver:
        config = self._config
        if config.log_driver == "json-file":
            path = config.directory + "/json.log"
            return JsonFile(path, self._settings.log_max_size, self._settings.log_max_files)
        if config.log_driver == "journald":
            return shipping.Shipper(self._loop, ("unix", shipping.JOURNAL, 0), shipping.journal(config))
        if config.log_driver == "syslog":
            return shipping.Shipper(self._loop, config.log_target, shipping.syslog(config))
        return Discard()

    def _open_stdin(self) -> Stdin:
        config = self._config
        terminal = config.terminal_fd >= 0
        descriptor = posix.dup(config.terminal_fd) if terminal else config.stdin_fd
        return Stdin(
            self._loop, descriptor, terminal=terminal, once=config.stdin_once, drained=self._control.drained
        )

    def _open_output(self) -> None:
        if self._config.terminal_fd >= 0:
            self._output.terminal = self._config.terminal_fd
            self._output.add(self._config.terminal_fd, 1)
        for stream, descriptor in ((1, self._config.stdout_fd), (2, self._config.stderr_fd)):
            if descriptor >= 0:
                self._output.add(descriptor, stream)

    def _protect(self) -> None:
        self._oom_score = _swap_oom_score(PROTECTED)

    def _catch_signals(self) -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        for number in IGNORED:
            _signal.signal(number, _signal.SIG_IGN)
        read, write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, _nothing)
        self._wakeup = read
        self._loop.watch(read, self._reap)

    # While the container runs

    def _reap(self, _: int) -> None:
        """All children: the container's orphans come here too, the process being a subreaper, prctl(2)."""
        _empty(self._wakeup)
        while True:
            pid, status = _next_dead_child()
            if pid == 0:
                return
            if pid == self._config.pid and self._wait_status < 0:
                self._ended(status)
            else:
                self._health.reaped(pid, codes(status)[0])

    def _reload(self) -> None:
        self._settings = settings = load_settings(self._config.directory)
        self._output.driver.limit(settings.log_max_size, settings.log_max_files)
        self._resolver.set(settings)
        if self._wait_status < 0:
            self._health.set(settings.health)

    def _send_signal(self, number: int) -> None:
        """As long as the process is not reaped, its number is its own."""
        if self._wait_status >= 0:
            raise ProcessLookupError("the container has ended")
        posix.kill(self._config.pid, number)

    def _ports(self, ports: list[tuple[int, str, int]], adding: bool) -> None:
        if not adding:
            self._relays.release()
        self._relays.add(ports)

    def _report(self, error: Exception) -> None:
        """A bug: leaves a note, as this process has nobody else to tell."""
        self._errors += 1
        if self._errors <= 10:
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else "?"
            try:
                replace_file(self._config.directory + "/monitor.error", f"{where}: {error!r}\n".encode("utf-8", "replace"))
            except OSError:
                return

    # Afterwards

    def _ended(self, wait_status: int) -> None:
        """The first process has ended; its network is closed at once, or an open socket would keep it alive."""
        self._wait_status = wait_status
        config = self._config
        oom = oom_kills(config.oom_file) > self._oom_before
        self._ending = Ending(wait_status, config.started_ns, time.time_ns(), oom)
        self._health.close()
        self._resolver.close()
        self._relays.hang_up()
        self._stdin.close()
        self._output.expect_end(LAST_BYTES)
        if self._output.open:
            self._drain()
        else:
            self._over()

    def _drain(self) -> None:
        """Reads on until the pipes are empty, but not for ever: a process that outlives the first one may hold them."""
        if not self._output.moved or self._output.remaining == 0:
            self._over()
            return
        self._output.moved = False
        self._loop.later("drain", DRAIN_STEP, self._drain)

    def _drained(self) -> None:
        if self._ending is not None:
            self._over()

    def _over(self) -> None:
        assert self._ending is not None
        self._loop.cancel("drain")
        self._output.finish()
        settings = self._settings
        decision = decide(
            settings.restart, limit=settings.restart_limit, exit_code=self._ending.exit_code, stopped=self._is_stopped(),
            restarts=self._restarts, streak=self._streak, ran=time.monotonic() - self._since,
        )  # fmt: skip
        if decision is not None and self._config.restart_argv:
            self._delay, self._restarts, self._streak = decision
            self._loop.later("restart", self._delay, self._restart)
        self._record()
        self._control.finished(self._ending.render(restarts=self._restarts, delay=self._delay))
        self._told = True
        self._proceed()

    def _record(self) -> None:
        assert self._ending is not None
        if self._config.ephemeral and self._control.owner is not None:
            return  # the owner is told, and the directory goes with the container
        try:
            text = self._ending.render(restarts=self._restarts, delay=self._delay)
            replace_file(self._config.directory + "/exit", text + b"\n", durable=True)
        except OSError as error:
            self._report(error)

    def _is_stopped(self) -> bool:
        try:
            posix.stat(self._config.directory + "/stopped")
        except OSError:
            return False
        return True

    def _stop(self) -> None:
        """During the backoff: the user's stop wins. In the next turn, so that who asks is answered first."""
        if self._loop.pending("restart") and self._is_stopped():
            self._loop.cancel("restart")
            self._loop.later("give up", 0, self._give_up)

    def _give_up(self) -> None:
        self._delay = -1.0
        self._record()
        self._proceed()

    def _restart(self) -> None:
        if self._is_stopped():
            self._give_up()
            return
        self._control.next_life()
        self._become((*self._config.restart_argv, str(self._restarts), str(self._streak)))

    def _proceed(self) -> None:
        """Leaves once everybody has heard of the end; called whenever that may have changed."""
        if not self._told or self._delay >= 0:
            return
        if self._control.owner_cleaned:
            self._relays.release()
            posix._exit(0)
        if self._control.quiet:
            self._leave()

    def _leave(self) -> None:
        if self._config.ephemeral:
            self._record()  # the owner took the status and vanished
        self._control.keep_waiting()
        self._become(self._config.after_argv)

    def _become(self, argv: tuple[str, ...]) -> None:
        """The descriptors close with the exec; what is not inherited is set back.

        The ports go first: who waits for the container's lock, which goes with the exec, may want one of them at once.
        """
        self._relays.release()
        _swap_oom_score(self._oom_score)
        for number in DEFAULT_SIGNALS:
            _signal.signal(number, _signal.SIG_DFL)
        try:
            posix.execve(argv[0], argv, posix.environ)
        except OSError as error:  # the runtime or its interpreter is gone; the next converge finds the remains
            self._report(error)
            posix._exit(1)


def _swap_oom_score(score: bytes) -> bytes:
    """Sets it if the kernel permits; returns the old one."""
    try:
        descriptor = posix.open("/proc/self/oom_score_adj", posix.O_RDWR | posix.O_CLOEXEC)
    except OSError:
        return b"0"
    try:
        before = posix.read(descriptor, 16)
        posix.write(descriptor, score)
    except OSError:  # lowering it needs CAP_SYS_RESOURCE
        pass
    finally:
        posix.close(descriptor)
    return before.strip()


def _empty(pipe: int) -> None:
    try:
        posix.read(pipe, 512)
    except BlockingIOError:
        return


def _next_dead_child() -> tuple[int, int]:
    """(pid, wait status); (0, 0) when no child is dead, or there is none."""
    try:
        return posix.waitpid(-1, posix.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _nothing(number: int, frame: object) -> None:
    """A handler has to be there for the wake-up pipe to be written."""
