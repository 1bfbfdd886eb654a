"""Jobs in processes of their own, a few at a time; each is a fork of the caller, who has no threads then."""

from __future__ import annotations

import errno
import json
import mmap
import os
import select
import signal
import struct
import time
from types import FrameType

from bayplan import errors
from bayplan.errors import BayplanError, Kernel
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any, NoReturn, TypeAlias

_COUNTER = struct.Struct("q")
_TICK_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0
_MESSAGE_LIMIT = 5000
_KINDS = (errors.Invalid, errors.NotFound, errors.Conflict, errors.Denied, errors.Unavailable, errors.Full)

Advance: TypeAlias = "Callable[[int], None]"
Job: TypeAlias = "Callable[[Advance], None]"
Watch: TypeAlias = "Callable[[tuple[int, ...]], None]"


class _Running(NamedTuple):
    pid: int
    answer: int
    position: int


def run(jobs: Sequence[Job], *, at_once: int, watch: Watch | None = None, needs: Sequence[Collection[int]] = ()) -> None:
    """Run all jobs, `at_once` at a time; a job tells how many units more it has done, and `watch` sees all counts.

    `needs` are the positions of those jobs that are to have ended before each begins; none of them in a circle.
    The first error that a job raises ends the others, which still clean up behind themselves, and is raised here.
    """
    counts = mmap.mmap(-1, max(1, len(jobs)) * _COUNTER.size)
    waiting = list(range(len(jobs)))
    running: dict[int, _Running] = {}
    try:
        while waiting or running:
            unfinished = {*waiting, *(each.position for each in running.values())}
            for position in [each for each in waiting if not needs or unfinished.isdisjoint(needs[each])][: at_once - len(running)]:
                waiting.remove(position)
                started = _start(jobs[position], position, counts)
                running[started.answer] = started
            _wait(running)
            if watch:
                watch(tuple(count for (count,) in _COUNTER.iter_unpack(counts[: len(jobs) * _COUNTER.size])))
    finally:
        _end(running)
        counts.close()


def _start(job: Job, position: int, counts: mmap.mmap) -> _Running:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _live(job, position, counts, writing)
    os.close(writing)
    return _Running(pid, reading, position)


def _live(job: Job, position: int, counts: mmap.mmap, answer: int) -> NoReturn:
    """The life of a worker. Whatever is raised, and whenever a signal comes, it never returns into the caller's code."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller gets it too, and ends us
        signal.signal(signal.SIGTERM, _leave)
        document = _outcome(job, position, counts)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(answer, json.dumps(document).encode())
    finally:
        os._exit(0)


def _outcome(job: Job, position: int, counts: mmap.mmap) -> dict[str, Any]:
    """Do the job; {} or what went wrong, small enough for a pipe that nobody reads."""
    done = 0

    def advance(units: int) -> None:
        nonlocal done
        done += units
        _COUNTER.pack_into(counts, position * _COUNTER.size, done)

    try:
        job(advance)
    except BayplanError as error:
        return {"kind": error.kind, "message": str(error)[:_MESSAGE_LIMIT], "errno": getattr(error, "errno", 0)}
    except OSError as error:
        return {"kind": "kernel", "message": str(error)[:_MESSAGE_LIMIT], "errno": error.errno or errno.EIO}
    except BaseException as error:
        return {"kind": "bug", "message": repr(error)[:_MESSAGE_LIMIT]}
    return {}


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(number)


def _wait(running: dict[int, _Running]) -> None:
    """Take the answers of the workers that have one within a tick."""
    ready, _, _ = select.select(list(running), [], [], _TICK_SECONDS)
    for each in ready:
        answer = _read(each)
        worker = running.pop(each)
        os.close(each)
        _, status = os.waitpid(worker.pid, 0)
        _raise(answer, status)


def _read(source: int) -> bytes:
    parts = []
    while part := os.read(source, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _raise(answer: bytes, status: int) -> None:
    if not answer:
        raise Kernel(f"working on a layer (wait status {status})", OSError(errno.ECHILD, "the process was killed; is there enough memory?"))
    document = json.loads(answer)
    if not document:
        return
    for kind in _KINDS:
        if document["kind"] == kind.kind:
            raise kind(document["message"])
    if document["kind"] == "kernel":
        error = Kernel("", OSError(document["errno"], ""))
        error.args = (document["message"],)
        raise error
    raise AssertionError(f"a worker failed: {document['message']}")


def _end(running: dict[int, _Running]) -> None:
    """They clean up behind themselves. One that has not in time is killed: what it leaves, the next sweep takes."""
    for worker in running.values():
        os.kill(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for worker in running.values():
        while os.waitpid(worker.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.002)
        os.close(worker.answer)
