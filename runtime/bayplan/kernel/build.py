"""The child's side of sandbox.py: everything between the clone and the image's program, in order."""

from __future__ import annotations

import _socket
import _thread
import errno
import os

from bayplan.errors import BayplanError, Invalid, NotFound
from bayplan.kernel import linux, namespaces, paths, process, rootfs, scheduling, users
from bayplan.kernel.cgroups import Cgroup, join
from bayplan.kernel.rootfs import Step
from bayplan.kernel.wire import READY, await_continue, await_go, send, send_error
from bayplan.model.runtime import Config, Hook, Process
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

HookState: TypeAlias = "Callable[[str], bytes]"
_IPC_SYSCTLS = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")


class Plan(NamedTuple):
    """What `create` hands to the child. `joined` maps CLONE_NEW flags to descriptors; `sources` as in rootfs.populate.
    `state` is what a hook is told, given the container's status; without `keyring` the caller's session keyring stays.
    `inside` says that it is the root of a user namespace already."""

    config: Config
    rootfs: rootfs.Rootfs
    sources: dict[int, int]
    joined: dict[int, int]
    cgroup: Cgroup | None
    stdio: tuple[int, int, int] | None
    seccomp: bytes
    state: HookState | None = None
    keyring: bool = True
    preserve_fds: int = 0
    inside: bool = False
    seccomp_flags: int = 0
    controllers: tuple[str, ...] | None = None


class Entry(NamedTuple):
    """What `enter` hands to the child. `personality` is the container's."""

    process: Process
    joined: dict[int, int]
    cgroup: Cgroup | None
    stdio: tuple[int, int, int] | None
    seccomp: bytes
    personality: str = ""
    preserve_fds: int = 0
    seccomp_flags: int = 0


def build(plan: Plan, wire: _socket.socket) -> None:
    """The first process of a container. Returns only by raising."""
    config = plan.config
    label = _open_label(config.process)
    joined = _join_meanwhile(plan.cgroup)
    _detach(config.process, keyring=plan.keyring, inside=plan.inside)
    with Step("joining namespaces"):
        namespaces.join(plan.joined)
    _name_host(config)
    sysctls = _open_sysctls(config) if config.linux.sysctl else -1
    root = rootfs.mount_rootfs(plan.rootfs, propagation=config.linux.rootfs_propagation)
    rootfs.populate(root, config, plan.sources)
    joined()
    _enter_time(plan)
    if namespaces.makes(config.linux.namespaces, "cgroup"):
        with Step("making a cgroup namespace"):
            linux.unshare(linux.CLONE_NEWCGROUP)
    rootfs.populate_cgroups(root, config, plan.controllers)
    identity = users.identify(root, config.process.user)
    cwd = _make_directory(root, config.process.cwd)
    terminal, stdio = _open_stdio(root, config.process, plan.stdio, console=True)
    if config.hooks:
        _run_create_hooks(plan, wire, root)
    propagation = config.linux.rootfs_propagation
    rootfs.enter_root(root, readonly=config.root.readonly, nosuid=plan.rootfs.nosuid, propagation=propagation)
    _change_directory(cwd, config.process.cwd)
    process.find_program(config.process.args[0] if config.process.args else "", process.environment(config.process, identity.home))
    _connect(stdio, identity, config.process, leads=config.process.terminal)
    _say_ready(wire, terminal)
    wire = await_go(wire)
    launch = process.Launch(config.process, identity, plan.seccomp, wire.fileno(), plan.preserve_fds, label)
    parts = ("init",) if config.init else ("exec",)
    launch = launch._replace(personality=config.linux.personality, seccomp_flags=plan.seccomp_flags, parts=parts)
    _finish(launch, wire, lambda: _begin(plan, sysctls, identity.home))


def enter(entry: Entry, wire: _socket.socket) -> None:
    """One more process of a running container, made from outside its pid namespace (entering.py). Returns only by raising."""
    label = _open_label(entry.process)
    scheduling.enter_initially(entry.process.cpu_affinity)
    if entry.cgroup:
        join(entry.cgroup)
    _detach(entry.process, keyring=True)
    paths.hold_descriptors()
    with Step("joining the container's namespaces"):
        namespaces.join(entry.joined)
    root = paths.open_root("/")
    identity = users.identify(root, entry.process.user)
    cwd = _open_directory(root, entry.process.cwd)
    terminal, stdio = _open_stdio(root, entry.process, entry.stdio, console=False)
    _change_directory(cwd, entry.process.cwd)
    _connect(stdio, identity, entry.process, leads=False)
    _say_ready(wire, terminal)
    launch = process.Launch(entry.process, identity, entry.seccomp, wire.fileno(), entry.preserve_fds, label, entry.personality)
    parts = ("enter", "terminal", "gate", "exec") if entry.process.terminal else ("enter", "gate", "exec")
    _finish(launch._replace(entering=True, seccomp_flags=entry.seccomp_flags, parts=parts), wire, None)


