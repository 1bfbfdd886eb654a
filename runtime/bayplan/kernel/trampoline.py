"""The only program that the runtime ever executes for a container: a static ELF of some 250 bytes.

Python never executes the image's program itself, because then the image's `/proc/self/exe` would for a moment be the
host's interpreter, which a container's root could reopen for writing once it has ended (CVE-2019-5736). It executes
one of these from a sealed memfd instead, which executes the image's program:

- `exec`: sets close-on-exec on the wire, then execve(argv[0], argv + 1, environ).
- `init`: the same in a child, as its own foreground process group, while process 1 forwards every signal to that child,
  reaps whoever ends, and ends as the child does (128 + signal where a signal ended it).

The wire is a descriptor whose number is written into the machine code. Either program ends with 127 at once where it is not
open: an image whose entry point is `/proc/self/exe` gets no second use of it. If execve refuses, it writes the error number
(4 bytes, the machine's order) to the wire and exits with 127. The tables are the whole machine code with its assembly, as objdump
prints it, for a wire of 3; a test disassembles them and compares.
"""

from __future__ import annotations

import errno
import os
import struct

from bayplan.kernel import linux

_BASE = 0x400000
_HEADERS = 64 + 56
_MACHINES = {"x86_64": 62, "aarch64": 183}
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 16
_F_ADD_SEALS, _ALL_SEALS = 1033, 0x0F
_WIRE_3 = {"x86_64": "bf03000000", "aarch64": "600080d2"}  # the instructions that load the wire's number


def open_trampoline(*, init: bool, wire: int = 3) -> int:
    """A close-on-exec descriptor of the program, sealed against every change. OSError if the kernel forbids memfds that execute."""
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        fd = linux.memfd("bayplan", flags | _MFD_EXEC)
    except OSError:  # MFD_EXEC is of Linux 6.3; before it, memfds are executable anyway
        fd = linux.memfd("bayplan", flags)
    os.write(fd, program(linux.MACHINE, init=init, wire=wire))
    linux.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    return fd


def program(machine: str, *, init: bool, wire: int = 3) -> bytes:
    """The ELF file for `machine` ("x86_64" or "aarch64"): one header, one segment that may be read and executed.

    OSError for a `wire` that a single instruction of either machine cannot load.
    """
    table = {"x86_64": (_X86_EXEC, _X86_INIT), "aarch64": (_ARM_EXEC, _ARM_INIT)}[machine][init]
    load = _load_wire(machine, wire)
    code = b"".join(load if line == _WIRE_3[machine] else bytes.fromhex(line) for line in table)
    size = _HEADERS + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        2,
        _MACHINES[machine],
        1,
        _BASE + _HEADERS,
        64,
        0,
        0,
        64,
        56,
        1,
        0,
        0,
        0,
    )
    # PT_GNU_STACK is left out: the code neither needs nor gets an executable stack on these two machines
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + code


def _load_wire(machine: str, wire: int) -> bytes:
    if not 0 <= wire < 1 << 16:
        raise OSError(errno.EMFILE, "too many open files", f"descriptor {wire}")
    return struct.pack("<BI", 0xBF, wire) if machine == "x86_64" else struct.pack("<I", 0xD2800000 | wire << 5)


_X86_EXEC = (
    "bf03000000",  # mov edi,0x3
    "be02000000",  # mov esi,0x2
    "ba01000000",  # mov edx,0x1
    "b848000000",  # mov eax,0x48  ; fcntl F_SETFD
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "7831",  # js gone
    "488b0c24",  # mov rcx,QWORD PTR [rsp]
    "488b7c2408",  # mov rdi,QWORD PTR [rsp+0x8]
    "488d742410",  # lea rsi,[rsp+0x10]
    "488d54cc10",  # lea rdx,[rsp+rcx*8+0x10]
    "b83b000000",  # mov eax,0x3b  ; execve
    "0f05",  # syscall
    "f7d8",  # neg eax
    "50",  # push rax
    "bf03000000",  # mov edi,0x3
    "4889e6",  # mov rsi,rsp
    "ba04000000",  # mov edx,0x4
    "b801000000",  # mov eax,0x1  ; write
    "0f05",  # syscall
    # gone:
    "bf7f000000",  # mov edi,0x7f
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
)

