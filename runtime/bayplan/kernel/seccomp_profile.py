"""A custom profile, `linux.seccomp` of a config.json (runtime-spec 1.2, config-linux.md, Seccomp), as rules. Pure.

The specification names libseccomp's words and leaves open what several rules for one call mean together. Here it is what runc
makes of libseccomp 2.5: rules with the default action count for nothing; a rule without conditions decides alone, the first one
if there are several; of the others the narrower one decides, in libseccomp's order of conditions. libseccomp then loses some
rules where conditions on different arguments overlap; here each of them is asked.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.kernel.seccomp_program import ALL, LOW, Condition, Rule, Rules
from bayplan.kernel.seccomp_table import IPC_CALLS, SOCKET_CALLS, numbers
from bayplan.model.runtime import Seccomp, SyscallRule
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KILL_THREAD, ALLOW, ERRNO, _NOTIFY = 0, 0x7FFF0000, 0x50000, 0x7FC00000
_TRACE, _LOG = 0x7FF00000, 0x7FFC0000
EPERM, ENOSYS = 1, 38
_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x30000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": _NOTIFY,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_MOST_DATA = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}  # MAX_ERRNO, which the kernel cuts to; SECCOMP_RET_DATA
_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
# of machines that are not ours: no call of theirs comes here
_ELSEWHERE = (
    "MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
)
_WIDE = ("x86_64", "aarch64")  # the others' arguments are 32 bits, x32's as libseccomp has it
_OPERATORS = ("ne", "lt", "le", "eq", "ge", "gt", "masked_eq")
_ARM_PRIVATE = 0x0F0000

_FLAG_LOG, _FLAG_SPEC_ALLOW, _FLAG_NEW_LISTENER, _FLAG_WAIT_KILLABLE_RECV = 2, 4, 8, 32
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # the process that installs the filter has one thread: there is nothing to tell others
    "SECCOMP_FILTER_FLAG_LOG": _FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": _FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": _FLAG_WAIT_KILLABLE_RECV,
}


def uses_notify(profile: Seccomp) -> bool:
    """Whether some call waits for an agent, so that the filter is installed with a listener."""
    return any(entry.action == "SCMP_ACT_NOTIFY" for entry in profile.syscalls)


def filter_flags(profile: Seccomp) -> int:
    """seccomp(2)'s flags; SPEC_ALLOW where the profile names none, as runc: kernels before 5.16 slow filtered processes otherwise."""
    flags = 0 if profile.flags else _FLAG_SPEC_ALLOW
    for name in profile.flags:
        if name not in _FLAGS:
            raise Invalid(f"linux.seccomp.flags: {name!r} is not known; known are {', '.join(_FLAGS)}")
        flags |= _FLAGS[name]
    if uses_notify(profile):
        return flags | _FLAG_NEW_LISTENER
    if flags & _FLAG_WAIT_KILLABLE_RECV:
        raise Invalid("linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is for SCMP_ACT_NOTIFY, which no rule has; leave it out")
    return flags


def check(profile: Seccomp) -> None:
    """Invalid for what the filter as a whole cannot do; `rules` looks at each rule."""
    filter_flags(profile)
    known = {*_ARCHITECTURES, *(f"SCMP_ARCH_{name}" for name in _ELSEWHERE.split())}
    for name in profile.architectures:
        if name not in known:
            raise Invalid(f"linux.seccomp.architectures: {name!r} is not known; an example is SCMP_ARCH_X86_64")
    if profile.default_action == "SCMP_ACT_NOTIFY":
        raise Invalid("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY would stop the runtime before it has told the agent; name calls")
    for place, entry in enumerate(profile.syscalls):
        if entry.action == "SCMP_ACT_NOTIFY" and "write" in entry.names:
            raise Invalid(
                f"linux.seccomp.syscalls[{place}]: SCMP_ACT_NOTIFY cannot be for write, by which the runtime tells of the listener"
            )


def admitted(profile: Seccomp, native: str) -> set[str]:
    """The architectures that the filter lets in at all: the machine's own, and those that the profile names."""
    return {native} | {_ARCHITECTURES[name] for name in profile.architectures if name in _ARCHITECTURES}


def default_action(profile: Seccomp) -> int:
    return _action(profile.default_action, profile.default_errno, "linux.seccomp.defaultAction", "linux.seccomp.defaultErrnoRet")


def newest(profile: Seccomp, architecture: str) -> int | None:
    """The highest number that the profile names: calls above it are newer than its author, and do not exist (ENOSYS).

    None where that does not hold: the default lets calls through, or, as with runc, the profile does not list this architecture or
    names none of its calls.
    """
    listed = [_ARCHITECTURES.get(name) for name in profile.architectures]
    if architecture not in listed or default_action(profile) & 0xFFFF0000 in (ALLOW, _LOG, _TRACE):
        return None
    multiplexed = {*SOCKET_CALLS, *IPC_CALLS} if architecture == "i386" else set()
    table = numbers(architecture)
    named = {table[name] for entry in profile.syscalls for name in entry.names if name in table and name not in multiplexed}
    # arm has a few calls of its own far above all others, which say nothing of the profile's age
    highest = max((number for number in named if architecture != "arm" or number < _ARM_PRIVATE), default=0)
    return highest or None