def _open_label(wanted: Process) -> Callable[[], None] | None:
    if not wanted.apparmor_profile and not wanted.selinux_label:
        return None
    from bayplan.kernel import labels

    return labels.open_labels(wanted)


def _join_meanwhile(cgroup: Cgroup | None) -> Callable[[], None]:
    """Join the cgroup in a thread, and return what waits for it: on version 1 the kernel spends 5 to 15 ms of waiting
    for a grace period on the first hierarchy, as long as all the mounts take. OSError or Kernel come from the waiting."""
    if cgroup is None or cgroup.version == 2:
        return lambda: join(cgroup) if cgroup else None
    done = _thread.allocate_lock()
    failures: list[BayplanError] = []
    done.acquire()

    def run() -> None:
        try:
            join(cgroup)
        except BayplanError as error:
            failures.append(error)
        finally:
            done.release()

    def wait() -> None:
        done.acquire()
        if failures:
            raise failures[0]

    _thread.start_new_thread(run, ())
    return wait


def _detach(wanted: Process, *, keyring: bool, inside: bool = False) -> None:
    """Leave everything that was the caller's: session, signals, priority, keyring, mask."""
    os.umask(0)
    os.setsid()
    linux.reset_signals()
    if not inside:
        detach_own(wanted)
    _reset_priority()
    if not keyring:
        return
    with Step("making a session keyring (kernel.keys.root_maxkeys bounds their number)"):
        try:
            linux.join_new_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise


def detach_own(wanted: Process) -> None:
    """What only the owner of /proc/self may write, which in a user namespace this process is not: it is not dumpable."""
    _write_oom_score(wanted.oom_score_adj or 0)
    _reset_core_filter()


def _reset_priority() -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        return  # the caller was niced, and only CAP_SYS_NICE takes that back


def _reset_core_filter() -> None:
    """What a core has of a process's memory is inherited even by what it executes (core(5))."""
    try:
        fd = os.open("/proc/self/coredump_filter", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a kernel that dumps no cores
        return
    os.write(fd, b"0x33")
    os.close(fd)


def _write_oom_score(score: int) -> None:
    with Step(f"setting oom_score_adj to {score} (lowering it needs CAP_SYS_RESOURCE)"):
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        if int(os.read(fd, 16)) != score:
            os.write(fd, str(score).encode())
        os.close(fd)


def _enter_time(plan: Plan) -> None:
    if not namespaces.makes(plan.config.linux.namespaces, "time"):
        return
    with Step("making a time namespace (Linux 5.6)"):
        if plan.inside:  # else its own /proc/self is not the container's root's to write to; nobody else is in there yet
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
        namespaces.enter_time(plan.config.linux.time_offsets)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)


def _name_host(config: Config) -> None:
    if config.hostname:
        with Step(f"setting the host name {config.hostname}"):
            linux.sethostname(config.hostname)
    if config.domainname:
        with Step(f"setting the domain name {config.domainname}"):
            linux.setdomainname(config.domainname)


def _make_directory(root: int, path: str) -> int:
    """The working directory, made inside `root` if it is missing, as an image may ask for one that it does not have."""
    if not path.startswith("/"):
        raise Invalid(f"the working directory {path!r} is not absolute")
    with Step(f"making the working directory {path}"):
        return paths.make_in_root(root, path, directory=True)


def _open_directory(root: int, path: str) -> int:
    if not path.startswith("/"):
        raise Invalid(f"the working directory {path!r} is not absolute")
    try:
        return paths.open_in_root(root, path)
    except FileNotFoundError as error:
        raise NotFound(f"changing to the working directory {path}: it does not exist in the container") from error
    except OSError as error:
        raise Invalid(f"changing to the working directory {path}: {error.strerror}") from error


def _change_directory(fd: int, path: str) -> None:
    with Step(f"changing to the working directory {path}"):
        os.fchdir(fd)
        if not os.getcwd().startswith("/"):  # "(unreachable)": outside the root (CVE-2024-21626)
            raise OSError(errno.EXDEV, "outside the container's root", path)


def _open_stdio(
    root: int, wanted: Process, given: tuple[int, int, int] | None, *, console: bool
) -> tuple[int, tuple[int, int, int]]:
    if not wanted.terminal:
        if given is None:
            raise Invalid("a process without a terminal needs three descriptors")
        return -1, given
    master, slave = rootfs.open_terminal(root, size=wanted.console_size)
    if console:
        rootfs.mount_console(root, slave)
    return master, (slave, slave, slave)


