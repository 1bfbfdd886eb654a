"""The last steps of a container's process, from a root of the host in the container's namespaces to the image's program."""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Denied, Invalid, NotFound
from bayplan.kernel import linux
from bayplan.kernel.capabilities import drop_bounding, grant, set_capabilities
from bayplan.kernel.rootfs import Step
from bayplan.kernel.scheduling import schedule
from bayplan.kernel.trampoline import open_trampoline
from bayplan.kernel.users import Identity
from bayplan.model.runtime import Process, Rlimit
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RLIMITS = (
    "RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK "
    "RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME"
).split()
_OF_MEMORY = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK")  # a container's may be too low for this interpreter
_INFINITY = (1 << 64) - 1
_F_DUPFD_CLOEXEC, _TIOCSCTTY = 1030, 0x540E
_PERSONALITIES = {"": 0, "LINUX": 0, "LINUX32": 8}
_ASK = 0xFFFFFFFF


class ProgramNotFound(NotFound):
    """The program, or its interpreter, is not in the container; a shell would exit with `exit_code`."""

    exit_code = 127


class ProgramRefused(Denied):
    """The program is there but cannot be executed; a shell would exit with `exit_code`."""

    exit_code = 126


class Launch(NamedTuple):
    """What `become` needs once no path of the host can be opened any more.

    `wire` is a descriptor that says why a program was not executed, and closes when one is. `label` is of `labels.open_labels`.
    The descriptors 3 to 2 + `preserve_fds` are the program's. `entering` is for a process that is executed in a running container;
    `parts` are those of the trampoline.
    """

    process: Process
    identity: Identity
    seccomp: bytes
    wire: int
    preserve_fds: int = 0
    label: Callable[[], None] | None = None
    personality: str = ""
    entering: bool = False
    seccomp_flags: int = 0
    parts: tuple[str, ...] = ("exec",)


