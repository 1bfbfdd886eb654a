"""Containers that another OCI runtime runs (`runtime: runc`): from the same bundle, by the command line that runc has made usual.

    the builder                       its child                            the runtime
      fork ─────────────────────────────► mount namespace, root file system,
                                          config.json ── execs ──────────► create: its child is the container's first process
      connects the networks ◄─────────────────────────────────────────────── ends; the builder, a subreaper, inherits the process
      start ─────────────────────────────────────────────────────────────► tells the process to go
      becomes the monitor, which waits for the process as for one of ours

Nothing is mounted but in the child's namespace, which goes with the container. The runtime's own records are in the container's
directory. What reaches into a container later (exec, health checks, cp) does so by the process's namespaces, as with ours: a runtime
that does not run its containers as processes of this kernel, in namespaces of their own, is refused as soon as that shows.
"""

from __future__ import annotations

import _socket
import os

from bayplan.engine import cgroup
from bayplan.engine import runtime_calls as calls
from bayplan.engine.containers import Record
from bayplan.engine.endpoints import Held
from bayplan.engine.runtime_calls import Runtime
from bayplan.engine.state import State
from bayplan.errors import Unavailable
from bayplan.kernel import capabilities, cgroups, linux, process, rootfs, users, wire
from bayplan.kernel.cgroups import Cgroup
from bayplan.kernel.pids import open_pidfd
from bayplan.kernel.rootfs import Overlay, Plain
from bayplan.kernel.sandbox import Started
from bayplan.model import jsontext
from bayplan.model.bundle_document import config_document
from bayplan.model.capabilities import NAMES
from bayplan.model.runtime import Config, Seccomp, User
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan.portable import VERSION, portable
from bayplan.store import status
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeAlias

Stdio: TypeAlias = "tuple[int, int, int] | None"

_PID, _CONSOLE = "runtime.pid", "runtime.console"
_DELETE_SECONDS = 10.0
_NAMESPACES = {"mount": "mnt", "network": "net"}


class Running(NamedTuple):
    """A container that a runtime has started: `started` is as sandbox.start has it, `held` what `connect` has returned."""

    cgroup: Cgroup
    started: Started
    held: Held


class _Console(NamedTuple):
    """Where the runtime sends the terminal's master; `parent` is the directory in `path`, a name in our own /proc."""

    listener: _socket.socket
    parent: int
    path: str


def start(
    state: State,
    record: Record,
    config: Config,
    root: Overlay | Plain,
    *,
    stdio: Stdio,
    connect: Callable[[int], Held],
    meanwhile: Callable[[], None] | None,
) -> Running:
    """Create the container and start it, `connect` called in between with the pid of its first process, which waits.

    Raises Unavailable with the runtime's own words, ProgramNotFound and ProgramRefused for the command, and what `connect` raises. Then
    no process of it is left; its records are, for `remove`.
    """
    directory = state.root.container(record.id)
    runtime = Runtime(record.spec.runtime, calls.find(record.spec.runtime), record.id, directory)
    remove(state, record)  # what its last life has left
    own = cgroup.create(state, record.id, config.linux.resources._replace(devices=()))
    config = config._replace(linux=config.linux._replace(cgroups_path=_place(own, config)))
    console = _listen(directory) if config.process.terminal else None
    try:
        pid = _create(runtime, config, root, stdio, console)
        terminal = _receive_terminal(runtime, console) if console else -1
        pidfd = open_pidfd(pid)
        if root.nosuid:
            _make_nosuid(pid, readonly=config.root.readonly)
        held = connect(pid)
        starting = calls.spawn(runtime.argv("start"))
        if meanwhile:
            meanwhile()
        calls.expect(runtime, starting, "start", program=config.process.args[0])
        return Running(own, Started(pid, pidfd, terminal), held)
    except BaseException:
        calls.kill_children()
        raise
    finally:
        if console:
            console.listener.close()
            os.close(console.parent)


def remove(state: State, record: Record) -> None:
    """Have the runtime forget the container, and kill what is left of it. Never raises for what is gone, and for a runtime that fails
    or has been uninstalled neither: the cgroup is ours to remove, and so are the records."""
    directory = state.root.container(record.id)
    place = f"{directory}/{calls.STATE}"
    try:
        if os.path.isdir(place) and os.listdir(place):
            runtime = Runtime(record.spec.runtime, calls.find(record.spec.runtime), record.id, directory)
            calls.wait(calls.spawn(runtime.argv("delete", "--force")), _DELETE_SECONDS)
    except Unavailable:
        pass
    cgroup.remove_rest(state, record.id)
    if os.path.isdir(place):
        remove_tree(place, scratch=directory)
    for name in (calls.LOG, _PID, _CONSOLE):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue


def _place(own: Cgroup, config: Config) -> str:
    """`cgroupsPath`: on version 2 the leaf for processes, which is beneath the name that the bundle has."""
    return own.directories[0][1][len(cgroups.ROOT) :] if own.version == 2 else config.linux.cgroups_path


