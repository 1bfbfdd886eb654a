"""Running another process in a running container: exec, and the probes of health checks."""

from __future__ import annotations

import os

from bayplan.engine import cgroup, containers, filters, images
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import Conflict
from bayplan.kernel import sandbox
from bayplan.model.container import Healthcheck
from bayplan.model.image import ImageConfig
from bayplan.model.runtime import Process
from bayplan.plan import bundle


def process(
    state: State,
    record: Record,
    argv: tuple[str, ...],
    *,
    user: str | None = None,
    environment: tuple[tuple[str, str], ...] = (),
    working_dir: str | None = None,
    tty: bool = False,
    privileged: bool = False,
) -> Process:
    """What `exec` runs: the container's own user, rights and environment, but for what is given."""
    spec = record.spec._replace(
        tty=tty,
        user=user if user is not None else record.spec.user,
        working_dir=working_dir if working_dir is not None else record.spec.working_dir,
        environment=(*record.spec.environment, *environment),
        privileged=privileged or record.spec.privileged,
    )
    return bundle.process(spec, images.config(state, record.image_id), record.id, argv)


def enter(state: State, record: Record, wanted: Process, *, stdio: tuple[int, int, int] | None) -> sandbox.Created:
    """A process in the container, waiting for sandbox.start; raises Conflict where the container does not run or is paused."""
    started = containers.started(state, record)
    if containers.run_of(state, record.id).status == "paused":
        raise Conflict(f"reaching into container {record.name}: it is paused; unpause it first")
    program = filters.of(state, bundle.seccomp(record.spec), wanted.capabilities)
    place = cgroup.find(state, record.id, beside=started.pid)
    created = sandbox.enter(started.pid, wanted, cgroup=place, stdio=stdio, seccomp=program)
    try:  # it still runs: then no other process had its number when the namespaces were opened
        if containers.started(state, record) != started:
            raise Conflict(f"reaching into container {record.name}: it has been started anew meanwhile; try again")
    except BaseException:
        sandbox.abandon(created)
        raise
    return created


def probe_argv(check: Healthcheck, image: ImageConfig) -> tuple[str, ...]:
    """The command line of a health check (Docker's CMD and CMD-SHELL)."""
    kind, rest = check.test[0], check.test[1:]
    if kind == "CMD-SHELL":
        return (*(image.shell or ("/bin/sh", "-c")), *rest)
    return rest if kind == "CMD" else check.test


def probe(state: State, record: Record, check: Healthcheck, image: ImageConfig) -> int:
    """Run the check with this process's output and wait for it; its exit code. Dies with this process."""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    created = enter(state, record, process(state, record, probe_argv(check, image)), stdio=(null, 1, 2))
    started = sandbox.start(created)
    return exit_code(os.waitpid(started.pid, 0)[1])


def exit_code(status: int) -> int:
    """A shell's number for a wait status: 128 and the signal for a killed process."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
