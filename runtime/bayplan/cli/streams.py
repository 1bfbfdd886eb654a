"""Verbs that show a container's output: the foreground of `run` and `start`, `attach`, `logs`."""

from __future__ import annotations

import os
import sys

from bayplan.cli.call import Call
from bayplan.errors import Conflict, Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    import signal as _signal

    from bayplan.cli.terminal import Terminal
    from bayplan.engine.containers import Record
    from bayplan.engine.state import State
    from bayplan.store.status import ExitStatus
    from bayplan.supervise.client import Session
    from bayplan.supervise.pump import Streams
else:
    import _signal  # without the enumerations of `signal`

_PROXIED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "ALRM")
_NO_STATUS = 0


def check(call: Call) -> None:
    """Raises Invalid for what is wrong with the options about streams: nothing must run yet, for nobody would be there to attend it."""
    _streams(call, stdin=False, tty=True)


def foreground(call: Call, state: State, record: Record) -> int:
    """Start the container as its owner, be its terminal until it ends, clear away after it; its exit status.

    Leaving it (the detaching keys, a reader that has gone) leaves it to its monitor. Raises what starting raises.
    """
    check(call)
    terminal = _terminal(call, record, stdin=_wants_stdin(call, record))
    from bayplan.engine import start, stop

    session = _owned(start.start(state, record, owner=True))
    status = _attended(call, state, record, session, terminal)
    if status is None or status.restart_at is not None:
        session.close()
        return status.exit_code if status else _NO_STATUS
    stop.settle_owned(state, record, remove=record.spec.auto_remove)
    session.cleaned()
    return status.exit_code


def attach(call: Call) -> int:
    """Be the terminal of a container that runs; its exit status if it ends meanwhile."""
    state = call.state()
    from bayplan.engine import containers
    from bayplan.supervise import client

    record = containers.find(state, call.arguments[0])
    now = containers.run_of(state, record.id).status
    if now != "running":
        raise Conflict(f"attaching to container {record.name}: it is {now}; {'unpause' if now == 'paused' else 'start'} it first")
    stdin = record.spec.stdin_open and not call.flag("no-stdin")
    terminal = _terminal(call, record, stdin=stdin)
    session = client.attach(state.root.container(record.id), stdin=stdin)
    status = _attended(call, state, record, session, terminal)
    session.close()
    return status.exit_code if status else _NO_STATUS


def _owned(descriptor: int) -> Session:
    import _socket

    from bayplan.supervise.client import Session

    return Session(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor))


def _wants_stdin(call: Call, record: Record) -> bool:
    if call.verb.name == "start":
        return call.flag("interactive") and record.spec.stdin_open
    return record.spec.stdin_open


def _terminal(call: Call, record: Record, *, stdin: bool) -> Terminal | None:
    """Ours, where the container has one and listens to it. Raises Invalid where ours is none."""
    if not (record.spec.tty and stdin):
        return None
    if not os.isatty(0):
        raise Invalid(f"{call.verb.name}: standard input is not a terminal; leave out --tty")
    from bayplan.cli.terminal import Terminal

    return Terminal(0)


def _streams(call: Call, *, stdin: bool, tty: bool) -> Streams:
    from bayplan.supervise.pump import DETACH, Streams

    wanted = [name.lower() for name in call.many("attach")] if call.verb.name == "run" else []
    for name in wanted:
        if name not in ("stdin", "stdout", "stderr"):
            raise Invalid(f"--attach {name}: it is one of stdin, stdout, stderr")
    keys = call.text("detach-keys")
    detach = detach_keys(keys) if keys else DETACH
    shown = {name: number if not wanted or name in wanted else -1 for name, number in (("stdout", 1), ("stderr", 2))}
    return Streams(0 if stdin else -1, shown["stdout"], shown["stderr"], detach if tty else b"")


def detach_keys(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q" or "a,b"; raises Invalid."""
    found = b""
    for key in text.split(","):
        letter = key[5:] if key.startswith("ctrl-") else ""
        if len(key) == 1 and key.isascii():
            found += key.encode()
        elif len(letter) == 1 and letter in "@abcdefghijklmnopqrstuvwxyz[\\]^_":
            found += bytes((ord(letter.upper()) & 0x1F,))
        else:
            raise Invalid(f"--detach-keys {text}: {key!r} is neither a character nor ctrl- and a letter")
    return found


def _attended(call: Call, state: State, record: Record, session: Session, terminal: Terminal | None) -> ExitStatus | None:
    """Copy until the end, with our terminal raw and our signals passed on; what was there before is put back."""
    from bayplan.supervise.pump import pump

    stdin = terminal is not None or (_wants_stdin(call, record) and not call.flag("no-stdin"))
    streams = _streams(call, stdin=stdin, tty=terminal is not None)
    if terminal is None:
        if call.flag("sig-proxy") or not call.given("sig-proxy"):
            _pass_signals_on(state, record)
        return pump(session, streams)
    with terminal.raw(session.resize):
        return pump(session, streams)


def _pass_signals_on(state: State, record: Record) -> None:
    """From now on the container gets our signals: it ends as it likes, and we with it."""
    from bayplan.engine import stop

    def forward(number: int, _: object) -> None:
        try:
            stop.kill(state, record, str(number))
        except Conflict:  # it has ended by now, and its status is on the way
            return

    for name in _PROXIED:
        _signal.signal(getattr(_signal, f"SIG{name}"), forward)


def logs(call: Call) -> int:
    """Write what the container has written, each stream to its own; with --follow until it ends."""
    from bayplan.supervise.logs import LogQuery, follow_log, read_log

    tail = call.text("tail", "all")
    if tail != "all" and not (tail.isascii() and tail.isdigit()):
        raise Invalid(f"logs: --tail takes a number of lines or `all`, not {tail!r}")
    query = LogQuery(None if tail == "all" else int(tail), _nanoseconds(call, "since"), _nanoseconds(call, "until"))
    state = call.state()
    from bayplan.engine import containers

    record = containers.find(state, call.arguments[0])
    if record.spec.logging.driver != "json-file":
        raise Invalid(f"logs: container {record.name} logs to {record.spec.logging.driver}; only json-file can be read here")
    directory = state.root.container(record.id)
    if call.flag("follow"):
        lines = follow_log(directory, query, lambda: containers.run_of(state, record.id).status in containers.RUNNING)
    else:
        lines = read_log(directory, query)
    out = {"stderr": sys.stderr.buffer}
    for line in lines:
        stream = out.get(line.stream, sys.stdout.buffer)
        stream.write((f"{line.time} " if call.flag("timestamps") else "").encode() + line.text.encode("utf-8", "surrogateescape"))
        stream.flush()
    return 0


def _nanoseconds(call: Call, option: str) -> int | None:
    from bayplan.cli.moments import moment

    return int(moment(call.text(option)) * 1e9) if call.given(option) else None
