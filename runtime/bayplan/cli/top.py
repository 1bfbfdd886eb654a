"""`top`: the processes of a container, as the host's `ps` would show them. No host needs a `ps` for it."""

from __future__ import annotations

import os
import time

from bayplan.cli.call import Call
from bayplan.cli.output import table
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_COMMAND = 4096
_TICKS = os.sysconf("SC_CLK_TCK")
_FULL = "user=UID,pid,ppid,c,stime,tname,time,cmd"
_BSD = "user,pid,%cpu,%mem,vsz,rss,tname,stat,stime=START,bsdtime,command"


class Found(NamedTuple):
    """One process (proc(5), /proc/PID/stat); times are seconds, `started` of the epoch, memory is bytes."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    terminal: int
    foreground: int
    spent: float
    nice: int
    threads: int
    started: float
    size: int
    resident: int
    uid: int
    gid: int
    words: str


def top(call: Call) -> int:
    """The processes in its cgroup, as the host sees them: nothing is entered, and nothing of the container is asked."""
    columns = parse_columns(call.arguments[1:])
    state = call.state()
    from bayplan.engine import cgroup, containers
    from bayplan.kernel import cgroups

    record = containers.find(state, call.arguments[0])
    containers.started(state, record)
    own = cgroup.find(state, record.id)
    found = [_find(pid) for pid in sorted(cgroups.pids(own) if own else ())]
    table([heading for heading, _ in columns], [[show(each) for _, show in columns] for each in found if each])
    return 0


def parse_columns(options: tuple[str, ...]) -> list[tuple[str, Callable[[Found], str]]]:
    """Headings, and what is beneath them, for `ps` options; the selection of ps is ours in any case. Raises Invalid."""
    lists, rest, layout = [], list(options), _FULL
    while rest:
        word = rest.pop(0)
        if word in ("aux", "-aux", "u"):
            layout = _BSD
        elif word.startswith("-") and not word.strip("-eAf"):
            continue
        elif word in ("-o", "-eo", "-Ao", "o", "--format") and rest:
            lists.append(rest.pop(0))
        elif word.startswith("-o"):
            lists.append(word[2:])
        else:
            raise Invalid(f"top: the option {word!r} is not known; known are -e, -f, -ef, aux, and -o with names of columns")
    return [_column(name) for name in ",".join(lists or [layout]).split(",")]


def _column(text: str) -> tuple[str, Callable[[Found], str]]:
    name, _, heading = text.strip().partition("=")
    name = _ALIASES.get(name, name)
    if name not in _COLUMNS:
        raise Invalid(f"top: there is no column {text!r}; known are {', '.join(sorted((*_COLUMNS, *_ALIASES)))}")
    usual, show = _COLUMNS[name]
    return heading or usual, show


def _find(pid: int) -> Found | None:
    """None where it has ended by now."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, tail = file.read().rpartition(")")
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read(_LONGEST_COMMAND).replace("\0", " ").strip()
        uid, gid = _identity(pid)
    except OSError:
        return None
    f = tail.split()  # the third field of proc(5) comes first here
    name = head.partition("(")[2]
    return Found(
        pid=pid,
        name=name,
        state=f[0],
        parent=int(f[1]),
        group=int(f[2]),
        session=int(f[3]),
        terminal=int(f[4]),
        foreground=int(f[5]),
        spent=(int(f[11]) + int(f[12])) / _TICKS,
        nice=int(f[16]),
        threads=int(f[17]),
        started=time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(f[19]) / _TICKS,
        size=int(f[20]),
        resident=int(f[21]) * os.sysconf("SC_PAGE_SIZE"),
        uid=uid,
        gid=gid,
        words=words or f"[{name}]",
    )


def _identity(pid: int) -> tuple[int, int]:
    """The effective user and group. (Whose /proc/PID is says nothing about a process that must not be dumped.)"""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return int(fields["Uid"].split()[1]), int(fields["Gid"].split()[1])


def _user(found: Found) -> str:
    import pwd

    try:
        return pwd.getpwuid(found.uid).pw_name
    except KeyError:
        return str(found.uid)


def _group(found: Found) -> str:
    import grp

    try:
        return grp.getgrgid(found.gid).gr_name
    except KeyError:
        return str(found.gid)


def _share(found: Found) -> float:
    return 100 * found.spent / max(time.time() - found.started, 0.01)


def _memory_share(found: Found) -> str:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{100 * found.resident / total:.1f}"


def _start(found: Found) -> str:
    same_day = time.localtime(found.started)[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if same_day else "%b%d", time.localtime(found.started))


def _terminal(found: Found) -> str:
    major, minor = os.major(found.terminal), os.minor(found.terminal)
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    return f"tty{minor}" if major == 4 else "?"


def _span(seconds: float, *, days: bool) -> str:
    minutes, rest = divmod(int(seconds), 60)
    if not days:
        return f"{minutes}:{rest:02}"
    hours, minutes = divmod(minutes, 60)
    return (f"{hours // 24}-" if hours >= 24 else "") + f"{hours % 24:02}:{minutes:02}:{rest:02}"


def _elapsed(found: Found) -> str:
    span = _span(time.time() - found.started, days=True)
    return span[3:] if span.startswith("00:") else span


def _flags(found: Found) -> str:
    marks = ("<" if found.nice < 0 else "N" if found.nice > 0 else "", "s" if found.session == found.pid else "")
    return found.state + "".join(marks) + ("l" if found.threads > 1 else "") + ("+" if found.foreground == found.group else "")


_COLUMNS: dict[str, tuple[str, Callable[[Found], str]]] = {
    "pid": ("PID", lambda each: str(each.pid)),
    "ppid": ("PPID", lambda each: str(each.parent)),
    "pgid": ("PGID", lambda each: str(each.group)),
    "sid": ("SID", lambda each: str(each.session)),
    "user": ("USER", _user),
    "uid": ("UID", lambda each: str(each.uid)),
    "group": ("GROUP", _group),
    "c": ("C", lambda each: str(min(int(_share(each)), 99))),
    "pcpu": ("%CPU", lambda each: f"{_share(each):.1f}"),
    "pmem": ("%MEM", _memory_share),
    "vsz": ("VSZ", lambda each: str(each.size >> 10)),
    "rss": ("RSS", lambda each: str(each.resident >> 10)),
    "tname": ("TTY", _terminal),
    "stat": ("STAT", _flags),
    "state": ("S", lambda each: each.state),
    "nice": ("NI", lambda each: str(each.nice)),
    "nlwp": ("NLWP", lambda each: str(each.threads)),
    "stime": ("STIME", _start),
    "etime": ("ELAPSED", _elapsed),
    "time": ("TIME", lambda each: _span(each.spent, days=True)),
    "bsdtime": ("TIME", lambda each: _span(each.spent, days=False)),
    "comm": ("COMMAND", lambda each: each.name),
    "cmd": ("CMD", lambda each: each.words),
    "command": ("COMMAND", lambda each: each.words),
}
_ALIASES = {
    "%cpu": "pcpu",
    "%mem": "pmem",
    "args": "command",
    "ucmd": "comm",
    "tty": "tname",
    "tt": "tname",
    "s": "state",
    "ni": "nice",
    "thcount": "nlwp",
    "start": "stime",
    "cputime": "time",
    "euser": "user",
    "pgrp": "pgid",
    "sess": "sid",
}
