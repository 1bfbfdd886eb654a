"""create, start and run.

`create` leaves the container's first process waiting at `start.sock` (record.py), built to the last step; `start` connects there, says
go, and hears why the program cannot be executed, if it cannot. In between nothing of ours runs but that process.
"""

from __future__ import annotations

import _socket
import os
import time

from bayplan.errors import BayplanError, Conflict, Invalid, NotFound, Unavailable
from bayplan.kernel import linux, namespaces, pids, sandbox
from bayplan.kernel.rootfs import Plain
from bayplan.model.runtime import Config
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.oci import agent, bundle, console, filters, record, remove
from bayplan.oci import cgroup as places
from bayplan.oci.commands import Invocation
from bayplan.oci.record import Record

if TYPE_CHECKING:
    from bayplan.kernel.sandbox import Created


class Made(NamedTuple):
    """A container whose first process waits. `terminal` is the master of its terminal, or -1."""

    record: Record
    config: Config
    created: Created
    terminal: int


def create(call: Invocation) -> None:
    """Build a container, and leave it waiting for `start`."""
    console_path = call.text("console-socket")
    made = _make(call, lambda config: console.passed(config.process, console_path, detached=True))
    try:
        if made.terminal >= 0:
            console.give(console_path, made.terminal)
        _leave(call.root, made)
        _write_pid(call, made.record.pid)
    except BaseException:
        _undo(call.root, made.record, made.config, made.created)
        raise


def start(call: Invocation) -> None:
    """Execute the program of a container that waits. Raises Conflict where it does not."""
    found = record.read(call.root, call.arguments[0])
    status = record.status(call.root, found)
    if status != "created":
        raise Conflict(f"starting container {found.id}: it is {status}; only one that was created, and not started yet, can be")
    _start(call.root, found, bundle.load_kept(call.root, found), _connect(call.root, found))


def run(call: Invocation) -> int:
    """Create a container, start it, and be its standard streams until it ends; its exit status is ours, unless it is detached."""
    detached, console_path = call.flag("detach"), call.text("console-socket")
    if not detached and not call.flag("no-subreaper"):
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    streams = console.Streams()
    made = _make(call, lambda config: streams.open(config.process, console_path, detached=detached))
    try:
        if made.terminal >= 0 and console_path:
            console.give(console_path, made.terminal)
        streams.fit(-1 if console_path else made.terminal)
        _write_pid(call, made.record.pid)
        sandbox.release(made.created)
        _tell(call.root, made.record, made.config)
    except BaseException:
        _undo(call.root, made.record, made.config, made.created)
        raise
    if detached:
        return 0
    status = streams.attend(made.created.pid, made.created.pidfd, -1 if console_path else made.terminal)
    if not call.flag("keep"):
        remove.remove(call.root, made.record, made.config)
    return status


def _make(call: Invocation, stdio: console.Chooser) -> Made:
    """The container, built and waiting; of one that cannot be built nothing is left."""
    if call.flag("no-pivot"):
        raise Invalid("--no-pivot: a root that was not pivoted to can be left; put the bundle on another file system than the ramdisk")
    descriptors = _activation() + call.number("preserve-fds")
    console.forget_inherited(keep=descriptors)
    directory = os.path.abspath(call.text("bundle", "."))
    text, config = bundle.load(directory)
    streams = stdio(config)
    made = _record(call, config, directory)
    place = _take(call.root, made)
    created, held = None, (0, -1)
    try:
        record.write_file(f"{place}/config.json", text)
        record.write(call.root, made)
        held = places.hold(made)
        created = _build(call, made, _with_activation(config), streams, descriptors)
        made = made._replace(pid=created.pid, start_time=pids.read_start_time(created.pid))
        record.write(call.root, made)
        created, terminal = sandbox.wait_ready(created)
        return Made(made, config, created, terminal)
    except BaseException:
        _undo(call.root, made, config, created)
        raise
    finally:
        places.let_go(held)


def _record(call: Invocation, config: Config, directory: str) -> Record:
    container_id = call.arguments[0]
    path = places.path(config, container_id, systemd=call.systemd)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    shares_pids = not namespaces.makes(config.linux.namespaces, "pid")
    return Record(container_id, directory, config.root.path, path, now, systemd=call.systemd, shares_pids=shares_pids)


