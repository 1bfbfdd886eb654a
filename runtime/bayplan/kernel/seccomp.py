"""seccomp filters (seccomp(2)): from a profile, ours or a custom one, to the bytes of a classic BPF program. Pure.

By our default profile a call that does not exist in its world yet answers ENOSYS, so that libraries fall back; a call that is
refused answers EPERM. seccomp_profile.py says what a custom profile means, seccomp_program.py makes the instructions.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.kernel import seccomp_profile as custom
from bayplan.kernel.seccomp_profile import ALLOW, ENOSYS, EPERM, ERRNO, KILL_THREAD
from bayplan.kernel.seccomp_program import LOW, Leaf, Rule, Rules, assemble, spread
from bayplan.kernel.seccomp_table import ALLOWED, BY_CAPABILITY, NEWEST, X32_BIT, numbers
from bayplan.model.runtime import Seccomp
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ARCHITECTURES = {  # machine -> the names of its own and of its 32-bit entry
    "x86_64": ("x86_64", "i386"),
    "aarch64": ("aarch64", "arm"),
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
# clone(2)'s flags that make a namespace; clone3's are in memory, out of a filter's reach, so that call is ENOSYS
_NAMESPACES = 0x7E020000
_AF_ALG, _AF_VSOCK = 38, 40
_REFUSED, _ABSENT, _KILLED = (Rule(ERRNO | EPERM),), (Rule(ERRNO | ENOSYS),), (Rule(KILL_THREAD),)


def filter_bytes(profile: Seccomp, capabilities: Iterable[str], *, machine: str) -> bytes:
    """The program for `profile` (our default one, or a custom one) and a process with `capabilities` (CAP_... names).

    `machine` is uname's: x86_64 or aarch64. Invalid, naming the field, for a custom profile that cannot be done.
    """
    if machine not in _ARCHITECTURES:
        raise Invalid(f"seccomp filters are not known for {machine}")
    if profile.profile == "default":
        granted = frozenset(capabilities)
        default = [(_AUDIT_ARCH[name], _default_leaves(name, granted)) for name in _ARCHITECTURES[machine]]
        return assemble(default, otherwise=ERRNO | ENOSYS)
    custom.check(profile)
    admitted = custom.admitted(profile, machine)
    made = [(_AUDIT_ARCH[name], _custom_leaves(profile, name, admitted)) for name in _ARCHITECTURES[machine] if name in admitted]
    return assemble(made, otherwise=KILL_THREAD)


def filter_flags(profile: Seccomp) -> int:
    """seccomp(2)'s flags for the profile's filter; with SECCOMP_FILTER_FLAG_NEW_LISTENER (8), installing it returns a listener."""
    return custom.filter_flags(profile)


def _default_leaves(architecture: str, granted: frozenset[str]) -> list[Leaf]:
    allowed = set(ALLOWED.split())
    for capability, names in BY_CAPABILITY.items():
        if capability in granted:
            allowed.update(names.split())
    table = numbers(architecture)
    rules: dict[int, Rules] = {table[name]: (Rule(ALLOW),) for name in allowed if name in table}
    special = _special_rules("CAP_SYS_ADMIN" in granted)
    rules.update({table[name]: rule for name, rule in special.items() if name in table})
    # beyond the newest are also x32's numbers: a second, rarely tested way to the same calls
    return spread(rules, [(0, _REFUSED), (NEWEST + 1, _ABSENT)])


def _special_rules(admin: bool) -> dict[str, Rules]:
    allow, refuse = Rule(ALLOW), Rule(ERRNO | EPERM)
    families = tuple((0, "eq", family, LOW) for family in (_AF_ALG, _AF_VSOCK))
    special: dict[str, Rules] = {
        "personality": (*(Rule(ALLOW, ((0, "eq", value, LOW),)) for value in (0, 8, 0x20000, 0x20008, LOW)), refuse),
        "socket": (*(Rule(ERRNO | EPERM, (family,)) for family in families), allow),
        # i386: the family of socketcall(SYS_SOCKET) is in memory; libraries have had a call of its own since Linux 4.3
        "socketcall": (Rule(ERRNO | ENOSYS, ((0, "eq", 1, LOW),)), allow),
    }
    if not admin:
        special["clone"] = (Rule(ALLOW, ((0, "eq", 0, _NAMESPACES),)), refuse)
        special["clone3"] = _ABSENT
    return special


def _custom_leaves(profile: Seccomp, architecture: str, admitted: set[str]) -> list[Leaf]:
    ground = _ground(profile, architecture)
    rules = custom.rules(profile, architecture)
    if architecture != "x86_64":
        return spread(rules, ground)
    x32: list[Leaf] = [(0, _KILLED)]
    if "x32" in admitted:
        rules, x32 = {**rules, **custom.rules(profile, "x32")}, _ground(profile, "x32")
    # bit 30 alone tells x32's numbers: with bit 31 and without it are more that no call has
    absent = ground[-1][1] if len(ground) > 1 else x32[0][1]
    # -1 is what a tracer writes to cancel a call: libseccomp does not take it for one of x32's
    cancelled = x32[-1][1] if "x32" in admitted else ground[0][1]
    edges: list[Leaf] = [(1 << 31, absent), (1 << 31 | X32_BIT, x32[-1][1]), (LOW, cancelled)]
    return spread(rules, [*ground, *((X32_BIT | first, wanted) for first, wanted in x32), *edges])


def _ground(profile: Seccomp, architecture: str) -> list[Leaf]:
    """What comes to the numbers that no rule is for."""
    ground: list[Leaf] = [(0, (Rule(custom.default_action(profile)),))]
    newest = custom.newest(profile, architecture)
    return ground if newest is None else [*ground, ((newest & ~X32_BIT) + 1, _ABSENT)]
