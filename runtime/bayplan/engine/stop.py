"""Ending containers: stop, kill, wait, and what is cleared away afterwards."""

from __future__ import annotations

import os
import select
import time

from bayplan.engine import cgroup, containers, endpoints
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import BayplanError, Conflict, Invalid, NotFound, Unavailable
from bayplan.kernel import pids
from bayplan.model.signals import KILL, TERM, parse_signal
from bayplan.store import locks, records, status
from bayplan.store.status import Started
from bayplan.store.trees import remove_tree
from bayplan.supervise import client

# What follows a KILL takes a kernel's moment; a process in uninterruptible sleep (a dead NFS server) may take for ever.
PATIENCE = 30.0
_BETWEEN_LIVES = 0.05
LONGEST_GRACE = 2_000_000.0  # seconds: poll(2) takes milliseconds of 31 bits


def stop(state: State, record: Record, *, timeout: float | None = None, by: str = "user") -> None:
    """Send the stop signal, and KILL after `timeout` seconds (the container's own grace period where None). A paused one goes on for it.

    Its restart policy does not bring it back: `by` "user" holds until a user starts it, "shutdown" until the next boot.
    Returns when the monitor has cleaned up. Raises Unavailable where the process does not die.
    """
    finish(state, record, begin(state, record, by=by), timeout=timeout)


def begin(state: State, record: Record, *, by: str) -> float | None:
    """Send the stop signal. The moment at which it was sent (time.monotonic), None where no process was there to take it."""
    directory = state.root.container(record.id)
    status.mark_stopped(directory, by=by)
    if _signal(state, record, _stop_signal(state, record), ends=True):
        return time.monotonic()
    _wake_monitor(directory)
    return None


def finish(state: State, record: Record, begun: float | None, *, timeout: float | None = None) -> None:
    """Wait for the end of what `begin` has begun: the grace period counts from then."""
    grace = record.spec.stop_grace_period / 1e9 if timeout is None else timeout
    if begun is not None and not _wait_for_end(state, record, max(0.0, begun + grace - time.monotonic())):
        _signal(state, record, KILL, ends=True)
        if not _wait_for_end(state, record, PATIENCE):
            raise Unavailable(f"stopping container {record.name}: its process has not ended {PATIENCE:.0f} s after SIGKILL")
    _wait_for_release(state.root.container(record.id))
    settle(state, record, remove=record.spec.auto_remove)


def _stop_signal(state: State, record: Record) -> int:
    from bayplan.engine import images
    from bayplan.plan import systemd

    text = systemd.stop_signal(record.spec, images.config(state, record.image_id))
    try:
        return parse_signal(text)
    except Invalid:  # an image may name what it likes, and is stopped all the same
        return TERM


def kill(state: State, record: Record, signal: str = "KILL") -> None:
    """Send `signal` to the container's first process; raises Conflict where it does not run, Invalid for no signal.

    KILL and the container's own stop signal are a user's stop: its restart policy does not bring it back, and if it is paused it goes
    on, as with Docker; any other signal waits until it does.
    """
    number = parse_signal(signal)
    ends = number in (KILL, _stop_signal(state, record))
    if ends:
        status.mark_stopped(state.root.container(record.id), by="user")
    if not _signal(state, record, number, ends=ends):
        raise Conflict(f"killing container {record.name}: it is not running")


def _signal(state: State, record: Record, number: int, *, ends: bool) -> bool:
    """Whether the first process was there to take the signal. A recycled pid never gets it (kernel/pids.py). What `ends` a paused
    container thaws it, once the signal is there."""
    started = status.read_started(state.root.container(record.id))
    if started is None or not status.process_alive(started, status.boot_id()):
        return False
    try:
        pids.kill(pids.Handle(started.pid, started.pid_start), number)
    except NotFound:
        return False
    if ends and status.marked_paused(state.root.container(record.id)):
        from bayplan.engine import pause

        pause.thaw(state, record)
    return True


def _wake_monitor(directory: str) -> None:
    """A container that waits for its restart has no process; its monitor looks for the mark when told to."""
    try:
        client.notify_stop(directory)
    except BayplanError:
        return