_X86_INIT = (
    "bf03000000",  # mov edi,0x3
    "be02000000",  # mov esi,0x2
    "ba01000000",  # mov edx,0x1
    "b848000000",  # mov eax,0x48  ; fcntl F_SETFD
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "0f881c010000",  # js gone
    "4889e3",  # mov rbx,rsp
    "6aff",  # push 0xffffffffffffffff
    "4989e4",  # mov r12,rsp
    "4883ec10",  # sub rsp,0x10
    "bf02000000",  # mov edi,0x2
    "4c89e6",  # mov rsi,r12
    "31d2",  # xor edx,edx
    "41ba08000000",  # mov r10d,0x8
    "b80e000000",  # mov eax,0xe  ; rt_sigprocmask
    "0f05",  # syscall
    "b839000000",  # mov eax,0x39  ; fork
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "747b",  # je child
    "89c5",  # mov ebp,eax
    "bf03000000",  # mov edi,0x3
    "b803000000",  # mov eax,0x3  ; close
    "0f05",  # syscall
    # wait:
    "4c89e7",  # mov rdi,r12
    "31f6",  # xor esi,esi
    "31d2",  # xor edx,edx
    "41ba08000000",  # mov r10d,0x8
    "b880000000",  # mov eax,0x80  ; rt_sigtimedwait
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "78e8",  # js wait
    "83f811",  # cmp eax,0x11
    "740d",  # je reap
    "89ef",  # mov edi,ebp
    "89c6",  # mov esi,eax
    "b83e000000",  # mov eax,0x3e  ; kill
    "0f05",  # syscall
    "ebd6",  # jmp wait
    # reap:
    "48c7c7ffffffff",  # mov rdi,0xffffffffffffffff
    "4889e6",  # mov rsi,rsp
    "ba01000000",  # mov edx,0x1
    "4531d2",  # xor r10d,r10d
    "b83d000000",  # mov eax,0x3d  ; wait4
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "7eb9",  # jle wait
    "39e8",  # cmp eax,ebp
    "75df",  # jne reap
    "8b3c24",  # mov edi,DWORD PTR [rsp]
    "89f8",  # mov eax,edi
    "83e07f",  # and eax,0x7f
    "7408",  # je exited
    "8db880000000",  # lea edi,[rax+0x80]
    "eb09",  # jmp exit
    # exited:
    "c1ef08",  # shr edi,0x8
    "81e7ff000000",  # and edi,0xff
    # exit:
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
    # child:
    "31ff",  # xor edi,edi
    "31f6",  # xor esi,esi
    "b86d000000",  # mov eax,0x6d  ; setpgid
    "0f05",  # syscall
    "b827000000",  # mov eax,0x27  ; getpid
    "0f05",  # syscall
    "890424",  # mov DWORD PTR [rsp],eax
    "31ff",  # xor edi,edi
    "be10540000",  # mov esi,0x5410
    "4889e2",  # mov rdx,rsp
    "b810000000",  # mov eax,0x10  ; ioctl TIOCSPGRP
    "0f05",  # syscall
    "bf02000000",  # mov edi,0x2
    "49c7042400000000",  # mov QWORD PTR [r12],0x0
    "4c89e6",  # mov rsi,r12
    "31d2",  # xor edx,edx
    "41ba08000000",  # mov r10d,0x8
    "b80e000000",  # mov eax,0xe  ; rt_sigprocmask
    "0f05",  # syscall
    "488b0b",  # mov rcx,QWORD PTR [rbx]
    "488b7b08",  # mov rdi,QWORD PTR [rbx+0x8]
    "488d7310",  # lea rsi,[rbx+0x10]
    "488d54cb10",  # lea rdx,[rbx+rcx*8+0x10]
    "b83b000000",  # mov eax,0x3b  ; execve
    "0f05",  # syscall
    "f7d8",  # neg eax
    "50",  # push rax
    "bf03000000",  # mov edi,0x3
    "4889e6",  # mov rsi,rsp
    "ba04000000",  # mov edx,0x4
    "b801000000",  # mov eax,0x1  ; write
    "0f05",  # syscall
    # gone:
    "bf7f000000",  # mov edi,0x7f
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
)

_ARM_EXEC = (
    "600080d2",  # mov x0, 0x3
    "410080d2",  # mov x1, 0x2
    "220080d2",  # mov x2, 0x1
    "280380d2",  # mov x8, 0x19  ; fcntl F_SETFD
    "010000d4",  # svc #0x0
    "c001f837",  # tbnz w0, #31, gone
    "e30340f9",  # ldr x3, [sp]
    "e00740f9",  # ldr x0, [sp, #8]
    "e1430091",  # add x1, sp, 0x10
    "220c038b",  # add x2, x1, x3, lsl #3
    "a81b80d2",  # mov x8, 0xdd  ; execve
    "010000d4",  # svc #0x0
    "e003004b",  # neg w0, w0
    "e00f1ff8",  # str x0, [sp, #-16]!
    "600080d2",  # mov x0, 0x3
    "e1030091",  # mov x1, sp
    "820080d2",  # mov x2, 0x4
    "080880d2",  # mov x8, 0x40  ; write
    "010000d4",  # svc #0x0
    # gone:
    "e00f80d2",  # mov x0, 0x7f
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
)

