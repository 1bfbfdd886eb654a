"""Waiting for containers: until they are well, or until what they depend on is as they need it."""

from __future__ import annotations

import time

from bayplan.engine import containers, images, monitor
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import NotFound, Unavailable
from bayplan.model.container import Dependency
from bayplan.store import status

STEADY_SECONDS = 1.0
OUTPUT_LINES = 10
_PAUSE = 0.02


def await_wellness(state: State, record: Record, *, timeout: float) -> None:
    """Until the container is healthy, or, without a health check, has run for a second or ended with 0.

    Raises Unavailable, with the container's last output, where it ends otherwise or is not well after `timeout` seconds.
    """
    begun, checked = time.monotonic(), _is_checked(state, record)
    while True:
        run = containers.run_of(state, record.id)
        passed = time.monotonic() - begun
        if run.status == "running" and (run.health == "healthy" or (not checked and _ran_for(state, record) >= STEADY_SECONDS)):
            return
        if run.status == "exited" and run.exit_code == 0:
            return
        if run.status in ("exited", "dead") or (run.status == "restarting" and run.restarts):
            raise _unwell(state, record, f"it ended with exit code {run.exit_code}")
        if run.health == "unhealthy" or passed > timeout:
            raise _unwell(state, record, f"it is {run.health or run.status} after {passed:.0f} s")
        time.sleep(_PAUSE)


def _ran_for(state: State, record: Record) -> float:
    """Seconds since the container was started."""
    started = status.read_started(state.root.container(record.id))
    return (time.time_ns() - started.at) / 1e9 if started else 0.0


def await_dependencies(state: State, record: Record, *, timeout: float) -> None:
    """Until every dependency of the container is in the condition that it names. Raises Unavailable, NotFound."""
    for dependency in record.spec.depends_on:
        try:
            other = containers.find(state, dependency.container)
        except NotFound:
            if dependency.required:
                raise
            continue
        _await(state, record, other, dependency, timeout=timeout)


def _await(state: State, record: Record, other: Record, dependency: Dependency, *, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        run = containers.run_of(state, other.id)
        if dependency.condition == "service_started" and run.status != "created":
            return
        if dependency.condition == "service_healthy" and run.health == "healthy":
            return
        if dependency.condition == "service_completed_successfully" and run.status == "exited" and run.exit_code == 0:
            return
        if not dependency.required and run.status in ("created", "exited", "dead"):
            return
        hopeless = _hopeless(run, dependency.condition, checked=_is_checked(state, other))
        if hopeless or time.monotonic() > deadline:
            why = hopeless or f"it is {run.health or run.status} after {timeout:.0f} s"
            raise _unwell(state, other, f"{why}; container {record.name} waits for {dependency.condition} of it")
        time.sleep(_PAUSE)


def _hopeless(run: containers.Run, condition: str, *, checked: bool) -> str:
    """Why the condition will not come true any more, or ""."""
    if run.status in ("exited", "dead") and (run.exit_code or condition == "service_healthy"):
        return f"it ended with exit code {run.exit_code}"
    if condition == "service_healthy" and run.health == "unhealthy":
        return "it is unhealthy"
    if condition == "service_healthy" and not checked:
        return "it has no health check"
    return ""


def _is_checked(state: State, record: Record) -> bool:
    return monitor.healthcheck(record.spec, images.config(state, record.image_id)) is not None


def _unwell(state: State, record: Record, why: str) -> Unavailable:
    return Unavailable(f"waiting for container {record.name}: {why}{last_output(state, record)}")


def last_output(state: State, record: Record) -> str:
    """The end of what the container wrote, for an error message."""
    from bayplan.supervise import logs

    query = logs.LogQuery(tail=OUTPUT_LINES)
    text = "".join(line.text for line in logs.read_log(state.root.container(record.id), query)).rstrip()
    return f"; its last output was:\n{text}\n" if text else ""