def rules(profile: Seccomp, architecture: str) -> dict[int, Rules]:
    """What comes to each number; names that the architecture does not have are passed over, as profiles are for every machine."""
    found: dict[int, list[Rule]] = {}
    default, table = default_action(profile), numbers(architecture)
    for place, entry in enumerate(profile.syscalls):
        where = f"linux.seccomp.syscalls[{place}]"
        action = _action(entry.action, entry.errno, f"{where}.action", f"{where}.errnoRet")
        alternatives = _alternatives(entry, where, wide=architecture in _WIDE)
        if action == default:
            continue
        for name in entry.names:
            for conditions in alternatives:
                for number, rule in _entries(name, Rule(action, conditions), architecture, table):
                    _add(found.setdefault(number, []), rule, f"{where}, for {name}")
    otherwise = Rule(default)
    return {number: (*sorted(held, key=_order), *([otherwise] if held[-1].conditions else [])) for number, held in found.items()}


def _action(name: str, errno: int | None, field: str, errno_field: str) -> int:
    if name not in _ACTIONS:
        raise Invalid(f"{field}: {name!r} is not known; known are {', '.join(_ACTIONS)}")
    if name not in _MOST_DATA:
        if errno is not None:
            raise Invalid(f"{errno_field}: {name} returns no error number; leave it out")
        return _ACTIONS[name]
    data = EPERM if errno is None else errno
    if not 0 <= data <= _MOST_DATA[name]:
        raise Invalid(f"{errno_field}: {data} is no number that {name} can return, from 0 to {_MOST_DATA[name]}")
    return _ACTIONS[name] | data


def _alternatives(entry: SyscallRule, where: str, *, wide: bool) -> list[tuple[Condition, ...]]:
    """The sets of conditions of which one must hold: a single one, unless an argument is named twice (as runc reads that)."""
    conditions = [_condition(*arg, where=where, wide=wide) for arg in entry.args]
    repeated = len({condition[0] for condition in conditions}) < len(conditions)
    sets = [[condition] for condition in conditions] if repeated else [sorted(conditions)]
    return [tuple(condition for condition in each if condition[3]) for each in sets]  # what compares no bit always holds


def _condition(index: int, value: int, second: int, operator: str, *, where: str, wide: bool) -> Condition:
    name = operator[len("SCMP_CMP_") :].lower() if operator.startswith("SCMP_CMP_") else ""
    if name not in _OPERATORS or operator != operator.upper():
        known = ", ".join(f"SCMP_CMP_{each.upper()}" for each in _OPERATORS)
        raise Invalid(f"{where}.args: the operator {operator!r} is not known; known are {known}")
    if not 0 <= index < 6:
        raise Invalid(f"{where}.args: a system call has no argument {index}; they are counted from 0 to 5")
    bits = ALL if wide else LOW
    if name == "masked_eq":
        return (index, "eq", second & value & bits, value & bits)
    return (index, name, value & bits, bits)


def _entries(name: str, rule: Rule, architecture: str, table: dict[str, int]) -> Iterator[tuple[int, Rule]]:
    """The numbers by which a process makes the call: i386 has two for those of sockets and System V IPC.

    In socketcall(2) and ipc(2) the first argument says which call is meant, and a condition on it is lost, as with libseccomp.
    """
    if name in table:
        yield table[name], rule
    if architecture != "i386":
        return
    for entry, calls in (("socketcall", SOCKET_CALLS), ("ipc", IPC_CALLS)):
        if name in calls:
            kept = tuple(condition for condition in rule.conditions if condition[0] != 0)
            yield table[entry], rule._replace(conditions=((0, "eq", calls[name], LOW), *kept))


def _add(held: list[Rule], rule: Rule, where: str) -> None:
    if held and not held[0].conditions:
        return
    if not rule.conditions:
        held[:] = [rule]
        return
    for earlier in held:
        if earlier.conditions[: len(rule.conditions)] == rule.conditions and earlier.action != rule.action:
            raise Invalid(f"{where}: an earlier rule has these conditions and another action; give one of them different conditions")
    if rule not in held:
        held.append(rule)


def _order(rule: Rule) -> list[tuple[int, int, int]]:
    """libseccomp's order: later arguments first, equality before order, and of two ranges the one that lies in the other first."""
    keys = []
    for index, operator, value, _ in rule.conditions:
        upward = operator in ("lt", "le")
        keys.append((-index, 1 if upward else 2 if operator in ("gt", "ge") else 0, value if upward else -value))
    return keys
