"""Starting a container: a builder makes it and becomes its monitor.

The builder is a process of its own, in a session of its own, that reaps whatever the container leaves behind. It makes the
container's first process, which waits; gives it its networks; opens all that the monitor will hold; lets the first process go;
and execs the monitor, which keeps the builder's pid, children and descriptors. Nobody waits for the monitor's start.
"""

from __future__ import annotations

import os
import sys
import time

from bayplan.engine import cgroup, endpoints, files, fill, filters, images, monitor, sources, stop
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import BayplanError, Conflict, Denied, Invalid, NotFound, Unavailable, explain
from bayplan.kernel import cgroups, linux, sandbox
from bayplan.kernel.process import ProgramNotFound, ProgramRefused
from bayplan.model import jsontext
from bayplan.model.bundle_document import config_document
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan import bundle, systemd
from bayplan.store import locks, records, status
from bayplan.store.status import Started
from bayplan.supervise import launch

if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from bayplan.model.image import ImageConfig
    from bayplan.model.runtime import Config
else:
    import _signal  # without the enumerations of `signal`

LOCK_PATIENCE = 5.0  # seconds
_KINDS = {kind.kind: kind for kind in (Invalid, NotFound, Conflict, Denied, Unavailable)}


class Stdio(NamedTuple):
    """The container's ends (None where it gets a terminal) and the monitor's (-1 where there is none)."""

    inside: tuple[int, int, int] | None
    stdin: int
    stdout: int
    stderr: int


def start(state: State, record: Record, *, owner: bool = False) -> int:
    """Start the container; returns when its command runs. With `owner`, the descriptor of a connection to its monitor on
    which the caller is attached and answers for the clean-up (supervise/client.py), else -1.

    Raises Conflict where it runs already, ProgramNotFound and ProgramRefused for its command, Kernel and others; then nothing runs.
    """
    directory = state.root.container(record.id)
    cgroup.prepare(state, record.id)
    lock = _lock(directory, record)
    status.clear_stopped(directory)
    ours, theirs = _pair() if owner else (-1, -1)
    reader, writer = os.pipe()
    builder = os.fork()
    if builder == 0:
        _build_or_tell(state, record, lock=lock, owner=theirs, writer=writer, unwanted=(reader, ours))
    for fd in (lock, writer, theirs):
        if fd >= 0:
            os.close(fd)
    cgroup.adopt(state, builder)
    trouble = _read_all(reader)
    if trouble.strip():
        _reap(builder)
        if ours >= 0:
            os.close(ours)
        raise _as_error(trouble, record.name)
    if not trouble:
        _reap(builder)
        if ours >= 0:
            os.close(ours)
        _undo_for_killed(state, record)
        raise Unavailable(f"starting container {record.name}: the process that was making it has been killed; try again")
    return ours


def _reap(builder: int) -> None:
    try:
        os.waitpid(builder, 0)
    except ChildProcessError:  # our caller ignores SIGCHLD: it has ended, and the kernel has reaped it
        return


