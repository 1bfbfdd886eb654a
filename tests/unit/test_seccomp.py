from __future__ import annotations

import random
import struct

import pytest

from bayplan.errors import Invalid
from bayplan.kernel import seccomp
from bayplan.model.capabilities import DEFAULT, NAMES
from bayplan.model.runtime import Seccomp, SyscallRule

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
DOCKER_REFUSES = (
    "add_key keyctl request_key bpf clone3 kexec_load init_module finit_module delete_module mount umount2 unshare setns "
    "pivot_root perf_event_open userfaultfd io_uring_setup open_by_handle_at reboot swapon acct quotactl "
    "settimeofday clock_settime iopl ioperm mbind move_pages lookup_dcookie nfsservctl chroot_not pidfd_getfd kcmp"
).split()


def run(program: bytes, arch: int, number: int, args: tuple[int, ...] = ()) -> tuple[int, int]:
    """What the kernel would do with the program: its answer, and how many instructions that took."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(tuple(args) + (0,) * 6)[:6])
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = steps = 0
    while True:
        opcode, yes, no, k = code[at]
        at, steps = at + 1, steps + 1
        if opcode == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif opcode == 0x54:
            accumulator &= k
        elif opcode == 0x05:
            at += k
        elif opcode == 0x06:
            return k, steps
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[opcode]
            at += yes if holds else no


def default(*capabilities: str, machine: str = "x86_64") -> bytes:
    return seccomp.filter_bytes(Seccomp(), capabilities, machine=machine)


def ask(program: bytes, arch: str, name: str, *args: int) -> int:
    return run(program, ARCH[arch], seccomp.numbers(arch)[name], args)[0]


@pytest.mark.parametrize("arch", ["x86_64", "i386", "aarch64", "arm"])
def test_the_default_filter_refuses_what_a_container_must_not_call(arch: str) -> None:
    program = default(*DEFAULT, machine="x86_64" if arch in ("x86_64", "i386") else "aarch64")
    for name in set(DOCKER_REFUSES) & set(seccomp.numbers(arch)):
        assert ask(program, arch, name) in (EPERM, ENOSYS), f"{name} is refused on {arch}"
    assert ask(program, arch, "clone3") == ENOSYS, "libc falls back to clone, whose flags the filter sees"
    assert ask(program, arch, "read") == ALLOW, "an ordinary call is allowed"
    assert ask(program, arch, "execveat") == ALLOW, "the trampoline is executed through the filter"


def test_a_capability_allows_the_calls_that_it_is_for() -> None:
    for capability, name in [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_MODULE", "init_module"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_ADMIN", "clone3"),
    ]:
        assert ask(default(), "x86_64", name) != ALLOW, f"{name} needs {capability}"
        assert ask(default(capability), "x86_64", name) == ALLOW, f"{capability} gives {name}"


def test_clone_may_not_make_namespaces() -> None:
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(default(), "x86_64", "clone", flag | 17) == EPERM, f"flag {flag:#x} makes a namespace"
        assert ask(default("CAP_SYS_ADMIN"), "x86_64", "clone", flag) == ALLOW, "an administrator may"
    assert ask(default(), "x86_64", "clone", 0x3D0F00) == ALLOW, "threads are made with other flags"


def test_sockets_of_the_kernels_crypto_and_of_the_hypervisor_are_refused() -> None:
    for family, answer in ((1, ALLOW), (2, ALLOW), (16, ALLOW), (38, EPERM), (40, EPERM), (38 | 1 << 32, EPERM)):
        assert ask(default(), "x86_64", "socket", family) == answer, f"address family {family:#x}"
        assert ask(default(), "i386", "socket", family) == answer, f"address family {family:#x}, 32 bits"
    assert ask(default(), "i386", "socketcall", 1) == ENOSYS, "the family is out of sight in socketcall"
    assert ask(default(), "i386", "socketcall", 3) == ALLOW, "connect is not"


def test_personality_takes_only_harmless_values() -> None:
    answers = {
        value: ask(default(), "x86_64", "personality", value) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000)
    }
    assert answers.pop(0x40000) == EPERM, "ADDR_NO_RANDOMIZE weakens the process"
    assert set(answers.values()) == {ALLOW}, "the others are what Docker allows"


def test_a_number_newer_than_the_table_does_not_exist() -> None:
    for number in (470, 1000, 0x3FFFFFFF):
        assert run(default(), ARCH["x86_64"], number)[0] == ENOSYS, f"{number} is unknown, and libraries must fall back"


def test_x32_and_other_architectures_are_refused() -> None:
    for number in (0, 59, 512):
        assert run(default(*NAMES), ARCH["x86_64"], 0x40000000 | number)[0] == ENOSYS, (
            "x32 is a second way to all calls"
        )
    assert run(default(*NAMES), 0xDEADBEEF, 0)[0] == ENOSYS, "an architecture that the filter does not know"


@pytest.mark.parametrize("arch", ["x86_64", "i386", "aarch64", "arm"])
def test_the_tree_answers_like_a_list(arch: str) -> None:
    program = default(*DEFAULT, machine="x86_64" if arch in ("x86_64", "i386") else "aarch64")
    allowed = {seccomp.numbers(arch)[n] for n in seccomp.ALLOWED.split() if n in seccomp.numbers(arch)}
    special = {
        seccomp.numbers(arch).get(n) for n in ("personality", "socket", "socketcall", "clone", "clone3", "chroot")
    }
    for number in range(520):
        if number in special:
            continue
        answer, steps = run(program, ARCH[arch], number)
        assert answer == (ALLOW if number in allowed else EPERM if number <= 469 else ENOSYS), f"{arch} {number}"
        assert steps <= 18, "a search tree takes a logarithm of steps"


OPERATORS = {
    "SCMP_CMP_NE": lambda a, v, w: a != v,
    "SCMP_CMP_LT": lambda a, v, w: a < v,
    "SCMP_CMP_LE": lambda a, v, w: a <= v,
    "SCMP_CMP_EQ": lambda a, v, w: a == v,
    "SCMP_CMP_GE": lambda a, v, w: a >= v,
    "SCMP_CMP_GT": lambda a, v, w: a > v,
    "SCMP_CMP_MASKED_EQ": lambda a, v, w: a & v == w & v,
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_custom_profiles_conditions_compare_64_bits(operator: str) -> None:
    chooser = random.Random(operator)
    values = [0, 1, 5, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, (1 << 63) + 1, (1 << 64) - 1, chooser.getrandbits(64)]
    for value in values:
        second = chooser.choice(values)
        rule = SyscallRule(("read",), "SCMP_ACT_ERRNO", 7, ((1, value, second, operator), (0, 3, 0, "SCMP_CMP_EQ")))
        profile = Seccomp("custom", "SCMP_ACT_ALLOW", None, (), (rule,))
        program = seccomp.filter_bytes(profile, (), machine="x86_64")
        for argument in [*values, value ^ 1, value ^ (1 << 40)]:
            expected = OPERATORS[operator](argument, value, second)
            answer = run(program, ARCH["x86_64"], 0, (3, argument))[0]
            assert (answer == 0x50007) == expected, f"{argument:#x} {operator} {value:#x} {second:#x}"
            assert run(program, ARCH["x86_64"], 0, (4, argument))[0] == ALLOW, "all conditions must hold"


@pytest.mark.parametrize(
    "profile",
    [
        Seccomp("custom", "SCMP_ACT_WHAT"),
        Seccomp(
            "custom",
            "SCMP_ACT_ALLOW",
            None,
            (),
            (SyscallRule(("read",), "SCMP_ACT_ALLOW", None, ((9, 0, 0, "SCMP_CMP_EQ"),)),),
        ),
    ],
)
def test_a_profile_with_an_unknown_word_is_invalid(profile: Seccomp) -> None:
    with pytest.raises(Invalid):
        seccomp.filter_bytes(profile, (), machine="x86_64")
