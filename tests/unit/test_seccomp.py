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


def custom(*rules: SyscallRule, **fields: object) -> Seccomp:
    given = {"profile": "custom", "default_action": "SCMP_ACT_ALLOW", "syscalls": rules, **fields}
    return Seccomp(**given)  # type: ignore[arg-type]


def refuse(name: str = "read", errno: int | None = None, *args: tuple[int, int, int, str]) -> SyscallRule:
    return SyscallRule((name,), "SCMP_ACT_ERRNO", errno, args)


def equal(index: int, value: int) -> tuple[int, int, int, str]:
    return (index, value, 0, "SCMP_CMP_EQ")


def notify(name: str = "read") -> SyscallRule:
    return SyscallRule((name,), "SCMP_ACT_NOTIFY")


X86_64, X86, X32 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        (custom(default_action="SCMP_ACT_WHAT"), "defaultAction"),
        (custom(default_action=""), "defaultAction"),
        (custom(SyscallRule(("read",), "SCMP_ACT_ONLY")), r"syscalls\[0\].action"),
        (custom(refuse("read", None, (9, 0, 0, "SCMP_CMP_EQ"))), r"syscalls\[0\].args.*argument 9"),
        (custom(refuse("read", None, (0, 0, 0, "SCMP_CMP_LIKE"))), "SCMP_CMP_LIKE"),
        (custom(refuse("read", None, (0, 0, 0, "eq"))), "'eq'"),
        (custom(refuse("read", 4096)), r"syscalls\[0\].errnoRet.*4096"),
        (custom(SyscallRule(("read",), "SCMP_ACT_TRACE", 1 << 16)), r"syscalls\[0\].errnoRet.*65536"),
        (custom(SyscallRule(("read",), "SCMP_ACT_KILL", 1)), "errnoRet"),
        (custom(default_errno=1), "defaultErrnoRet"),
        (custom(architectures=("SCMP_ARCH_Z80",)), "architectures.*Z80"),
        (custom(flags=("SECCOMP_FILTER_FLAG_NEW_LISTENER",)), "flags.*NEW_LISTENER"),
        (custom(flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",)), "WAIT_KILLABLE_RECV.*NOTIFY"),
        (custom(notify("write"), listener_path="/s"), "write"),
        (custom(default_action="SCMP_ACT_NOTIFY", listener_path="/s"), "defaultAction"),
        (custom(refuse("read", 1, equal(0, 3)), refuse("read", 2, equal(0, 3))), r"syscalls\[1\], for read"),
        (custom(refuse("read", 1, equal(0, 3), equal(1, 4)), refuse("read", 2, equal(0, 3))), r"syscalls\[1\], for read"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_fields_name(profile: Seccomp, field: str) -> None:
    with pytest.raises(Invalid, match=field):
        seccomp.filter_bytes(profile, (), machine="x86_64")


def test_flags_are_seccomps_own() -> None:
    log, speculative, listener, killable = 2, 4, 8, 32
    prefix = "SECCOMP_FILTER_FLAG_"
    assert seccomp.filter_flags(Seccomp()) == speculative, "our own profile does not slow a container down"
    assert seccomp.filter_flags(custom()) == speculative, "nor does one that names no flags, as with runc"
    assert seccomp.filter_flags(custom(flags=(f"{prefix}TSYNC",))) == 0, "the process has one thread"
    assert seccomp.filter_flags(custom(flags=(f"{prefix}LOG", f"{prefix}SPEC_ALLOW"))) == log | speculative
    waiting = custom(notify(), flags=(f"{prefix}WAIT_KILLABLE_RECV", f"{prefix}TSYNC"), listener_path="/s")
    assert seccomp.filter_flags(waiting) == listener | killable, "a listener comes with SCMP_ACT_NOTIFY"


def test_an_architecture_that_is_not_listed_is_killed() -> None:
    """A profile that allows by default would else be walked around by the 32-bit entry."""
    for listed, kept in (((), {"x86_64"}), ((X86,), {"x86_64", "i386"}), ((X32, "SCMP_ARCH_S390X"), {"x86_64", "x32"})):
        program = seccomp.filter_bytes(custom(refuse(), architectures=listed), (), machine="x86_64")
        answers = {"x86_64": ask(program, "x86_64", "getpid"), "i386": ask(program, "i386", "getpid")}
        answers["x32"] = run(program, ARCH["x86_64"], 39 | 1 << 30)[0]
        assert answers == {name: ALLOW if name in kept else 0 for name in answers}, f"listed: {listed}"
        assert run(program, 0xDEADBEEF, 0)[0] == 0, "a foreign one"


def test_calls_newer_than_the_profile_do_not_exist_where_the_default_is_to_refuse() -> None:
    for default, answer in (("SCMP_ACT_ERRNO", ENOSYS), ("SCMP_ACT_KILL_PROCESS", ENOSYS), ("SCMP_ACT_LOG", 0x7FFC0000)):
        profile = custom(SyscallRule(("statx",), "SCMP_ACT_ALLOW"), default_action=default, architectures=(X86_64,))
        program = seccomp.filter_bytes(profile, (), machine="x86_64")
        assert run(program, ARCH["x86_64"], 332)[0] == ALLOW, "the newest that the profile names"
        assert run(program, ARCH["x86_64"], 333)[0] == answer, f"the next one, by {default}"
    unlisted = seccomp.filter_bytes(profile._replace(default_action="SCMP_ACT_ERRNO", architectures=()), (), machine="x86_64")
    assert run(unlisted, ARCH["x86_64"], 333)[0] == EPERM, "as runc, only for architectures that the profile lists"


def test_arms_private_calls_say_nothing_of_a_profiles_age() -> None:
    rule = SyscallRule(("read", "cacheflush"), "SCMP_ACT_ALLOW")
    profile = custom(rule, default_action="SCMP_ACT_ERRNO", architectures=("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"))
    program = seccomp.filter_bytes(profile, (), machine="aarch64")
    assert ask(program, "arm", "cacheflush") == ALLOW, "arm's own call"
    assert run(program, ARCH["arm"], 435)[0] == ENOSYS, "clone3, which the profile does not know"


def test_several_rules_for_a_call_have_libseccomps_precedence() -> None:
    def decide(*rules: SyscallRule, fd: int = 7, count: int = 0) -> int:
        return run(seccomp.filter_bytes(custom(*rules), (), machine="x86_64"), ARCH["x86_64"], 0, (fd, 0, count))[0]

    seven, below = refuse("read", 7, equal(0, 7)), refuse("read", 9, (0, 9, 0, "SCMP_CMP_LT"))
    assert decide(refuse("read", 1), seven) == 0x50001 == decide(seven, refuse("read", 1)), "one without conditions decides alone"
    assert decide(refuse("read", 1), refuse("read", 2)) == 0x50001, "the first of two"
    assert decide(below, seven) == 0x50007 == decide(seven, below), "equality before a range, in any order"
    inner = refuse("read", 8, (0, 8, 0, "SCMP_CMP_LT"))
    assert decide(below, inner) == 0x50008 == decide(inner, below), "the inner of two ranges"
    assert decide(seven, refuse("read", 5, equal(2, 5)), count=5) == 0x50005, "later arguments first"
    assert decide(refuse("read", 6, equal(0, 7), equal(0, 8)), fd=8) == 0x50006, "an argument named twice: either will do"
    assert decide(SyscallRule(("read",), "SCMP_ACT_ALLOW"), seven) == 0x50007, "a rule with the default action counts for nothing"
    assert decide(refuse("read", 3, (0, 0, 5, "SCMP_CMP_MASKED_EQ"))) == 0x50003, "a mask of no bits is no condition"


def test_a_rule_for_sockets_is_for_both_ways_of_i386() -> None:
    rule = refuse("connect", 5)
    program = seccomp.filter_bytes(custom(rule, refuse("shmget", 6), architectures=(X86,)), (), machine="x86_64")
    assert ask(program, "i386", "connect") == 0x50005 == ask(program, "i386", "socketcall", 3), "socketcall(SYS_CONNECT) is connect"
    assert ask(program, "i386", "socketcall", 1) == ALLOW, "SYS_SOCKET is not"
    assert ask(program, "i386", "ipc", 23) == 0x50006, "ipc(SHMGET)"


def test_arguments_of_32_bit_entries_are_compared_in_32_bits() -> None:
    program = seccomp.filter_bytes(custom(refuse("read", 5, equal(0, (1 << 64) - 1)), architectures=(X86,)), (), machine="x86_64")
    assert ask(program, "i386", "read", 0xFFFFFFFF) == 0x50005, "-1 is 32 bits there"
    assert ask(program, "x86_64", "read", 0xFFFFFFFF) == ALLOW, "and 64 here"


def test_errno_and_trace_carry_their_number() -> None:
    rules = (SyscallRule(("read",), "SCMP_ACT_TRACE", 40000), SyscallRule(("write",), "SCMP_ACT_TRACE"), refuse("open", 0))
    program = seccomp.filter_bytes(custom(*rules), (), machine="x86_64")
    answers = [ask(program, "x86_64", name) for name in ("read", "write", "open")]
    assert answers == [0x7FF00000 | 40000, 0x7FF00001, 0x50000], "the tracer's message, EPERM where none is named, and an error number 0"


def test_conditions_that_many_calls_share_are_in_the_program_once() -> None:
    args = tuple((index, 1 << 40, 0, "SCMP_CMP_LT") for index in range(6))
    rule = SyscallRule(tuple(seccomp.numbers("x86_64")), "SCMP_ACT_ERRNO", 5, args)
    program = seccomp.filter_bytes(custom(rule, architectures=(X86, X32)), (), machine="x86_64")
    assert len(program) // 8 < 3000, "a profile of that kind does not reach the kernel's limit"
    assert ask(program, "x86_64", "file_setattr") == 0x50005 == ask(program, "x86_64", "read"), "and it is for all of them"


def test_a_program_that_the_kernel_would_not_take_is_refused() -> None:
    rules = [refuse("read", 5, equal(0, value), equal(1, value)) for value in range(600)]
    with pytest.raises(Invalid, match="4096"):
        seccomp.filter_bytes(custom(*rules), (), machine="x86_64")


def test_a_machine_without_filters_of_ours_is_refused() -> None:
    with pytest.raises(Invalid, match="riscv64"):
        seccomp.filter_bytes(Seccomp(), (), machine="riscv64")