def _lock(directory: str, record: Record) -> int:
    """The container's lock. Waits a while for who clears up after its last run, or looks for remains; raises Conflict where it runs."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while (lock := locks.try_container(directory)) < 0:
        started = status.read_started(directory)
        if time.monotonic() > deadline or (started and status.process_alive(started, status.boot_id())):
            raise Conflict(f"starting container {record.name}: it is running, or another process is working on it")
        time.sleep(0.01)
    return lock


def _pair() -> tuple[int, int]:
    import _socket

    ours, theirs = _socket.socketpair()
    return ours.detach(), theirs.detach()


def _read_all(fd: int) -> bytes:
    """Until the builder has become the monitor (its end closes by exec) or has given up."""
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    os.close(fd)
    return b"".join(chunks)


def _build_or_tell(state: State, record: Record, *, lock: int, owner: int, writer: int, unwanted: tuple[int, ...]) -> NoReturn:
    """The builder's whole life: it execs, or says through `writer` what went wrong and exits. It never returns into its caller's
    code, not even where nobody is left to be told."""
    try:
        for fd in unwanted:
            if fd >= 0:
                os.close(fd)
        os.setsid()
        # a caller that ignores it, as a tool that loads us as a library may, would have us wait for ever for children (sigaction(2))
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        build(state, record, lock=lock, owner=owner, writer=writer)
    except BaseException as error:
        _write(writer, jsontext.dumps(_described(error)).encode())
    finally:
        os._exit(1)


def _write(writer: int, data: bytes) -> None:
    """Tell the caller, unless it has been killed."""
    try:
        os.write(writer, data)
    except BrokenPipeError:
        return


def _described(error: BaseException) -> tuple[str, str, int]:
    kind, message = explain(error)
    return kind, message, getattr(error, "exit_code", 0)


def _as_error(trouble: bytes, name: str) -> BayplanError:
    kind, message, exit_code = jsontext.loads(trouble)
    message = message if name in message else f"starting container {name}: {message}"
    if exit_code:
        return (ProgramNotFound if exit_code == ProgramNotFound.exit_code else ProgramRefused)(message)
    if kind in _KINDS:
        return _KINDS[kind](message)
    error = BayplanError(message)
    error.kind = kind
    return error


def again(state: State, record: Record, *, restarts: int, streak: int) -> NoReturn:
    """Start the container once more in this process, which was its monitor. Never returns; where it cannot be started, the
    end is recorded with the reason, and the container stays down."""
    directory = state.root.container(record.id)
    try:
        lock = _lock(directory, record)
    except (Conflict, FileNotFoundError):
        sys.exit(0)  # somebody else has started it meanwhile, or removed it
    if status.stopped_by(directory):
        sys.exit(0)  # a user's stop came between the end and the restart
    endpoints.detach(state, record.id)
    build(state, record, lock=lock, owner=-1, restarts=restarts, streak=streak)


def build(
    state: State, record: Record, *, lock: int, owner: int, writer: int = -1, restarts: int = 0, streak: int = 0
) -> NoReturn:
    """Make the container in this process and become its monitor. Raises what went wrong, and then nothing of it is left.

    A blank line to `writer` says that the container runs: whoever reads nothing at all there knows that the builder was killed.
    """
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    directory = state.root.container(record.id)
    launch.forget_last_life(directory)
    try:
        image = images.config(state, record.image_id)
        leases = records.endpoints(state.records, container=record.id)
        files.write(state, record.id, record.spec, leases, endpoints.gateway(state, leases))
        fill.volumes(state, record, image)
        oci = bundle.bundle(record.spec, image, sources.surroundings(state, record))
        oci, also = _prepare_for_systemd(record, image, oci)
        rootfs, stdio, hooking = sources.rootfs(state, record, image), _stdio(record), None
        meanwhile = launch.load_monitor if owner >= 0 else None
        if record.spec.runtime:
            from bayplan.engine import runtimes  # for those who name one

            def connect(pid: int) -> endpoints.Held:
                return _connected(state, record, pid)

            own, ready, held = runtimes.start(state, record, oci, rootfs, stdio=stdio.inside, connect=connect, meanwhile=meanwhile)
            started = _note(directory, ready.pid, restarts)
        else:
            if oci.hooks:
                from bayplan.engine import hooks  # for those who have a device by its CDI name

                oci, hooking = hooks.prepare(record.id, directory, oci, rootfs)
            status.write_file(f"{directory}/config.json", jsontext.dumps(config_document(oci)))
            own = cgroup.create(state, record.id, oci.linux.resources, also=also)
            program = filters.program(state, oci)
            created = sandbox.create(oci, rootfs, cgroup=own, stdio=stdio.inside, seccomp=program, hooks=hooking)
            held = _connect(state, record, created)
            ready = sandbox.start(created, meanwhile)
            started = _note(directory, created.pid, restarts)
            if oci.hooks:
                hooks.run_started(record.id, directory, oci, created.pid)
        endpoints.join(state, leases, started)
        told = monitor.config(state, record, image, leases, held, started)
    except BaseException:
        stop.clear(state, record)
        raise
    told = told._replace(
        stdout_fd=stdio.stdout, stderr_fd=stdio.stderr, stdin_fd=stdio.stdin, terminal_fd=ready.terminal,
        owner_fd=owner, stdin_once=record.spec.stdin_open and owner >= 0, lock_fd=lock, restarts=restarts, streak=streak,
        oom_file=cgroups.oom_path(own),
    )  # fmt: skip
    if writer >= 0:
        _write(writer, b"\n")
        os.close(writer)
    if owner >= 0 and launch.ends_soon(ready.pidfd):
        launch.monitor_here(told)
    launch.exec_monitor(told, *monitor.runtime())


def _undo_for_killed(state: State, record: Record) -> None:
    """What the builder would have undone, unless somebody else has begun to work on the container."""
    lock = locks.try_container(state.root.container(record.id))
    if lock >= 0:
        try:
            stop.clear(state, record)
        finally:
            os.close(lock)


def _prepare_for_systemd(record: Record, image: ImageConfig, oci: Config) -> tuple[Config, tuple[str, ...]]:
    """What to run, and the further hierarchies of cgroups that it is to be in. Raises Unavailable where systemd is declared, but this
    host has no hierarchy for it; a command that only looks like systemd's does without."""
    if not systemd.wanted(record.spec, image):
        return oci, ()
    host = cgroups.observe_host()
    hierarchy = host.version == 2 or systemd.HIERARCHY in dict(host.mounts)
    if not hierarchy and record.spec.systemd == "always":
        remedy = f"mount -t cgroup -o none,{systemd.HIERARCHY} cgroup {cgroups.ROOT}/systemd"
        raise Unavailable(f"starting container {record.name} for systemd: this host's cgroups lack its hierarchy ({remedy})")
    return systemd.prepare(oci, record.id, hierarchy=hierarchy), (systemd.HIERARCHY,) if hierarchy else ()


def _stdio(record: Record) -> Stdio:
    """Pipes, or nothing where a terminal takes their place; standard input is /dev/null unless it is kept open."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if record.spec.tty:
        return Stdio(None, -1, -1, -1)
    out, err = os.pipe(), os.pipe()
    if not record.spec.stdin_open:
        return Stdio((null, out[1], err[1]), -1, out[0], err[0])
    into = os.pipe()
    return Stdio((into[0], out[1], err[1]), into[1], out[0], err[0])


def _connect(state: State, record: Record, created: sandbox.Created) -> endpoints.Held:
    """Interfaces, names and published ports, while the first process sets up its mounts; it is gone where this fails."""
    try:
        return _connected(state, record, created.pid)
    except BaseException:
        sandbox.abandon(created)
        raise


def _connected(state: State, record: Record, pid: int) -> endpoints.Held:
    mode = record.spec.network_mode
    if mode == "host" or mode.startswith("container:"):
        return endpoints.Held()
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        leases = endpoints.attach(state, record.id, netns=netns)
        held = endpoints.publish(state, record.id, leases)
        return endpoints.answer_names(held, netns=netns) if leases else held
    finally:
        os.close(netns)


def _note(directory: str, pid: int, restarts: int) -> Started:
    me = os.getpid()
    started = Started(pid, status.start_time(pid), me, status.start_time(me), status.boot_id(), time.time_ns(), restarts)
    status.write_started(directory, started)
    return started
