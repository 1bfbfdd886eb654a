"""What the seccomp tests share: the kernel's machine for filters, in Python, and libseccomp, called as runc calls it.

libseccomp is reached by ctypes; its constants are those of seccomp.h, which are part of its interface. It runs in a child, since
2.5 can loop for ever over rules with overlapping conditions.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import pathlib
import shutil
import signal
import struct
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from bayplan.model.runtime import Seccomp

ALLOW, KILL, ERRNO, ENOSYS = 0x7FFF0000, 0, 0x50000, 0x50026
AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "x32": 0xC000003E, "aarch64": 0xC00000B7, "arm": 0x40000028}
NAMES = {
    "x86_64": "SCMP_ARCH_X86_64",
    "i386": "SCMP_ARCH_X86",
    "x32": "SCMP_ARCH_X32",
    "aarch64": "SCMP_ARCH_AARCH64",
    "arm": "SCMP_ARCH_ARM",
}
TOKENS = {**AUDIT, "x32": 0x4000003E}
ACTIONS = {
    "SCMP_ACT_KILL": KILL, "SCMP_ACT_KILL_THREAD": KILL, "SCMP_ACT_KILL_PROCESS": 0x80000000, "SCMP_ACT_TRAP": 0x30000,
    "SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_NOTIFY": 0x7FC00000, "SCMP_ACT_TRACE": 0x7FF00000, "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": ALLOW,
}  # fmt: skip
UNFILTERED = (335, 336)  # the kernel's own probes call uretprobe and uprobe, and it asks no filter
OPERATORS = ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"]
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_OPTIMIZE, _ACT_BADARCH_NNP = 8, 3  # enum scmp_filter_attr


class Machine:
    """A filter, loaded once and asked often."""

    def __init__(self, program: bytes) -> None:
        self.code = list(struct.iter_unpack("=HBBI", program))
        self.asked_number = False  # whether the last answer looked at the call's number

    def ask(self, arch: int, number: int, args: Sequence[int] = ()) -> tuple[int, int]:
        """What the filter answers, and how many instructions that took."""
        data = struct.pack("=IIQ6Q", number, arch, 0, *(tuple(args) + (0,) * 6)[:6])
        at = accumulator = steps = 0
        self.asked_number = False
        while True:
            opcode, yes, no, k = self.code[at]
            at, steps = at + 1, steps + 1
            if opcode == 0x20:
                accumulator = struct.unpack_from("=I", data, k)[0]
                self.asked_number = self.asked_number or k == 0
            elif opcode == 0x54:
                accumulator &= k
            elif opcode == 0x05:
                at += k
            elif opcode == 0x06:
                return k, steps
            else:
                holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[opcode]
                at += yes if holds else no


class Refused(Exception):
    """libseccomp does not take the profile."""


class _Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64))


class Libseccomp(NamedTuple):
    library: ctypes.CDLL

    def number(self, arch: str, name: str) -> int:
        """The call's number; below 0 where libseccomp has none for this architecture."""
        return int(self.library.seccomp_syscall_resolve_name_arch(TOKENS[arch], name.encode()))

    def decide(self, profile: Seccomp) -> Reference:
        """The profile as runc has it compiled. Raises Refused."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            self._compile(profile, writer)
        os.close(writer)
        with open(reader, "rb") as file:
            program = file.read()
        status = os.waitpid(child, 0)[1]
        if status:
            raise Refused(os.waitstatus_to_exitcode(status))
        return Reference(Machine(program), self._stub(profile))

    def _compile(self, profile: Seccomp, writer: int) -> None:
        code = 70
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's handler would wait for the library to return
            signal.alarm(5)
            code = self._filter(profile, writer)
        finally:
            os._exit(code)

    def _filter(self, profile: Seccomp, writer: int) -> int:
        """libcontainer's InitSeccomp, step by step."""
        library, default = self.library, action(profile.default_action, profile.default_errno)
        context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
        for name in profile.architectures:
            arch = next(key for key, value in NAMES.items() if value == name)
            library.seccomp_arch_add(context, ctypes.c_uint32(TOKENS[arch]))
        if sum(len(entry.names) for entry in profile.syscalls) > 32:
            library.seccomp_attr_set(context, _OPTIMIZE, ctypes.c_uint32(2))
        library.seccomp_attr_set(context, _ACT_BADARCH_NNP, ctypes.c_uint32(0))
        for entry in profile.syscalls:
            wanted = action(entry.action, entry.errno)
            repeated = len({arg[0] for arg in entry.args}) < len(entry.args)
            for name in entry.names:
                number = library.seccomp_syscall_resolve_name(name.encode())
                if wanted == default or number == -1:
                    continue
                for args in [[arg] for arg in entry.args] if repeated else [entry.args]:
                    made = [_Comparison(i, OPERATORS.index(op) + 1, first, second) for i, first, second, op in args]
                    array = (_Comparison * max(1, len(made)))(*made)
                    if library.seccomp_rule_add_array(context, ctypes.c_uint32(wanted), number, len(made), array):
                        return 71
        return 72 if library.seccomp_export_bpf(context, writer) else 0

    def _stub(self, profile: Seccomp) -> dict[str, int]:
        """libcontainer's patchbpf: the highest number that the profile names, for each architecture that it lists."""
        if profile.default_action in PERMISSIVE:
            return {}
        named = {name for entry in profile.syscalls for name in entry.names}
        listed = [arch for arch, name in NAMES.items() if name in profile.architectures]
        highest = {arch: max((self.number(arch, name) for name in named), default=0) for arch in listed}
        return {arch: number for arch, number in highest.items() if number > 0}


