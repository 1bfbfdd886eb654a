"""The last steps of a container's process, from a root of the host in the container's namespaces to the image's program."""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Denied, Invalid, NotFound
from bayplan.kernel import linux
from bayplan.kernel.rootfs import Step
from bayplan.kernel.users import Identity
from bayplan.model.capabilities import NAMES, mask
from bayplan.model.runtime import Process, Rlimit
from bayplan.model.value import NamedTuple

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RLIMITS = (
    "RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK "
    "RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME"
).split()
WIRE, TRAMPOLINE = 3, 4  # the descriptors that the trampoline's machine code knows
_F_DUPFD_CLOEXEC, _TIOCSCTTY = 1030, 0x540E


class ProgramNotFound(NotFound):
    """The program, or its interpreter, is not in the container; a shell would exit with `exit_code`."""

    exit_code = 127


class ProgramRefused(Denied):
    """The program is there but cannot be executed; a shell would exit with `exit_code`."""

    exit_code = 126


class Launch(NamedTuple):
    """What `become` needs once no path of the host can be opened any more."""

    process: Process
    identity: Identity
    seccomp: bytes
    trampoline: int
    wire: int


def program_error(program: str, number: int) -> ProgramNotFound | ProgramRefused:
    """The error for an execve of `program` that the kernel refused with `number`."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return ProgramNotFound(
            f"executing {program}: no such file in the container, or the interpreter that it names is missing"
        )
    return ProgramRefused(f"executing {program}: {os.strerror(number).lower()}")


def set_stdio(stdio: tuple[int, int, int], *, terminal: bool) -> None:
    """Make the three descriptors 0, 1 and 2, in a session of its own; with `terminal`, they become its terminal."""
    copies = [linux.fcntl(fd, _F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number)
        os.close(fd)
    if terminal:
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
    """Limits, user, groups, capabilities, filter; then the program. Returns only by raising.

    Without no_new_privs the filter goes in while CAP_SYS_ADMIN is still there (seccomp(2)); with it, last.
    """
    process, identity = launch.process, launch.identity
    _close_all_but(launch.wire, launch.trampoline)
    _limit(process.rlimits)
    if process.no_new_privileges:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    with Step("dropping capabilities from the bounding set"):
        _drop_bounding(mask(process.capabilities.bounding))
    if launch.seccomp and not process.no_new_privileges:
        _filter(launch.seccomp)
    with Step(f"becoming user {identity.uid}, group {identity.gid}"):
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)
        linux.set_identity(identity.uid, identity.gid, identity.groups)
    with Step("setting capabilities"):
        _set_capabilities(process)
    if launch.seccomp and process.no_new_privileges:
        _filter(launch.seccomp)
    os.umask(process.user.umask)
    _execute(launch)


def _close_all_but(wire: int, trampoline: int) -> None:
    """What the caller had open would count against a limit of open files."""
    low, high = sorted((wire, trampoline))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    linux.close_from(high + 1)


def environment(process: Process, home: str) -> list[str]:
    """The process's environment, later entries winning, with HOME from the image's passwd if it has none."""
    names = dict(entry.split("=", 1) for entry in process.env if "=" in entry)
    names.setdefault("HOME", home)
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


def _execute(launch: Launch) -> None:
    env = environment(launch.process, launch.identity.home)
    program = find_program(launch.process.args[0] if launch.process.args else "", env)
    wire = linux.fcntl(launch.wire, _F_DUPFD_CLOEXEC, 10)
    trampoline = linux.fcntl(launch.trampoline, _F_DUPFD_CLOEXEC, 10)
    os.dup2(wire, WIRE)
    os.dup2(trampoline, TRAMPOLINE, inheritable=False)
    linux.close_from(TRAMPOLINE + 1)
    args = [os.fsencode(arg) for arg in (program, *launch.process.args)]
    linux.execveat(TRAMPOLINE, args, [os.fsencode(entry) for entry in env])


def _limit(rlimits: tuple[Rlimit, ...]) -> None:
    for rlimit in rlimits:
        if rlimit.type not in _RLIMITS:
            raise Invalid(f"resource limit {rlimit.type} is not known")
        with Step(
            f"setting {rlimit.type} to {rlimit.soft}:{rlimit.hard} (raising it needs CAP_SYS_RESOURCE on the host)"
        ):
            linux.set_rlimit(_RLIMITS.index(rlimit.type), rlimit.soft, rlimit.hard)


def _drop_bounding(kept: int) -> None:
    for number in range(64):
        if kept >> number & 1:
            continue
        try:
            linux.prctl(linux.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return  # beyond the kernel's last capability


def _set_capabilities(process: Process) -> None:
    sets = process.capabilities
    have = available_capabilities()  # the bounding set has been cut to what was asked for and the caller had
    linux.capset(mask(sets.effective) & have, mask(sets.permitted) & have, mask(sets.inheritable) & have)
    linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
    for name in sets.ambient:
        linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, NAMES.index(name))


def available_capabilities() -> int:
    """The capabilities in this process's own bounding set, as a mask: nobody can be given more ("all" means these)."""
    available = 0
    for number in range(len(NAMES)):
        try:
            available |= linux.prctl(linux.PR_CAPBSET_READ, number) << number
        except OSError:
            break  # beyond the kernel's last capability
    return available


def _filter(program: bytes) -> None:
    with Step("installing the seccomp filter"):
        linux.seccomp_filter(program)
