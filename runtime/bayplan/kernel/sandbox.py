"""Building a container's first process, and entering a running container: both blocked until `start`.

    create / enter                     the caller                          the child
      clone ──────────────────────────────┬──────────────────────────────────► namespaces, mounts, user, pivot
      returns Created at once             │ connects the network meanwhile        ready (and the terminal's master)
    start ── waits for ready, says go ───►│◄──────────────────────────────────── sysctls, limits, filter, trampoline
      returns when execve has succeeded   │                                       the image's program

The child speaks over one SEQPACKET socket: `R` for ready (before it `H`, where hooks wait for that), `E` and an error's parts, four
bytes of errno from the trampoline, or end of file once the program runs. What enters makes another process, which is told by
eight bytes (entering.py). The child never outlives a caller that dies first: it
sees the end of file too. The clone is a fork of this interpreter: a caller's other threads wait for something and run no Python
meanwhile (a builder has none).
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from bayplan.errors import BayplanError, Invalid, Unavailable
from bayplan.kernel import build, linux, mounts, namespaces, process, scheduling
from bayplan.kernel.cgroups import Cgroup
from bayplan.kernel.pids import open_pidfd
from bayplan.kernel.rootfs import Rootfs, Step
from bayplan.kernel.wire import BUILT, CONTINUE, GO, LISTENER, READY, WAIT, ask_for_senders, decode_error, receive, send, send_error
from bayplan.model.runtime import Config, Mount, Process, Scheduler, Seccomp
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeAlias

Child: TypeAlias = "Callable[[_socket.socket], None]"


class Created(NamedTuple):
    """A process that waits for `start`. `pidfd` is -1 before Linux 5.3. The caller closes `wire` by `start` or `abandon`.
    `built` is called with the pid where the child waits for it, before it enters its root file system;
    `listen` with the pid and the number, in that process, of its filter's listener.
    `enters`: this is the one between (entering.py), and it is `wait_ready` that returns the process itself, with `entered`;
    `scheduler` is then what that one is still to get."""

    pid: int
    pidfd: int
    wire: _socket.socket
    program: str
    built: Callable[[int], None] | None = None
    listen: Callable[[int, int], None] | None = None
    enters: bool = False
    entered: bool = False
    scheduler: Scheduler | None = None


class Ready(NamedTuple):
    """A process that is built and waits, and the master of its terminal, or -1."""

    created: Created
    terminal: int


class Hooking(NamedTuple):
    """What a configuration with hooks needs: `state` makes what a hook is told, of the container's status; `built` runs those of the
    host's namespaces, given the pid."""

    state: Callable[[str], bytes]
    built: Callable[[int], None]


class Started(NamedTuple):
    """A process that runs its program. `terminal` is the master of its terminal, or -1."""

    pid: int
    pidfd: int
    terminal: int


def create(
    config: Config,
    rootfs: Rootfs,
    *,
    cgroup: Cgroup | None,
    stdio: tuple[int, int, int] | None,
    seccomp: bytes = b"",
    hooks: Hooking | None = None,
    keyring: bool = True,
    preserve_fds: int = 0,
    listen: Callable[[int, int], None] | None = None,
) -> Created:
    """Clone the first process of a container; it builds everything that `config` says and then waits.

    `stdio` are three descriptors, or None where `config.process.terminal` gives it a terminal of its own. `seccomp` is
    the filter as `seccomp.filter_bytes` made it. The network namespace exists on return (`/proc/PID/ns/net`). The descriptors
    3 to 2 + `preserve_fds` are the program's, too; Invalid if one is not open.
    Raises NotFound for a bind source or a namespace that is absent, Denied for one where it could be traced, Kernel for a clone refused;
    all else `start` raises.
    """
    _verify(config)
    if config.linux.mount_label:
        config = _labelled(config)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    process.verify_preserved(preserve_fds)
    opened: list[int] = []
    try:
        sources = _open_sources(config, opened)
        joined = namespaces.open_joined(config.linux.namespaces, opened)
        if linux.CLONE_NEWPID in joined:
            from bayplan.kernel import tracing  # for those who join others

            tracing.verify_untraced(joined)
        state = hooks.state if hooks else None
        plan = build.Plan(config, rootfs, sources, joined, cgroup, stdio, seccomp, state, keyring, preserve_fds)
        controllers = tuple(name for name, _ in cgroup.directories) if cgroup and cgroup.version == 1 else None
        plan = plan._replace(seccomp_flags=seccomp_flags(config.linux.seccomp), controllers=controllers)
        flags = namespaces.clone_flags(config.linux.namespaces)
        program = config.process.args[0] if config.process.args else ""
        if any(namespace.type == "user" for namespace in config.linux.namespaces):
            created = _clone_inside(flags, plan, opened, program=program)
        else:
            child, pid_namespace = lambda wire: build.build(plan, wire), joined.pop(linux.CLONE_NEWPID, -1)
            created = _clone(flags, child, cgroup=cgroup, pid_namespace=pid_namespace, program=program)
        return created._replace(built=hooks.built if hooks else None, listen=listen)
    finally:
        for fd in opened:
            os.close(fd)


