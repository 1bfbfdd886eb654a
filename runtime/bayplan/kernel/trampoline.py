"""The only program that the runtime ever executes for a container: a static ELF of some 250 to 500 bytes.

Python never executes the image's program itself, because then the image's `/proc/self/exe` would for a moment be the
host's interpreter, which a container's root could reopen for writing once it has ended (CVE-2019-5736). It executes
one of these from a sealed memfd instead, which executes the image's program:

- `exec`: sets close-on-exec on the wire, then execve(argv[0], argv + 1, environ).
- `init`: the same in a child, as its own foreground process group, while process 1 forwards every signal to that child,
  reaps whoever ends, and ends as the child does (128 + signal where a signal ended it).

One that is to enter another container's pid namespace is a program of more parts:

- `enter`: makes a child that has the same parent as itself (clone(2), CLONE_PARENT), in the pid namespace that was set for children,
  writes the child's number to the wire (8 bytes; or 4 of errno) and exits. The child begins a session.
- `terminal`: descriptor 0 becomes the controlling terminal of that session.
- `gate`: reads one byte from the wire, and ends with 127 unless it is `G`. Then follows `exec` or `init`.

So nothing that is, or ever was, a member of that pid namespace is Python: who may trace processes there finds this file only.

The wire is a descriptor whose number is written into the machine code. Every program ends with 127 at once where it is not
open: an image whose entry point is `/proc/self/exe` gets no second use of it. If execve refuses, it writes the error number
(4 bytes, the machine's order) to the wire and exits with 127.
"""

from __future__ import annotations

import errno
import os
import struct

from bayplan.kernel import linux
from bayplan.kernel.machine_code import PARTS

_BASE = 0x400000
_HEADERS = 64 + 56
_MACHINES = {"x86_64": 62, "aarch64": 183}
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 16
_F_ADD_SEALS, _ALL_SEALS = 1033, 0x0F
_WIRE_3 = {"x86_64": "bf03000000", "aarch64": "600080d2"}  # the instructions that load the wire's number


def open_trampoline(parts: tuple[str, ...] = ("exec",), *, wire: int = 3) -> int:
    """A close-on-exec descriptor of the program of these `parts`, sealed against every change. OSError if the kernel forbids memfds
    that execute."""
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        fd = linux.memfd("bayplan", flags | _MFD_EXEC)
    except OSError:  # MFD_EXEC is of Linux 6.3; before it, memfds are executable anyway
        fd = linux.memfd("bayplan", flags)
    os.write(fd, program(linux.MACHINE, parts, wire=wire))
    linux.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    return fd


def program(machine: str, parts: tuple[str, ...], *, wire: int = 3) -> bytes:
    """The ELF file of the program of these `parts` for `machine` ("x86_64" or "aarch64"): one header, one segment that may be read and
    executed.

    OSError for a `wire` that a single instruction of either machine cannot load.
    """
    load = _load_wire(machine, wire)
    lines = (line for part in parts for line in PARTS[machine][part])
    code = b"".join(load if line == _WIRE_3[machine] else bytes.fromhex(line) for line in lines)
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
