"""How a container ended: what the file containers/ID/exit says. Lean, see loop.py."""

from __future__ import annotations

import posix

from bayplan.supervise.log import timestamp
from bayplan.supervise.settings import read_file


class Ending:
    """One life of the container."""

    __slots__ = ("exit_code", "finished_ns", "oom_killed", "signal", "started_ns")

    def __init__(self, wait_status: int, started_ns: int, finished_ns: int, oom_killed: bool) -> None:
        self.exit_code, self.signal = codes(wait_status)
        self.started_ns = started_ns
        self.finished_ns = finished_ns
        self.oom_killed = oom_killed

    def render(self, *, restarts: int, delay: float) -> bytes:
        """JSON. `delay` is how many seconds later the container starts again; below 0: it does not."""
        again = f'"{timestamp(self.finished_ns + int(delay * 1e9))}"' if delay >= 0 else "null"
        return (
            f'{{"exit_code":{self.exit_code},"signal":{self.signal},"oom_killed":{_word(self.oom_killed)},'
            f'"started_at":"{timestamp(self.started_ns)}","finished_at":"{timestamp(self.finished_ns)}",'
            f'"restarts":{restarts},"restart_at":{again}}}'
        ).encode()


def codes(wait_status: int) -> tuple[int, int]:
    """(exit code, signal): a signal's exit code is 128 more than its number, as shells have it."""
    if posix.WIFSIGNALED(wait_status):
        number = posix.WTERMSIG(wait_status)
        return 128 + number, number
    return posix.WEXITSTATUS(wait_status), 0


def oom_kills(path: str) -> int:
    """The counter `oom_kill` of memory.events (cgroup v2) or memory.oom_control (v1, Linux 4.13); 0 if there is none."""
    try:
        for line in read_file(path, 4096).splitlines() if path else ():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


def _word(value: bool) -> str:
    return "true" if value else "false"