def enter(
    pid: int,
    wanted: Process,
    *,
    pidfd: int = -1,
    cgroup: Cgroup | None,
    stdio: tuple[int, int, int] | None,
    seccomp: bytes = b"",
    personality: str = "",
    preserve_fds: int = 0,
    profile: Seccomp | None = None,
    listen: Callable[[int, int], None] | None = None,
) -> Created:
    """Clone what makes a process in the namespaces and cgroups of the running process `pid`, which waits like one of `create`.

    With `pidfd`, that the namespaces opened are those of the very process is verified. NotFound if it has ended. `personality` is the
    container's, the descriptors 3 to 2 + `preserve_fds` are the program's; `profile` is what `seccomp` was made of.
    """
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    process.verify_preserved(preserve_fds)
    opened: list[int] = []
    try:
        joined = namespaces.open_all(pid, pidfd, opened)
        if linux.CLONE_NEWUSER in joined:
            from bayplan.kernel import userns

            userns.give_streams(stdio, userns.read_mapping(pid))
        entry = build.Entry(wanted, joined, cgroup, stdio, seccomp, personality, preserve_fds, seccomp_flags(profile))
        program = wanted.args[0] if wanted.args else ""
        created = _clone(0, lambda wire: build.enter(entry, wire), cgroup=cgroup, program=program, enters=True)
        scheduler = wanted.scheduler if scheduling.is_lost_by_fork(wanted.scheduler) else None
        return created._replace(listen=listen, scheduler=scheduler)
    finally:
        for fd in opened:
            os.close(fd)


def wait_ready(created: Created) -> Ready:
    """Wait until the process is built. Raises what went wrong, having reaped it."""
    terminal = -1
    try:
        message, fds = receive(created.wire)
        if message == BUILT and created.built:
            created.built(created.pid)
            send(created.wire, CONTINUE)
            message, fds = receive(created.wire)
        if message != READY:
            raise _failure(created.program, message)
        terminal = fds[0] if fds else -1
        if created.enters:
            created = _enter(created)
            if created.scheduler:
                scheduling.set_policy_of(created.pid, created.scheduler)
    except BayplanError:
        abandon(created)
        if terminal >= 0:
            os.close(terminal)
        raise
    return Ready(created, terminal)


def _enter(created: Created) -> Created:
    """The process itself, in place of the one that makes it."""
    from bayplan.kernel import entering

    listen = created.listen
    pid = entering.receive_child(created.wire, created.pid, (lambda fd: listen(created.pid, fd)) if listen else None)
    if created.pidfd >= 0:
        os.close(created.pidfd)
    # our own child, not reaped: the number cannot have been given to another
    return created._replace(pid=pid, pidfd=open_pidfd(pid), enters=False, entered=True)


def hand_over(created: Created, listener: int) -> None:
    """Leave a ready process to whoever connects to the SEQPACKET socket `listener`, and says `go` there."""
    send(created.wire, WAIT, listener)
    created.wire.close()


def seccomp_flags(profile: Seccomp | None) -> int:
    """seccomp(2)'s flags for the filter of `profile`; None is our own."""
    if profile is None or profile.profile == "default":
        return linux.SECCOMP_SPEC_ALLOW
    from bayplan.kernel import seccomp

    return seccomp.filter_flags(profile)


def go(
    wire: _socket.socket,
    program: str,
    meanwhile: Callable[[], None] | None = None,
    listen: Callable[[int], None] | None = None,
) -> None:
    """Tell who waits at the other end of `wire` to go, and wait until it executes its program. ProgramNotFound, ProgramRefused, Kernel,
    Invalid; the process ends by itself then."""
    send(wire, GO)
    if meanwhile:
        meanwhile()
    message, _ = receive(wire)
    if message[:1] == LISTENER:
        if not listen:
            raise Unavailable("seccomp: the profile has SCMP_ACT_NOTIFY, and nobody listens; linux.seccomp.listenerPath names who does")
        listen(int(message[1:]) if message[1:].isdigit() else -1)
        send(wire, CONTINUE)
        message, _ = receive(wire)
    if message:
        raise _failure(program, message)


def release(created: Created, meanwhile: Callable[[], None] | None = None) -> None:
    """Let a ready process go, and wait until it executes its program. Raises as `go`; it is gone and reaped then."""
    try:
        if created.entered:
            from bayplan.kernel import entering

            entering.open_gate(created.wire)
            if meanwhile:
                meanwhile()
            entering.await_execution(created.wire, created.pid, created.pidfd, created.program)
        else:
            listen = created.listen
            go(created.wire, created.program, meanwhile, (lambda fd: listen(created.pid, fd)) if listen else None)
    except BayplanError:
        abandon(created)
        raise
    created.wire.close()


