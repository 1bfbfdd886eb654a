"""The monitor's view of its configuration: launch.MonitorConfig's fields, without the cost of NamedTuples.

What the fields mean is said there; a test keeps the two alike.
"""

from __future__ import annotations

import marshal
import posix

HEALTH_FIELDS = ("interval", "timeout", "start_period", "start_interval", "retries")


class Health:
    __slots__ = HEALTH_FIELDS
    interval: float
    timeout: float
    start_period: float
    start_interval: float
    retries: int

    def __init__(self, values: tuple[float, ...]) -> None:
        for field, value in zip(HEALTH_FIELDS, values):
            setattr(self, field, value)


class Settings:
    restart: str
    restart_limit: int
    health: Health | None
    log_max_size: int
    log_max_files: int
    name_files: tuple[str, ...]
    upstreams: tuple[tuple[str, int], ...]
    internal: bool

    def __init__(self, fields: dict[str, object]) -> None:
        self.__dict__.update(fields)
        health = fields["health"]
        self.health = Health(health) if isinstance(health, tuple) else None


class Config:
    id: str
    name: str
    directory: str
    pid: int
    settings: Settings
    after_argv: tuple[str, ...]
    restart_argv: tuple[str, ...]
    health_argv: tuple[str, ...]
    started_ns: int
    restarts: int
    streak: int
    stdout_fd: int
    stderr_fd: int
    stdin_fd: int
    stdin_once: bool
    terminal_fd: int
    control_fd: int
    owner_fd: int
    ephemeral: bool
    log_driver: str
    log_tag: str
    log_target: tuple[str, str, int]
    log_format: str
    log_facility: int
    log_labels: tuple[tuple[str, str], ...]
    oom_file: str
    dns_udp_fds: tuple[int, ...]
    dns_tcp_fds: tuple[int, ...]
    relays: tuple[tuple[int, str, int], ...]
    held_fds: tuple[int, ...]
    lock_fd: int

    def __init__(self, fields: dict[str, object]) -> None:
        self.__dict__.update(fields)
        settings = fields["settings"]
        assert isinstance(settings, dict)
        self.settings = Settings(settings)


def read_all(descriptor: int, limit: int) -> bytes:
    """At most `limit` bytes from here to the end; closes the descriptor."""
    try:
        data = b""
        while len(data) < limit:
            more = posix.read(descriptor, min(65536, limit - len(data)))
            if not more:
                break
            data += more
        return data
    finally:
        posix.close(descriptor)


def read_file(path: str, limit: int) -> bytes:
    """At most `limit` bytes of a file. Raises OSError."""
    return read_all(posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW), limit)


def replace_file(path: str, data: bytes, *, durable: bool = False) -> None:
    """Writes beside `path` and renames over it, so that a reader sees the old or the new one. Raises OSError."""
    temporary = path + ".new"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW
    descriptor = posix.open(temporary, flags, 0o600)
    try:
        while data:
            data = data[posix.write(descriptor, data):]
        if durable:
            posix.fsync(descriptor)
    finally:
        posix.close(descriptor)
    posix.rename(temporary, path)
    if durable:
        sync_directory(path.rpartition("/")[0])


def sync_directory(path: str) -> None:
    """A rename is durable once its directory is. Raises OSError."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.fsync(descriptor)
    finally:
        posix.close(descriptor)


def load_config(descriptor: int) -> Config:
    """Reads what launch.exec_monitor() wrote; closes the descriptor."""
    return Config(marshal.loads(read_all(descriptor, 16 << 20)))


def load_settings(directory: str) -> Settings:
    """Reads what launch.write_settings() wrote. Raises OSError, ValueError, EOFError, TypeError, KeyError."""
    return Settings(marshal.loads(read_file(directory + "/monitor.settings", 1 << 20)))


def close_on_exec() -> None:
    """Marks every descriptor that survived the builder's exec, so that nothing else inherits it."""
    for entry in posix.listdir("/proc/self/fd"):
        if int(entry) > 2:
            try:
                posix.set_inheritable(int(entry), False)
            except OSError:  # the listing's own
                continue
