"""Turning the process that built a container into the container's monitor.

The builder fills in a MonitorConfig and calls exec_monitor(), which does not return: the same process, with its
children and the descriptors that the configuration names, goes on as a lean interpreter (supervise/monitor.py). The
configuration travels as marshal data in a memfd, because both sides are the same interpreter and a memfd leaves no
file behind.
"""

from __future__ import annotations

import marshal
import os
import posix

from bayplan.errors import Kernel
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal  # without the enumerations of `signal`, which take ten milliseconds

SETTINGS_FILE = "monitor.settings"
SHORT_LIFE_MILLISECONDS = 5
# Every Python reads marshal's version 2: the settings may be rewritten by a newer interpreter than the monitor's.
MARSHAL_VERSION = 2
# The monitor's, and so that of what it execs later. LC_ALL=C: another locale would only cost memory.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class HealthCheck(NamedTuple):
    """When to probe; seconds. What the probe runs is `MonitorConfig.health_argv`'s business. Docker's defaults."""

    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


class MonitorSettings(NamedTuple):
    """What may change while the container runs: write_settings(), then client.reload()."""

    restart: str = "no"  # no, on-failure, always, unless-stopped
    restart_limit: int = 0  # on-failure:N; 0 is no limit
    health: HealthCheck | None = None  # None: no health check
    log_max_size: int = 10_000_000  # bytes of one log file; 0 or less: no limit
    log_max_files: int = 3  # json.log, json.log.1, json.log.2
    name_files: tuple[str, ...] = ()  # networks/ID/names, one per network of the container
    upstreams: tuple[tuple[str, int], ...] = ()  # resolvers of the host, in order: (numeric address, port)
    internal: bool = False  # only on internal networks: no query leaves


class MonitorConfig(NamedTuple):
    """All that a monitor knows. A descriptor that is not there is -1. All are closed when the monitor execs."""

    id: str
    name: str
    directory: str  # containers/ID, absolute
    pid: int  # the container's first process, a child of the process that calls exec_monitor()
    settings: MonitorSettings
    after_argv: tuple[str, ...]  # run in the monitor's place once all is over: removes network and cgroup
    restart_argv: tuple[str, ...] = ()  # run in the monitor's place to start again; gets RESTARTS and STREAK appended
    health_argv: tuple[str, ...] = ()  # one probe: its exit status and output are the result
    started_ns: int = 0  # wall clock, nanoseconds since 1970
    restarts: int = 0  # how often the policy has restarted this container since a user started it
    streak: int = 0  # of these, how many in a row ended before 10 seconds were over: sets the delay
    stdout_fd: int = -1  # read end of a pipe
    stderr_fd: int = -1  # read end of a pipe
    stdin_fd: int = -1  # write end of a pipe; -1: stdin is /dev/null
    stdin_once: bool = False  # close stdin when the first client that had it attached ends it or leaves
    terminal_fd: int = -1  # pty master; then the three above are -1
    control_fd: int = -1  # listening unix stream socket, containers/ID/monitor.sock, mode 0600
    owner_fd: int = -1  # a stream socket, its other end `run` in the foreground: attached, and cleans up itself
    ephemeral: bool = False  # --rm: when the owner takes the exit status, nothing is written to disk
    log_driver: str = "json-file"  # json-file, none, syslog, journald
    log_tag: str = ""  # syslog's tag, journald's SYSLOG_IDENTIFIER; empty: the id's first 12 digits
    log_target: tuple[str, str, int] = ("unix", "/dev/log", 0)  # syslog: (unix | udp | tcp, path or address, port)
    log_format: str = ""  # syslog: rfc5424, rfc5424micro, rfc3164 or empty (the local form of 3164)
    log_facility: int = 3  # syslog's number; 3 is daemon
    log_labels: tuple[tuple[str, str], ...] = ()  # more fields for journald: (NAME, value)
    oom_file: str = ""  # the cgroup's memory.events (v2) or memory.oom_control (v1)
    dns_udp_fds: tuple[int, ...] = ()  # bound in the container's network namespace
    dns_tcp_fds: tuple[int, ...] = ()  # listening in the container's network namespace
    relays: tuple[tuple[int, str, int], ...] = ()  # (listening TCP socket on ::1, the container's address, port)
    held_fds: tuple[int, ...] = ()  # sockets that only keep a published port taken; client.replace_ports() closes them
    lock_fd: int = -1  # held open and nothing else: a file lock that says "there is a monitor"


