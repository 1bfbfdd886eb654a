"""Whether a process that is born in others' pid namespace is safe from them.

What builds a container is the host's interpreter, with all its rights, until it executes the container's program. A first process that
joins a pid namespace is born there (its procfs and its number are that namespace's), and whoever has CAP_SYS_PTRACE there may trace it:
take its rights, or open `/proc/PID/exe` and overwrite the interpreter once nobody runs it (CVE-2019-5736's kind).
"""

from __future__ import annotations

import os

from bayplan.errors import Denied
from bayplan.kernel import linux

_SYS_PTRACE = 1 << 19
_SETS = ("CapPrm:", "CapBnd:")  # what a process has, and what it may get by executing a file


def verify_untraced(joined: dict[int, int]) -> None:
    """Denied where a process of the pid namespace that is to be joined may trace others. `joined` maps CLONE_NEW flags to descriptors.

    A process of a user namespace beside ours has its capabilities there only.
    """
    there = os.fstat(joined[linux.CLONE_NEWPID]).st_ino
    users = {os.stat("/proc/self/ns/user").st_ino, *(os.fstat(fd).st_ino for flag, fd in joined.items() if flag == linux.CLONE_NEWUSER)}
    for name in os.listdir("/proc"):
        if name.isdigit() and _may_trace(name, there, users):
            raise Denied(
                f"joining a pid namespace: process {name} there may trace others (CAP_SYS_PTRACE), and what starts among them is the host's"
                " until it is the program; take that capability from that container, or use `exec`"
            )


def _may_trace(process: str, pid_namespace: int, user_namespaces: set[int]) -> bool:
    try:
        if os.stat(f"/proc/{process}/ns/pid").st_ino != pid_namespace or os.stat(f"/proc/{process}/ns/user").st_ino not in user_namespaces:
            return False
        with open(f"/proc/{process}/status") as file:
            lines = [line.split() for line in file]
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or has rights that we have not: nobody of a container
        return False
    return any(int(words[1], 16) & _SYS_PTRACE for words in lines if words and words[0] in _SETS)
