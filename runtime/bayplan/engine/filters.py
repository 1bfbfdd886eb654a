"""Seccomp filters, compiled once per (profile, capabilities, architecture) and kept: a start reads a file."""

from __future__ import annotations

from bayplan.engine.state import State
from bayplan.model.runtime import Capabilities, Config, Seccomp
from bayplan.store import status


def program(state: State, config: Config) -> bytes:
    return of(state, config.linux.seccomp, config.process.capabilities)


def of(state: State, profile: Seccomp | None, capabilities: Capabilities) -> bytes:
    """The BPF program for a process of these capabilities; b"" where there is no filter."""
    if profile is None:
        return b""
    from bayplan.kernel import seccomp

    path = state.root.filter(seccomp.filter_key(profile, capabilities))
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        compiled = seccomp.filter_bytes(profile, capabilities)
    status.write_bytes(path, compiled)
    return compiled