def encode(config: MonitorConfig) -> bytes:
    """The bytes that the monitor reads: plain tuples and dicts, marshalled."""
    fields = config._asdict()
    fields["settings"] = _plain(config.settings)
    return marshal.dumps(fields, MARSHAL_VERSION)


def write_settings(directory: str, settings: MonitorSettings) -> None:
    """Replaces `directory`/monitor.settings in one step; the monitor takes it at the next client.reload().

    Raises OSError; then the old file is untouched.
    """
    path = f"{directory}/{SETTINGS_FILE}"
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, marshal.dumps(_plain(settings), MARSHAL_VERSION))
    finally:
        os.close(descriptor)
    os.rename(temporary, path)


def forget_last_life(directory: str) -> None:
    """Removes what the monitor of an earlier life wrote about it; a builder's first step. Raises OSError.

    The file `stopped` is not touched: only a user's `start` removes it, and a `stop` may be making it right now.
    """
    for name in ("exit", "health", "monitor.error", SETTINGS_FILE):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue


def exec_monitor(config: MonitorConfig, interpreter: str, runtime_directory: str) -> NoReturn:
    """Becomes the monitor of `config.pid`. `interpreter` is a real Python (no shim); `runtime_directory` has bayplan/.

    Of the open descriptors only those named by `config` survive; the standard ones become /dev/null. Raises Kernel
    when the interpreter cannot be executed; the descriptors' flags are changed by then: the caller can only give up.
    """
    script = f"{runtime_directory}/bayplan/supervise/monitor.py"
    try:
        _ignore_signals()
        _keep_only(_descriptors(config))
        memory = _configuration_in_memory(config)
        os.chdir("/")
        argv = [interpreter, "-I", "-S", "-X", "utf8", script, config.id, str(memory)]
        os.execve(interpreter, argv, ENVIRONMENT)
    except OSError as error:
        raise Kernel(f"handing the container to its monitor ({interpreter})", error) from error


def load_monitor() -> None:
    """Import what monitor_here() needs, at a moment when this process would only wait."""
    __import__("bayplan.supervise.watch")


def ends_soon(pidfd: int) -> bool:
    """Wait a moment for the end of the container's first process; whether it came. False where there is no pidfd (before Linux 5.3)."""
    import select

    if pidfd < 0:
        return False
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    return bool(waiting.poll(SHORT_LIFE_MILLISECONDS))


def monitor_here(config: MonitorConfig) -> NoReturn:
    """As exec_monitor(), but in this interpreter: for a container that has ended, whose owner waits to be told. Starting another
    one would take longer than everything that is left to do, and that nobody else is to have this one's memory does not matter."""
    from bayplan.supervise.settings import Config
    from bayplan.supervise.watch import Monitor

    _ignore_signals()
    _close_but(_descriptors(config))
    os.chdir("/")
    posix.environ.clear()
    posix.environ.update({os.fsencode(name): os.fsencode(value) for name, value in ENVIRONMENT.items()})
    Monitor(Config(marshal.loads(encode(config)))).run()
    os._exit(1)


def _close_but(kept: set[int]) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) > 2 and int(entry) not in kept:
            try:
                os.close(int(entry))
            except OSError:  # the listing's own
                continue


def _ignore_signals() -> None:
    """Ignoring outlives the exec: the monitor is never without it. See watch.IGNORED."""
    for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_IGN)


def _plain(settings: MonitorSettings) -> dict[str, object]:
    fields: dict[str, object] = settings._asdict()
    if settings.health is not None:
        fields["health"] = tuple(settings.health)
    return fields


def _descriptors(config: MonitorConfig) -> set[int]:
    streams = (config.stdin_fd, config.stdout_fd, config.stderr_fd, config.terminal_fd)
    single = (config.control_fd, config.owner_fd, config.lock_fd)
    many = (*config.dns_udp_fds, *config.dns_tcp_fds, *config.held_fds, *(relay[0] for relay in config.relays))
    return {descriptor for descriptor in (*streams, *single, *many) if descriptor >= 0}


def _keep_only(kept: set[int]) -> None:
    assert not kept & {0, 1, 2}, "the standard descriptors are the monitor's own"
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for entry in os.listdir("/proc/self/fd"):
        descriptor = int(entry)
        try:
            os.set_inheritable(descriptor, descriptor in kept or descriptor < 3)
        except OSError:  # the listing's own descriptor, closed by now
            continue


def _configuration_in_memory(config: MonitorConfig) -> int:
    memory = os.memfd_create("monitor", 0)
    os.write(memory, encode(config))
    os.lseek(memory, 0, os.SEEK_SET)
    return memory