def start(created: Created, meanwhile: Callable[[], None] | None = None) -> Started:
    """`wait_ready`, then `release`, with `meanwhile` called while the process is on its way. After any error it is gone and reaped."""
    ready = wait_ready(created)
    try:
        release(ready.created, meanwhile)
    except BayplanError:
        if ready.terminal >= 0:
            os.close(ready.terminal)
        raise
    return Started(ready.created.pid, ready.created.pidfd, ready.terminal)


def abandon(created: Created) -> None:
    """Kill and reap a process that was not released; a process that is gone already is fine."""
    created.wire.close()
    try:
        os.kill(created.pid, 9)  # our own child, not reaped: the number cannot have been given to another
        os.waitpid(created.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    if created.pidfd >= 0:
        os.close(created.pidfd)


def _verify(config: Config) -> None:
    """What the specification knows, and what this sandbox never does."""
    if not namespaces.makes(config.linux.namespaces, "mount"):
        raise Invalid("linux.namespaces: a container has a mount namespace of its own; add one of type mount, without a path")
    if config.linux.intel_rdt:
        raise Unavailable("linux.intelRdt: groups of the resctrl file system are not supported; leave it out")


def _labelled(config: Config) -> Config:
    """`linux.mountLabel` is for the file systems that are made; what is bound has labels of its own."""
    from bayplan.kernel import labels

    def label(mount: Mount) -> Mount:
        data = labels.mount_data("", kind=mount.type, label=config.linux.mount_label)
        return mount if mounts.is_bind(mount) or not data else mount._replace(options=(*mount.options, data))

    return config._replace(mounts=tuple(label(mount) for mount in config.mounts))


def _open_sources(config: Config, opened: list[int]) -> dict[int, int]:
    sources = {}
    for index, mount in enumerate(config.mounts):
        if mounts.is_bind(mount):
            sources[index] = mounts.open_source(mount, config.linux)
            opened.append(sources[index])
    return sources


def _clone_inside(flags: int, plan: build.Plan, opened: list[int], *, program: str) -> Created:
    """As `_clone`, in a user namespace of the container's own."""
    from bayplan.kernel import userns

    if plan.config.hooks:  # the child may not be able to read our own modules
        from bayplan.kernel import hooks as hooks
    if plan.config.process.apparmor_profile or plan.config.process.selinux_label:
        from bayplan.kernel import labels as labels
    joined = dict(plan.joined)
    own = userns.open_own(plan.config.linux, joined, opened)
    tree = userns.bring(plan.rootfs, own, plan.config.linux)
    opened.append(tree.fd)
    userns.give_streams(plan.stdio, plan.config.linux.uid_mappings)
    mount = {flag: fd for flag, fd in joined.items() if flag == linux.CLONE_NEWNS}
    inside = plan._replace(rootfs=tree, joined=mount, cgroup=None, inside=True)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    try:
        place = userns.Place(plan.cgroup, joined, lambda: build.detach_own(plan.config.process))
        with Step("making the container's first process in its user namespace"):
            pid = userns.fork(flags, own, place, theirs)
        if pid == 0:
            _run(lambda wire: build.build(inside, wire), ours, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    if pid < 0:
        message, _ = receive(ours)
        ours.close()
        raise decode_error(message)
    return Created(pid, open_pidfd(pid), ours, program)


def _clone(flags: int, child: Child, *, cgroup: Cgroup | None, program: str, pid_namespace: int = -1, enters: bool = False) -> Created:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    if enters:
        ask_for_senders(ours, True)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if pid_namespace >= 0 else -1
    try:
        with Step("making a process in the container (its limit of processes?)" if enters else "making the container's first process"):
            if own >= 0:  # takes effect for children only, and is undone below
                linux.setns(pid_namespace, linux.CLONE_NEWPID)
            pid = _fork(flags, cgroup)
        if pid == 0:
            _run(child, ours, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        if own >= 0:
            linux.setns(own, linux.CLONE_NEWPID)
            os.close(own)
        theirs.close()
    return Created(pid, open_pidfd(pid), ours, program, enters=enters)


def _fork(flags: int, cgroup: Cgroup | None) -> int:
    if cgroup and cgroup.version == 2:
        fd = os.open(cgroup.directories[0][1], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return linux.clone_into_cgroup(flags, fd)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL):  # before Linux 5.7: the child joins by itself
                raise
        finally:
            os.close(fd)
    return linux.clone(flags)


def _run(child: Child, ours: _socket.socket, theirs: _socket.socket) -> NoReturn:
    """The child's whole life before the image's program; whatever happens, it ends here."""
    try:
        ours.close()
        child(theirs)
    except BaseException as error:  # a bug's traceback must not run the caller's code twice
        send_error(theirs, error)
    finally:
        os._exit(127)


def _failure(program: str, message: bytes) -> BayplanError:
    if len(message) == 4:
        return process.program_error(program, struct.unpack("=I", message)[0])
    return decode_error(message)
