"""What is known of a container's run, in small files of its own directory: written by its builder and its monitor.

    started   by the builder, before the monitor takes over: who runs, since when, in which boot
    exit      by the monitor: how it ended
    stopped   by `stop`: the user's will, which outlives a reboot
    health    by the monitor
    paused    by `pause`, while it is: the kernel says whether that is still so
A pid is believed only with its start time, and only in the boot that it was recorded in.
"""

from __future__ import annotations

import os

from bayplan.errors import Invalid
from bayplan.model import jsontext
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

BOOT_ID = "/proc/sys/kernel/random/boot_id"
STATUS_LIMIT = 1 << 20
_USUAL = 8192
_LARGEST = 1 << 63


class Started(NamedTuple):
    """pid is the container's first process, monitor its parent; *_start are clock ticks since boot; at is nanoseconds of the epoch."""

    pid: int
    pid_start: int
    monitor: int
    monitor_start: int
    boot_id: str
    at: int
    restarts: int = 0


class ExitStatus(NamedTuple):
    """How one life of a container ended. Times are RFC 3339, UTC, with nine digits."""

    exit_code: int  # 0 to 255; 128 + signal if a signal ended it
    signal: int = 0  # 0 if none did
    oom_killed: bool = False
    started_at: str = ""
    finished_at: str = ""
    restarts: int = 0  # including the one that follows, if one does
    restart_at: str | None = None  # when it starts again; None: it stays down
    error: str = ""  # why a restart could not be made


def boot_id() -> str:
    with open(BOOT_ID) as file:
        return file.read().strip()


def start_time(pid: int) -> int:
    """Clock ticks since boot at which the process started, 0 where there is none or only a zombie (proc(5), stat, field 22)."""
    try:
        fields = _content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def write_started(directory: str, started: Started) -> None:
    """Also forgets how the last run ended."""
    for name in ("exit", "health", "paused"):
        _remove(f"{directory}/{name}")
    write_file(f"{directory}/started", jsontext.dumps(started._asdict()))


def read_started(directory: str) -> Started | None:
    """None where there is none, or what is there is none: half of one, or another version's."""
    document = _read(f"{directory}/started") or {}
    known = {name: document[name] for name in Started._fields if name in document}
    numbers = {name: known.get(name) for name in Started._fields if name not in ("boot_id", "restarts")}
    whole = all(isinstance(value, int) and 0 <= value < _LARGEST for value in (*numbers.values(), known.get("restarts", 0)))
    return Started(**known) if whole and isinstance(known.get("boot_id"), str) else None


def parse_exit(text: bytes) -> ExitStatus:
    """The status as the monitor sends it. Raises Invalid."""
    try:
        return _exit_status(jsontext.loads(text))
    except (ValueError, TypeError) as error:
        raise Invalid(f"reading a container's exit status: {error}") from error


def read_exit(directory: str) -> ExitStatus | None:
    """The last recorded end; None where there is none, or what is there is none."""
    document = _read(f"{directory}/exit")
    code = document.get("exit_code") if document else None
    return _exit_status(document) if document and isinstance(code, int) and 0 <= code < 256 else None


def _exit_status(document: dict[str, Any]) -> ExitStatus:
    return ExitStatus(**{name: document[name] for name in ExitStatus._fields if name in document})


def read_health(directory: str) -> dict[str, Any]:
    """Docker's State.Health, or an empty mapping."""
    return _read(f"{directory}/health") or {}


def process_alive(started: Started, boot: str) -> bool:
    return started.boot_id == boot and started.pid_start != 0 and start_time(started.pid) == started.pid_start


def monitor_alive(started: Started, boot: str) -> bool:
    return started.boot_id == boot and started.monitor_start != 0 and start_time(started.monitor) == started.monitor_start


def mark_stopped(directory: str, *, by: str) -> None:
    """Record that it is to stay down: `by` "user" until a user starts it again, "shutdown" until the next boot."""
    write_file(f"{directory}/stopped", by)
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)  # it has to outlive a power cut: `unless-stopped` goes by it
    finally:
        os.close(parent)


def clear_stopped(directory: str) -> None:
    _remove(f"{directory}/stopped")


def stopped_by(directory: str) -> str:
    """Who stopped it last: "user", "shutdown" or ""."""
    try:
        with open(f"{directory}/stopped") as file:
            return file.read(STATUS_LIMIT) or "user"
    except FileNotFoundError:
        return ""


def mark_paused(directory: str) -> None:
    write_file(f"{directory}/paused", "")


def clear_paused(directory: str) -> None:
    _remove(f"{directory}/paused")


def marked_paused(directory: str) -> bool:
    return os.path.exists(f"{directory}/paused")


def write_failure(directory: str, reason: str) -> None:
    """A restart that could not be made: the container's end, with the reason where `inspect` shows it."""
    write_file(f"{directory}/exit", jsontext.dumps({"exit_code": 128, "error": reason}))


def write_file(path: str, text: str, mode: int = 0o600) -> None:
    """Replace `path` in one step. Raises OSError; then the old file is untouched."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), mode)


def write_bytes(path: str, data: bytes, mode: int = 0o600) -> None:
    temporary = f"{path}.{os.getpid()}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        file.write(data)
    os.rename(temporary, path)


def _read(path: str) -> dict[str, Any] | None:
    """A status file's mapping; None where there is none, or where a power cut left it empty."""
    try:
        document = jsontext.loads(_content(path).decode("utf-8", "replace"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _content(path: str) -> bytes:
    """The beginning of a small file. A start looks at two for each neighbour: a file object would take three times as long."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = chunk = os.read(fd, _USUAL)
        while len(chunk) == _USUAL and len(content) < STATUS_LIMIT:
            chunk = os.read(fd, _USUAL)
            content += chunk
        return content
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