_ARM_INIT = (
    "600080d2",  # mov x0, 0x3
    "410080d2",  # mov x1, 0x2
    "220080d2",  # mov x2, 0x1
    "280380d2",  # mov x8, 0x19  ; fcntl F_SETFD
    "010000d4",  # svc #0x0
    "000bf837",  # tbnz w0, #31, gone
    "f3030091",  # mov x19, sp
    "14008092",  # mov x20, 0xffffffffffffffff
    "ff8300d1",  # sub sp, sp, 0x20
    "f40b00f9",  # str x20, [sp, #16]
    "f5430091",  # add x21, sp, 0x10
    "400080d2",  # mov x0, 0x2
    "e10315aa",  # mov x1, x21
    "020080d2",  # mov x2, 0x0
    "030180d2",  # mov x3, 0x8
    "e81080d2",  # mov x8, 0x87  ; rt_sigprocmask
    "010000d4",  # svc #0x0
    "200280d2",  # mov x0, 0x11
    "010080d2",  # mov x1, 0x0
    "020080d2",  # mov x2, 0x0
    "030080d2",  # mov x3, 0x0
    "040080d2",  # mov x4, 0x0
    "881b80d2",  # mov x8, 0xdc  ; clone SIGCHLD
    "010000d4",  # svc #0x0
    "a0040034",  # cbz w0, child
    "f603002a",  # mov w22, w0
    "600080d2",  # mov x0, 0x3
    "280780d2",  # mov x8, 0x39  ; close
    "010000d4",  # svc #0x0
    # wait:
    "e00315aa",  # mov x0, x21
    "010080d2",  # mov x1, 0x0
    "020080d2",  # mov x2, 0x0
    "030180d2",  # mov x3, 0x8
    "281180d2",  # mov x8, 0x89  ; rt_sigtimedwait
    "010000d4",  # svc #0x0
    "40ffff37",  # tbnz w0, #31, wait
    "1f440071",  # cmp w0, 0x11
    "c0000054",  # b.eq reap
    "e103002a",  # mov w1, w0
    "e003162a",  # mov w0, w22
    "281080d2",  # mov x8, 0x81  ; kill
    "010000d4",  # svc #0x0
    "f3ffff17",  # b wait
    # reap:
    "00008092",  # mov x0, 0xffffffffffffffff
    "e1030091",  # mov x1, sp
    "220080d2",  # mov x2, 0x1
    "030080d2",  # mov x3, 0x0
    "882080d2",  # mov x8, 0x104  ; wait4
    "010000d4",  # svc #0x0
    "1f000071",  # cmp w0, 0x0
    "6dfdff54",  # b.le wait
    "1f00166b",  # cmp w0, w22
    "e1feff54",  # b.ne reap
    "e00340b9",  # ldr w0, [sp]
    "01180072",  # ands w1, w0, 0x7f
    "60000054",  # b.eq exited
    "20000211",  # add w0, w1, 0x80
    "02000014",  # b exit
    # exited:
    "003c0853",  # ubfx w0, w0, #8, #8
    # exit:
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
    # child:
    "000080d2",  # mov x0, 0x0
    "010080d2",  # mov x1, 0x0
    "481380d2",  # mov x8, 0x9a  ; setpgid
    "010000d4",  # svc #0x0
    "881580d2",  # mov x8, 0xac  ; getpid
    "010000d4",  # svc #0x0
    "e00300b9",  # str w0, [sp]
    "000080d2",  # mov x0, 0x0
    "01828ad2",  # mov x1, 0x5410
    "e2030091",  # mov x2, sp
    "a80380d2",  # mov x8, 0x1d  ; ioctl TIOCSPGRP
    "010000d4",  # svc #0x0
    "bf0200f9",  # str xzr, [x21]
    "400080d2",  # mov x0, 0x2
    "e10315aa",  # mov x1, x21
    "020080d2",  # mov x2, 0x0
    "030180d2",  # mov x3, 0x8
    "e81080d2",  # mov x8, 0x87  ; rt_sigprocmask
    "010000d4",  # svc #0x0
    "630240f9",  # ldr x3, [x19]
    "600640f9",  # ldr x0, [x19, #8]
    "61420091",  # add x1, x19, 0x10
    "220c038b",  # add x2, x1, x3, lsl #3
    "a81b80d2",  # mov x8, 0xdd  ; execve
    "010000d4",  # svc #0x0
    "e003004b",  # neg w0, w0
    "e00300f9",  # str x0, [sp]
    "600080d2",  # mov x0, 0x3
    "e1030091",  # mov x1, sp
    "820080d2",  # mov x2, 0x4
    "080880d2",  # mov x8, 0x40  ; write
    "010000d4",  # svc #0x0
    # gone:
    "e00f80d2",  # mov x0, 0x7f
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
)
