"""What nobody types: what a monitor becomes when its container has ended, and what a boot and a shutdown do."""

from __future__ import annotations

import sys

from bayplan.engine import containers, execute, images, monitor, start, stop
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import BayplanError, Conflict, NotFound, explain
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan.order import dependency_order, levels
from bayplan.store import status

if TYPE_CHECKING:
    from typing import NoReturn

PROBE_IMPOSSIBLE = 125


def exited(state: State, container_id: str) -> None:
    """Clear away what the container has left; remove it where it was to go with its end."""
    try:
        record = containers.find(state, container_id)
    except NotFound:
        return
    stop.settle(state, record, remove=record.spec.auto_remove)


def restart_after(state: State, container_id: str, *, restarts: int, streak: int) -> NoReturn:
    """Start the container again in this process, and become its monitor again. Where that fails, its end is recorded."""
    record = containers.find(state, container_id)
    try:
        start.again(state, record, restarts=restarts, streak=streak)
    except (BayplanError, OSError) as error:
        status.write_failure(state.root.container(record.id), explain(error)[1])
        raise


def health(state: State, container_id: str) -> int:
    """One probe of the container's health check: its output is this process's, and so is its exit code."""
    record = containers.find(state, container_id)
    image = images.config(state, record.image_id)
    check = monitor.healthcheck(record.spec, image)
    if check is None:
        return PROBE_IMPOSSIBLE
    return execute.probe(state, record, check, image)


def boot(state: State) -> int:
    """Start what its restart policy wants running after a boot, in the order of dependencies; how many could not be started."""
    failures = 0
    for record in _ordered(state):
        if not wants_start(state, record):
            continue
        try:
            start.start(state, record)
        except (BayplanError, OSError) as error:
            failures += 1
            print(f"bayplan: {error}", file=sys.stderr)
    return failures


def wants_start(state: State, record: Record) -> bool:
    """Docker's rule: `always` in any case, `unless-stopped` unless a user stopped it, `on-failure` if the boot cut it off."""
    directory = state.root.container(record.id)
    run = containers.run_of(state, record.id)
    if run.status in (*containers.RUNNING, "created"):
        return run.status == "created" and record.spec.restart.name == "always"
    policy, user = record.spec.restart.name, status.stopped_by(directory) == "user"
    cut_off = status.read_exit(directory) is None or status.stopped_by(directory) == "shutdown"
    return policy == "always" or (policy == "unless-stopped" and not user) or (policy == "on-failure" and not user and cut_off)


def shutdown(state: State) -> None:
    """Stop every running container, each with its grace, dependents before what they depend on, the independent ones at once.

    A boot brings back those with a restart policy.
    """
    running = [record for record in _ordered(state) if containers.run_of(state, record.id).status in containers.RUNNING]
    for level in reversed(levels({record.name: record.spec for record in running})):
        stopping = [(record, _begin(state, record)) for record in running if record.name in level]
        for record, begun in stopping:
            try:
                stop.finish(state, record, begun)
            except (BayplanError, OSError) as error:
                print(f"bayplan: {error}", file=sys.stderr)


def _begin(state: State, record: Record) -> float | None:
    try:
        return stop.begin(state, record, by="shutdown")
    except (BayplanError, OSError) as error:
        print(f"bayplan: {error}", file=sys.stderr)
        return None


def _ordered(state: State) -> list[Record]:
    """All containers, what others depend on first; a cycle, which no converge would have made, comes as it is."""
    known = {record.name: record for record in containers.all_records(state)}
    try:
        return [known[name] for name in dependency_order({name: record.spec for name, record in known.items()}, {})]
    except Conflict:
        return list(known.values())
