"""Our default seccomp profile in the words of the specification (config-linux.md, Seccomp), for runtimes that only read those.

What libseccomp makes of it differs from our own program (seccomp.py) where its language ends: what personality(2) and socket(2) refuse
is ENOSYS instead of EPERM (libseccomp drops conditions for i386's socketcall(2), and finds two actions for one call then); that call
of i386 reaches the families that socket(2) refuses; x32's calls end the process. Pure.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.kernel.seccomp_table import ALLOWED, BY_CAPABILITY, numbers
from bayplan.model.runtime import Seccomp, SyscallRule
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MACHINES = {
    "x86_64": {"x86_64": "SCMP_ARCH_X86_64", "i386": "SCMP_ARCH_X86"},
    "aarch64": {"aarch64": "SCMP_ARCH_AARCH64", "arm": "SCMP_ARCH_ARM"},
}
_ALLOW, _ERRNO, _EPERM, _ENOSYS = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", 1, 38
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
_FAMILIES = (38, 40)  # AF_ALG, AF_VSOCK
_NAMESPACES = 0x7E020000  # clone(2)'s flags that make one
_SPECIAL = ("personality", "socket", "socketcall", "clone", "clone3")


def default_profile(capabilities: Iterable[str], *, machine: str) -> Seccomp:
    """The profile for a process with `capabilities` (CAP_... names) on `machine`, uname's x86_64 or aarch64.

    A call that nobody knows is ENOSYS, so that libraries fall back; one that is refused is EPERM. Invalid for another machine.
    """
    if machine not in _MACHINES:
        raise Invalid(f"seccomp filters are not known for {machine}")
    granted = frozenset(capabilities)
    known = {name for architecture in _MACHINES[machine] for name in numbers(architecture)}
    allowed = set(ALLOWED.split())
    for capability, names in BY_CAPABILITY.items():
        allowed.update(names.split() if capability in granted else ())
    special = tuple(_special("CAP_SYS_ADMIN" in granted))
    plain = (allowed & known) - set(_SPECIAL)
    refused = known - allowed - set(_SPECIAL)
    rules = (SyscallRule(tuple(sorted(plain)), _ALLOW), SyscallRule(tuple(sorted(refused)), _ERRNO, _EPERM), *special)
    return Seccomp("custom", _ERRNO, _ENOSYS, tuple(_MACHINES[machine].values()), rules)


def _special(admin: bool) -> Iterator[SyscallRule]:
    for value in _PERSONALITIES:
        yield SyscallRule(("personality",), _ALLOW, None, ((0, value, 0, "SCMP_CMP_EQ"),))
    for mask, value in _others(_FAMILIES):
        yield _masked("socket", _ALLOW, mask, value)
    if admin:
        yield SyscallRule(("clone", "clone3"), _ALLOW)
        return
    yield _masked("clone", _ALLOW, _NAMESPACES, 0)
    for bit in range(32):  # any of them; libseccomp cannot say "otherwise", and ENOSYS would be a lie
        if _NAMESPACES >> bit & 1:
            yield _masked("clone", _ERRNO, 1 << bit, 1 << bit)
    yield SyscallRule(("clone3",), _ERRNO, _ENOSYS)  # its flags are in memory, out of a filter's reach


def _masked(name: str, action: str, mask: int, value: int) -> SyscallRule:
    """Of an argument's lower half, which is all that the kernel reads of an int."""
    return SyscallRule((name,), action, _EPERM if action == _ERRNO else None, ((0, mask, value, "SCMP_CMP_MASKED_EQ"),))


def _others(values: tuple[int, ...], mask: int = 0, prefix: int = 0, bit: int = 31) -> Iterator[tuple[int, int]]:
    """(mask, value) pairs, one of which each number of 32 bits meets that is none of `values`."""
    beneath = tuple(value for value in values if value & mask == prefix)
    if not beneath:
        yield mask, prefix
    elif bit >= 0:
        for choice in (0, 1 << bit):
            yield from _others(beneath, mask | 1 << bit, prefix | choice, bit - 1)