def program_error(program: str, number: int) -> ProgramNotFound | ProgramRefused:
    """The error for an execve of `program` that the kernel refused with `number`."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return ProgramNotFound(
            f"executing {program}: no such file in the container, or the interpreter that it names is missing"
        )
    return ProgramRefused(f"executing {program}: {os.strerror(number).lower()}")


def set_stdio(stdio: tuple[int, int, int], *, leads: bool) -> None:
    """Make the three descriptors 0, 1 and 2; who `leads` its session makes the first its controlling terminal."""
    copies = [linux.fcntl(fd, _F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number)
        os.close(fd)
    if leads:
        linux.ioctl(0, _TIOCSCTTY, 0)


def give_stdio(identity: Identity, *, terminal: bool) -> None:
    """Let the container's user open /dev/stdout and its like again: pipes, and a `terminal` of its own, become that user's.

    Any other device (a terminal of the host's, the null device) is the caller's and stays so.
    """
    for fd in (0, 1, 2):
        status = os.fstat(fd)
        kind = stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or (terminal and stat.S_ISCHR(status.st_mode))
        if kind and status.st_uid != identity.uid:
            try:
                os.fchown(fd, identity.uid, -1)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS):
                    raise


def become(launch: Launch) -> None:
    """Labels, limits, user, groups, capabilities, filter; then the program. Returns only by raising.

    Without no_new_privs the filter goes in while CAP_SYS_ADMIN is still there (seccomp(2)); with it, last: after it come
    execveat, and the trampoline's fcntl and execve.
    """
    process, identity = launch.process, launch.identity
    if launch.label:
        launch.label()
    close_all_but(3 + launch.preserve_fds, launch.wire)
    _pass_on(launch.preserve_fds, launch.wire)
    program = open_program(launch.wire, launch.parts)
    schedule(process, entering=launch.entering)
    _set_personality(launch.personality)
    limit(process.rlimits)
    _become_user(launch)
    env = environment(process, identity.home)
    path = find_program(process.args[0] if process.args else "", env)
    os.umask(process.user.umask)
    limit_memory(process.rlimits)
    if launch.seccomp and process.no_new_privileges:
        _filter(launch)
    execute(program, path, process.args, env)


def _become_user(launch: Launch) -> None:
    process, identity = launch.process, launch.identity
    sets = grant(process.capabilities)
    if process.no_new_privileges:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    with Step("dropping capabilities from the bounding set"):
        drop_bounding(sets.bounding)
    if launch.seccomp and not process.no_new_privileges:
        _filter(launch)
    with Step(f"becoming user {identity.uid}, group {identity.gid}"):
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)
        linux.set_identity(identity.uid, identity.gid, identity.groups)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # another user is what fs.suid_dumpable says, which may be 1
    with Step("setting capabilities"):
        set_capabilities(sets)


def verify_preserved(count: int) -> None:
    """Invalid unless the descriptors 3 to 2 + `count` are open.

    To be called before anything else is opened: whatever has such a number later goes to the container (CVE-2024-21626).
    """
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError as error:
            raise Invalid(f"passing the descriptors 3 to {2 + count} on: descriptor {fd} is not open") from error


def _pass_on(count: int, wire: int) -> None:
    assert not 3 <= wire < 3 + count, "the descriptors were verified before the wire was opened"
    for fd in range(3, 3 + count):
        os.set_inheritable(fd, True)


def _set_personality(name: str) -> None:
    if name not in _PERSONALITIES:
        raise Invalid(f"linux.personality.domain {name!r} is neither LINUX nor LINUX32")
    with Step(f"setting linux.personality.domain to {name or 'LINUX'}"):
        if linux.personality(_ASK) != _PERSONALITIES[name]:
            linux.personality(_PERSONALITIES[name])


def close_all_but(first: int, kept: int) -> None:
    """Close every descriptor from `first` on but `kept`: what the caller had open would count against a limit of open files."""
    os.closerange(first, kept)
    linux.close_from(max(first, kept + 1))


def open_program(wire: int, parts: tuple[str, ...] = ("exec",)) -> int:
    """A descriptor of the trampoline, which says on `wire` what the kernel has against the program that `execute` gives it."""
    with Step("making the program that starts the container's (vm.memfd_noexec of 2 forbids it)"):
        os.set_inheritable(wire, True)
        return open_trampoline(parts, wire=wire)


def execute(trampoline: int, path: str, args: tuple[str, ...], env: list[str]) -> None:
    """Become `path` by way of the trampoline of `open_program`. Returns only by raising."""
    words = [os.fsencode(word) for word in (path, *args)]
    try:
        linux.execveat(trampoline, words, [os.fsencode(entry) for entry in env])
    except OSError as error:
        raise program_error(path, error.errno or 0) from error


def environment(process: Process, home: str) -> list[str]:
    """The process's environment, later entries winning, with HOME from the image's passwd if it has none.

    Invalid for an entry that is not `NAME=value`.
    """
    names = {}
    for entry in process.env:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise Invalid(f"process.env has {entry!r}, which is not NAME=value")
        names[name] = value
    names["HOME"] = names.get("HOME") or home
    return [f"{name}={value}" for name, value in names.items()]


def find_program(name: str, env: list[str]) -> str:
    """Where execvp would find `name` for this process; ProgramNotFound or ProgramRefused as a shell would say."""
    if not name:
        raise Invalid("the command's first word is empty")
    path = next((entry[5:] for entry in env if entry.startswith("PATH=")), _DEFAULT_PATH)
    candidates = [name] if "/" in name else [f"{directory}/{name}" for directory in path.split(":") if directory]
    refused = False
    for candidate in candidates:
        try:
            is_file = stat.S_ISREG(os.stat(candidate).st_mode)
        except OSError as error:
            refused = refused or error.errno == errno.EACCES
            continue
        if is_file and os.access(candidate, os.X_OK):
            return candidate
        refused = True
    if refused:
        raise ProgramRefused(f"executing {name}: permission denied, or not a program")
    where = "no such file in the container" if "/" in name else f"not found in $PATH ({path})"
    raise ProgramNotFound(f"executing {name}: {where}")


def limit(rlimits: tuple[Rlimit, ...]) -> None:
    """Set resource limits (setrlimit(2)), those of memory only as far as that needs privileges. Invalid names what is wrong with one."""
    _check_limits(rlimits)
    for rlimit in rlimits:
        number, soft = _RLIMITS.index(rlimit.type), rlimit.soft
        if rlimit.type in _OF_MEMORY:
            soft, hard = linux.get_rlimit(number)
            if rlimit.hard & _INFINITY <= hard & _INFINITY:
                continue
        most = ", and fs.nr_open bounds it" if rlimit.type == "RLIMIT_NOFILE" else ""
        with Step(f"setting {rlimit.type} to {rlimit.soft}:{rlimit.hard} (raising it needs CAP_SYS_RESOURCE on the host{most})"):
            linux.set_rlimit(number, soft, rlimit.hard)


def limit_memory(rlimits: tuple[Rlimit, ...]) -> None:
    """The rest of `limit`, right before the program is executed: nothing here needs much memory any more."""
    for rlimit in rlimits:
        if rlimit.type in _OF_MEMORY:
            with Step(f"setting {rlimit.type} to {rlimit.soft}:{rlimit.hard}"):
                linux.set_rlimit(_RLIMITS.index(rlimit.type), rlimit.soft, rlimit.hard)


def _check_limits(rlimits: tuple[Rlimit, ...]) -> None:
    types = [rlimit.type for rlimit in rlimits]
    for rlimit in rlimits:
        if rlimit.type not in _RLIMITS:
            raise Invalid(f"process.rlimits: {rlimit.type!r} is none of {', '.join(_RLIMITS)}")
        if types.count(rlimit.type) > 1:  # config.md: "the runtime MUST generate an error"
            raise Invalid(f"process.rlimits has {rlimit.type} more than once")
        if rlimit.soft & _INFINITY > rlimit.hard & _INFINITY:
            raise Invalid(f"process.rlimits: the soft limit of {rlimit.type}, {rlimit.soft}, is above the hard one, {rlimit.hard}")


def _filter(launch: Launch) -> None:
    """With a listener (SCMP_ACT_NOTIFY), whoever said go takes a copy of it from us, for its agent. By read(2) and write(2): those are
    the calls that a profile with such a listener leaves alone, or its agent answers."""
    with Step("installing the seccomp filter"):
        listener = linux.seccomp_filter(launch.seccomp, flags=launch.seccomp_flags)
        if launch.seccomp_flags & linux.SECCOMP_NEW_LISTENER:
            os.write(launch.wire, b"L%d" % listener)
            os.read(launch.wire, 1)
            os.close(listener)