def _take(root: str, made: Record) -> str:
    """Take the id; from now on `_undo` ends whatever is in the cgroup, so that nobody may be."""
    place = record.take(root, made.id)
    try:
        places.verify_free(made.cgroup)
    except BaseException:
        os.rmdir(place)
        raise
    return place


def _activation() -> int:
    """How many sockets a service manager has passed to this very process (sd_listen_fds(3)); they go to the container's, as with runc."""
    count = os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isdecimal() and os.environ.get("LISTEN_PID") == str(os.getpid()) else 0


def _with_activation(config: Config) -> Config:
    if not _activation():
        return config
    told = (f"LISTEN_FDS={_activation()}", "LISTEN_PID=1")
    return config._replace(process=config.process._replace(env=(*config.process.env, *told)))


def _build(call: Invocation, made: Record, config: Config, stdio: console.Stdio, descriptors: int) -> Created:
    own = places.create(made, config.linux.resources)
    return sandbox.create(
        config,
        Plain(config.root.path),
        cgroup=own,
        stdio=stdio,
        seccomp=filters.program(call.root, config.linux.seccomp, config.process.capabilities),
        hooks=_hooking(made, config),
        keyring=not call.flag("no-new-keyring"),
        preserve_fds=descriptors,
        listen=agent.listening(made, config, "creating"),
    )


def _hooking(made: Record, config: Config) -> sandbox.Hooking | None:
    if not config.hooks:
        return None
    wanted = config.hooks

    def built(pid: int) -> None:
        from bayplan.kernel import hooks

        told = _told(made._replace(pid=pid), config, "creating")
        hooks.run(wanted.prestart, told, moment="prestart", directory=made.bundle)
        hooks.run(wanted.create_runtime, told, moment="createRuntime", directory=made.bundle)

    return sandbox.Hooking(lambda status: _told(made._replace(pid=os.getpid()), config, status), built)


def _told(made: Record, config: Config, status: str) -> bytes:
    from bayplan.model import jsontext

    return jsontext.dumps(record.state(made, status, config.annotations)).encode()


def _leave(root: str, made: Made) -> None:
    """Hand the waiting process over to whoever will connect to the socket."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    console.by_short_name(f"{record.directory(root, made.record.id)}/{record.SOCKET}", listener.bind)
    listener.listen(1)
    sandbox.hand_over(made.created, listener.fileno())
    listener.close()


def _connect(root: str, found: Record) -> _socket.socket:
    wire = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        console.by_short_name(f"{record.directory(root, found.id)}/{record.SOCKET}", wire.connect)
    except OSError as error:
        wire.close()
        raise Unavailable(f"starting container {found.id}: its first process does not answer: {error.strerror}") from error
    return wire


def _start(root: str, found: Record, config: Config, wire: _socket.socket) -> None:
    give = agent.listening(found, config, "created")
    try:
        listen = (lambda number: give(found.pid, number)) if give else None
        sandbox.go(wire, config.process.args[0], lambda: _forget_socket(root, found), listen)
    finally:
        wire.close()
    _tell(root, found, config)


def _tell(root: str, found: Record, config: Config) -> None:
    """poststart: a failure of its hooks ends the container, as runc has it."""
    if config.hooks and config.hooks.poststart:
        from bayplan.kernel import hooks

        try:
            hooks.run(config.hooks.poststart, _told(found, config, "running"), moment="poststart", directory=found.bundle)
        except BayplanError:
            _kill(found)
            raise


def _kill(found: Record) -> None:
    try:
        pids.kill(found.handle, 9)
    except NotFound:  # it has ended by itself
        return


def _forget_socket(root: str, found: Record) -> None:
    try:
        os.unlink(f"{record.directory(root, found.id)}/{record.SOCKET}")
    except FileNotFoundError:
        return


def _undo(root: str, made: Record, config: Config, created: Created | None) -> None:
    """After a failure, in whatever state it has left the process: running, ended, or reaped."""
    if created:
        try:
            if not os.waitpid(created.pid, os.WNOHANG)[0]:
                os.kill(created.pid, 9)
                os.waitpid(created.pid, 0)
        except ChildProcessError:  # reaped: its number may be another's by now
            pass
    remove.remove(root, made, config)


def _write_pid(call: Invocation, pid: int) -> None:
    if call.text("pid-file"):
        record.write_file(os.path.abspath(call.text("pid-file")), str(pid), 0o644)