def _wait_for_end(state: State, record: Record, seconds: float) -> bool:
    started = status.read_started(state.root.container(record.id))
    if started is None:
        return True
    boot, seconds = status.boot_id(), min(seconds, LONGEST_GRACE)
    try:
        process = pids.open_pidfd(started.pid)
    except OSError:
        return True
    if process < 0:  # before Linux 5.3
        return _poll_for_end(started, boot, seconds)
    try:
        if not status.process_alive(started, boot):
            return True
        poll = select.poll()
        poll.register(process, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(process)


def _poll_for_end(started: Started, boot: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while status.process_alive(started, boot):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _wait_for_release(directory: str) -> None:
    """Until the monitor has let go of the container's lock."""
    deadline = time.monotonic() + PATIENCE
    pause = 0.001
    while locks.container_is_held(directory) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def settle_owned(state: State, record: Record, *, remove: bool) -> None:
    """What settle does, for the owner of a run: its monitor holds the lock until the owner has said that all is cleared away."""
    clear(state, record)
    if remove:
        _remove(state, record, volumes=True)


def settle(state: State, record: Record, *, remove: bool) -> None:
    """Clear away what a run has left in the kernel: links, published ports, the cgroup; and all of it where it is to be removed.

    Does nothing while somebody else holds the container: they do the same. Never raises for what is gone already.
    """
    directory = state.root.container(record.id)
    lock = _try_for_a_moment(directory)
    if lock < 0:
        return
    try:
        clear(state, record)
        if remove:
            _remove(state, record, volumes=True)
    finally:
        os.close(lock)


def _try_for_a_moment(directory: str) -> int:
    """The container's lock, or -1. Whoever only asks whether it is held has it for an instant: that is no holder."""
    for _ in range(5):
        try:
            lock = locks.try_container(directory)
        except FileNotFoundError:
            return -1
        if lock >= 0:
            return lock
        time.sleep(0.01)
    return -1


def clear(state: State, record: Record) -> None:
    """What a run has in the kernel. Whatever of it runs is killed first: names are announced for what runs."""
    if record.spec.runtime:
        from bayplan.engine import runtimes  # for those who name one

        runtimes.remove(state, record)
    cgroup.remove(state, record.id)
    endpoints.detach(state, record.id)
    try:
        os.stat(f"{state.root.container(record.id)}/poststop.json")
    except FileNotFoundError:
        return
    from bayplan.engine import hooks  # for those who have a device by its CDI name

    hooks.run_stopped(state.root.container(record.id))


def remove(state: State, record: Record, *, force: bool = False, volumes: bool = False) -> None:
    """Remove the container, and with `volumes` its anonymous ones. A running one takes `force`, which kills it.

    Raises Conflict. Killed at any moment, what is left is cleared by the next sweep.
    """
    directory = state.root.container(record.id)
    run = containers.run_of(state, record.id)
    if run.status in containers.RUNNING:
        if not force:
            raise Conflict(f"removing container {record.name}: it is {run.status}; stop it first, or force")
        stop(state, record, timeout=0)
    elif force and locks.container_is_held(directory):  # its record of who runs is lost, and its control group has them all
        cgroup.remove(state, record.id)
    lock = _lock(directory, record)
    if lock < 0:
        return
    try:
        clear(state, record)
        _remove(state, record, volumes=volumes)
    finally:
        os.close(lock)


def _lock(directory: str, record: Record) -> int:
    """The container's lock, -1 where the container is gone; raises Conflict while another process has it."""
    _wait_for_release(directory)
    try:
        lock = locks.try_container(directory)
    except FileNotFoundError:
        return -1
    if lock < 0:
        raise Conflict(f"changing container {record.name}: another process is working on it; try again when it is through")
    return lock


def _remove(state: State, record: Record, *, volumes: bool) -> None:
    from bayplan.engine import volumes as volume_engine

    anonymous = _anonymous_volumes(state, record) if volumes else ()
    with records.transaction(state.records):
        records.remove_container(state.records, record.id)
    remove_tree(state.root.container(record.id), scratch=state.root.staging)
    for name in anonymous:
        try:
            volume_engine.remove(state, name, force=True)
        except Conflict:  # another container has taken it over (--volumes-from): it goes with the last one
            continue


def _anonymous_volumes(state: State, record: Record) -> tuple[str, ...]:
    used = {use.volume for use in records.volume_uses(state.records, container=record.id)}
    return tuple(row.name for row in (records.volume_named(state.records, name) for name in used) if row and row.anonymous)


def wait(state: State, record: Record) -> int:
    """Block until the container has ended and is not to be restarted; its exit code."""
    directory = state.root.container(record.id)
    while (run := containers.run_of(state, record.id)).status in containers.RUNNING:
        try:
            ended = client.wait(directory)
        except NotFound:  # its monitor is becoming the one of its next life
            ended = None
        if ended and ended.restart_at is None:
            return ended.exit_code
        time.sleep(_BETWEEN_LIVES)
    return run.exit_code