def _create(runtime: Runtime, config: Config, root: Overlay | Plain, stdio: Stdio, console: _Console | None) -> int:
    """The pid of the first process, our child, which waits for `start`."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    builder = os.getpid()
    child = os.fork()
    if child == 0:
        ours.close()
        _become_creator(runtime, config, root, stdio, console, builder, theirs)
    theirs.close()
    trouble, _ = wire.receive(ours)
    ours.close()
    if trouble:
        os.waitpid(child, 0)
        raise wire.decode_error(trouble)
    calls.expect(runtime, child, "create", program=config.process.args[0])
    pid = _read_pid(runtime)
    _verify(runtime, config, pid)
    return pid


def _become_creator(
    runtime: Runtime, config: Config, root: Overlay | Plain, stdio: Stdio, console: _Console | None, builder: int, trouble: _socket.socket
) -> NoReturn:
    """The child's whole life: make the bundle, and become the runtime in it. It dies with the builder."""
    try:
        calls.die_with(builder)
        linux.reset_signals()
        os.umask(0o022)
        _write_bundle(runtime, config, root)
        arguments = ["--bundle", runtime.directory, "--pid-file", f"{runtime.directory}/{_PID}"]
        if console:
            arguments += ["--console-socket", console.path]
        calls.execute(runtime.argv("create", *arguments), stdio or calls.nothing())
    except BaseException as error:
        wire.send_error(trouble, error)
    finally:
        os._exit(127)


def _write_bundle(runtime: Runtime, config: Config, root: Overlay | Plain) -> None:
    """Mount the root file system in a namespace of this process's own, and write config.json: what it says of users and HOME is what
    the files in there say."""
    with rootfs.Step("making a mount namespace for the runtime"):
        linux.unshare(linux.CLONE_NEWNS)
    place = root.upper if isinstance(root, Overlay) else root.path
    top = rootfs.mount_rootfs(root)
    os.chdir("/")
    identity = users.identify(top, config.process.user)
    os.close(top)
    available = capabilities.available_capabilities()
    written = portable(
        config,
        rootfs=place,
        cgroups_path=config.linux.cgroups_path,
        user=User(identity.uid, identity.gid, identity.groups, umask=config.process.user.umask),
        env=tuple(process.environment(config.process, identity.home)),
        given=frozenset(name for number, name in enumerate(NAMES) if available >> number & 1),
        seccomp=_seccomp(config),
    )
    status.write_file(f"{runtime.directory}/config.json", jsontext.dumps({**config_document(written), "ociVersion": VERSION}))


def _seccomp(config: Config) -> Seccomp | None:
    if config.linux.seccomp is None or config.linux.seccomp.profile != "default":
        return config.linux.seccomp
    from bayplan.kernel.seccomp_words import default_profile

    return default_profile(config.process.capabilities.effective, machine=os.uname().machine)


# What it has made


def _read_pid(runtime: Runtime) -> int:
    try:
        with open(f"{runtime.directory}/{_PID}", encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError) as error:
        raise Unavailable(f"{runtime.name} create: it has ended well, and not written the pid of the first process") from error


def _verify(runtime: Runtime, config: Config, pid: int) -> None:
    """That `pid` is our child, and has the namespaces that it was to have: to connect, or to run something in, those of a process that
    only stands for a container, such as a virtual machine's, would do that to the host."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        parent = int(file.read().rpartition(b")")[2].split()[1])
    if parent != os.getpid():
        raise Unavailable(f"{runtime.name} create: process {pid} is not its child, and could not be waited for; use another runtime")
    for wanted in config.linux.namespaces:
        name = _NAMESPACES.get(wanted.type, wanted.type)
        own, its = os.stat(f"/proc/self/ns/{name}"), os.stat(f"/proc/{pid}/ns/{name}")
        if not wanted.path and (own.st_dev, own.st_ino) == (its.st_dev, its.st_ino):
            raise Unavailable(f"{runtime.name} create: process {pid} has no {wanted.type} namespace of its own; use another runtime")


def _make_nosuid(pid: int, *, readonly: bool) -> None:
    """The root file system of process `pid`. Only now: runc makes a root read-only without the flags that it had."""
    mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            linux.setns(mounts, linux.CLONE_NEWNS)
            flags = linux.MS_NOSUID | (linux.MS_RDONLY if readonly else 0)
            linux.mount("", "/", "", linux.MS_REMOUNT | linux.MS_BIND | flags)
            os._exit(0)
        except OSError as error:
            os._exit(min(error.errno or 1, 255))
        finally:
            os._exit(1)
    os.close(mounts)
    if ended := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise Unavailable(f"mounting the container's root file system nosuid: {os.strerror(abs(ended))}")


# The terminal


def _listen(directory: str) -> _Console:
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    os.fchmod(listener.fileno(), 0o600)  # the file takes the socket's mode at bind
    path = f"/proc/{os.getpid()}/fd/{parent}/{_CONSOLE}"  # never too long (unix(7): 107 bytes)
    listener.bind(path)
    listener.listen(1)
    return _Console(listener, parent, path)


def _receive_terminal(runtime: Runtime, console: _Console) -> int:
    """The terminal's master, which the runtime has sent before it ended."""
    console.listener.setblocking(False)
    try:
        connection = _socket.socket(fileno=console.listener._accept()[0])  # type: ignore[attr-defined]
        fds = wire.receive(connection)[1]
        connection.close()
    except BlockingIOError:
        fds = []
    if not fds:
        raise Unavailable(f"{runtime.name} create: it has ended well, and not sent the terminal")
    return fds[0]