def _say_ready(wire: _socket.socket, terminal: int) -> None:
    send(wire, READY, terminal)
    if terminal >= 0:
        os.close(terminal)


def _run_create_hooks(plan: Plan, wire: _socket.socket, root: int) -> None:
    """Those of the host's namespaces are the parent's to run; then those of the host's that run in the container's."""
    from bayplan.kernel import hooks

    wanted = plan.config.hooks
    assert wanted and plan.state, "who gives hooks gives what they are told"
    if wanted.prestart or wanted.create_runtime:
        await_continue(wire)
    os.fchdir(root)  # where runc runs them
    hooks.run(wanted.create_container, plan.state("creating"), moment="createContainer")


def _run_start_hooks(plan: Plan, home: str) -> None:
    from bayplan.kernel import hooks

    wanted = plan.config.hooks
    assert wanted and plan.state, "who gives hooks gives what they are told"
    env = process.environment(plan.config.process, home)
    hooks.run(wanted.start_container, plan.state("created"), moment="startContainer", execute=lambda hook: _execute_inside(hook, env))


def _execute_inside(hook: Hook, env: list[str]) -> None:
    """Become a hook that is the container's own program, by way of the trampoline (CVE-2019-5736). Returns only by raising."""
    sink = linux.memfd("errno", 1)
    process.close_all_but(3, sink)
    process.execute(process.open_program(sink), hook.path, hook.args or (hook.path,), list(hook.env) or env)


def _connect(stdio: tuple[int, int, int], identity: users.Identity, wanted: Process, *, leads: bool) -> None:
    """From now on it has its own streams only: who reads the caller's to their end is not kept waiting until the start."""
    with Step("connecting the standard streams"):
        process.set_stdio(stdio, leads=leads)
        process.give_stdio(identity, terminal=wanted.terminal)


def _begin(plan: Plan, sysctls: int, home: str) -> None:
    """What waits for the start: by now the network's interfaces are there, whose sysctls may be asked for."""
    for name, value in plan.config.linux.sysctl:
        _write_sysctl(sysctls, name, value)
    if plan.config.hooks and plan.config.hooks.start_container:
        _run_start_hooks(plan, home)


def _finish(launch: process.Launch, wire: _socket.socket, begin: Callable[[], None] | None) -> None:
    """What goes wrong is told to whoever said go: it need not be our parent."""
    try:
        if begin:
            begin()
        process.become(launch)
    except BaseException as error:
        send_error(wire, error)
    finally:
        os._exit(127)


def _open_sysctls(config: Config) -> int:
    """/proc/sys of the host's procfs, verified: what is written there acts on the writer's own namespaces."""
    private = {namespace.type for namespace in config.linux.namespaces}
    for name, _ in config.linux.sysctl:
        _check_sysctl(name, _parts(name), private)
    fd = paths.open_root("/proc/sys")
    if linux.file_system_magic(fd) != linux.PROC_MAGIC:
        raise Invalid("setting sysctls: /proc on this host is not a proc file system")
    return fd


def _parts(name: str) -> list[str]:
    # sysctl(8): whichever of dot and slash comes first separates, the other is part of a name (net.ipv4.conf.eth0/1)
    slashes = "/" in name.partition(".")[0]
    return name.split("/") if slashes else [part.replace("/", ".") for part in name.split(".")]


def _write_sysctl(sysctls: int, name: str, value: str) -> None:
    with Step(f"setting the sysctl {name}"):
        fd = paths.open_in_root(sysctls, "/".join(_parts(name)), os.O_WRONLY)
        os.write(fd, value.encode())
        os.close(fd)


def _check_sysctl(name: str, parts: list[str], private: set[str]) -> None:
    """Only what the kernel keeps per namespace, in a namespace that the container has for itself."""
    if any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"sysctl {name!r} is not a name")
    needed = ""
    if parts[0] == "net":
        needed = "network"
    elif parts[:2] == ["fs", "mqueue"] or (parts[0] == "kernel" and parts[1:] and parts[1] in _IPC_SYSCTLS):
        needed = "ipc"
    elif parts == ["kernel", "domainname"]:
        needed = "uts"
    if not needed:
        raise Invalid(
            f"sysctl {name} is the whole host's; only net.*, fs.mqueue.* and kernel's ipc ones are a container's"
        )
    if needed not in private:
        raise Invalid(f"sysctl {name} needs a {needed} namespace of the container's own")