class Reference(NamedTuple):
    """runc's filter: libseccomp's behind the stub that answers ENOSYS."""

    machine: Machine
    highest: dict[str, int]

    def ask(self, arch: int, number: int, args: Sequence[int] = ()) -> int:
        kind = "x32" if arch == AUDIT["x32"] and number >> 30 & 1 else next(key for key, value in AUDIT.items() if value == arch)
        if kind in self.highest and number > self.highest[kind]:
            return ENOSYS
        return self.machine.ask(arch, number, args)[0]


def action(name: str, errno: int | None) -> int:
    data = (1 if errno is None else errno) if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0
    return ACTIONS[name] | data


def load_libseccomp() -> Libseccomp | None:
    found = ctypes.util.find_library("seccomp")
    if not found:
        return None
    library = ctypes.CDLL(found)
    library.seccomp_init.restype = ctypes.c_void_p
    return Libseccomp(library)


def installed_filter(pid: int) -> bytes:
    """The filter that the process was given last, as the kernel has it (PTRACE_SECCOMP_GET_FILTER). OSError where it does not say."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long

    def ptrace(request: int, address: int, data: object) -> int:
        result = int(libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), data))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"ptrace of {pid}")
        return result

    seize, interrupt, get_filter, detach = 0x4206, 0x4207, 0x420C, 17
    ptrace(seize, 0, None)
    try:
        ptrace(interrupt, 0, None)
        os.waitpid(pid, 0x40000000)  # __WALL: it is no child of ours
        size = ptrace(get_filter, 0, None)
        buffer = ctypes.create_string_buffer(size * 8)
        ptrace(get_filter, 0, buffer)
        return buffer.raw
    finally:
        ptrace(detach, 0, None)


PROBE = r"""
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
struct call { int64_t entry, number, args[3], answer; };
static long wide(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
static int narrow(int n, int a, int b, int c) {
    int r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return r;
}
int main(int argc, char **argv) {
    int code = open(argv[1], O_RDONLY), file = open(argv[2], O_RDWR);
    static struct sock_filter filter[4096];
    long size = read(code, filter, sizeof filter), bytes = lseek(file, 0, SEEK_END);
    struct sock_fprog program = {size / 8, filter};
    struct call *calls = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) return 1;
    for (long i = 0; i < bytes / (long)sizeof *calls; i++) {
        struct call *c = calls + i;
        c->answer = c->entry ? narrow(c->number, c->args[0], c->args[1], c->args[2])
                             : wide(c->number, c->args[0], c->args[1], c->args[2]);
    }
    __builtin_trap(); /* no call is left that could end it */
}
"""


def harmless(program: bytes) -> tuple[bytes, dict[int, str]]:
    """The program with an errno for each of its answers, and which is which."""
    code = list(struct.iter_unpack("=HBBI", program))
    answers = sorted({k for opcode, _, _, k in code if opcode == 6})
    changed = [(o, yes, no, ERRNO | 2000 + answers.index(k)) if o == 6 else (o, yes, no, k) for o, yes, no, k in code]
    meanings = {2000 + place: f"{answer:#x}" for place, answer in enumerate(answers)}
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in changed), meanings


def probe(directory: pathlib.Path, program: bytes, calls: list[tuple[str, int, tuple[int, ...]]]) -> list[int]:
    """What the kernel answers to the calls, (entry, number, three arguments) each; skips the test where it cannot be asked."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed (Debian: gcc, libc6-dev)")
    if not (directory / "probe").exists():
        (directory / "probe.c").write_text(PROBE)
        subprocess.run(["gcc", "-static", "-O1", "-o", str(directory / "probe"), str(directory / "probe.c")], check=True)
    (directory / "filter").write_bytes(program)
    mask = (1 << 64) - 1
    packed = [
        struct.pack("=qqQQQq", entry == "i386", number, *(value & mask for value in args), 1) for entry, number, args in calls
    ]
    (directory / "calls").write_bytes(b"".join(packed))
    ended = subprocess.run([str(directory / "probe"), str(directory / "filter"), str(directory / "calls")], cwd=directory)
    if ended.returncode == -11:
        pytest.skip("this kernel has no 32-bit entry")
    assert ended.returncode == -4, "the probe makes all calls, and ends itself"
    return [answer for *_, answer in struct.iter_unpack("=qqQQQq", (directory / "calls").read_bytes())]
