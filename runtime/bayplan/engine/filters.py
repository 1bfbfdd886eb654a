"""Seccomp filters, compiled once per (profile, capabilities, architecture) and kept: a start reads a file."""

from __future__ import annotations

import os
from _imp import source_hash  # what the interpreter itself tells sources apart by: no module to load

from bayplan.engine.state import State
from bayplan.model.capabilities import mask
from bayplan.model.runtime import Capabilities, Config, Seccomp
from bayplan.store import status


def program(state: State, config: Config) -> bytes:
    return of(state, config.linux.seccomp, config.process.capabilities)


def of(state: State, profile: Seccomp | None, capabilities: Capabilities) -> bytes:
    """The BPF program for a process of these capabilities; b"" where there is no filter."""
    if profile is None:
        return b""
    path = state.root.filter(_key(capabilities))
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        from bayplan.kernel import seccomp

        compiled = seccomp.filter_bytes(profile, capabilities.effective, machine=os.uname().machine)
    status.write_bytes(path, compiled)
    return compiled


def _key(capabilities: Capabilities) -> str:
    """Of what the program depends on: machine, capabilities, and the table and the compiler as they are in this runtime."""
    kernel = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernel")
    content = b""
    for name in ("seccomp.py", "seccomp_table.py"):
        with open(f"{kernel}/{name}", "rb") as file:
            content += file.read()
    return f"{os.uname().machine}-{mask(capabilities.effective):x}-{source_hash(0, content).hex()}"
