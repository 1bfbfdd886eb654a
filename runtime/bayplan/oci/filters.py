"""Seccomp filters, compiled once for each profile and kept: engines give every container the same one, of some 400 calls."""

from __future__ import annotations

from bayplan.kernel import linux, seccomp
from bayplan.model.runtime import Capabilities, Seccomp


def program(root: str, profile: Seccomp | None, capabilities: Capabilities) -> bytes:
    """The BPF program for a process of these capabilities; b"" where there is no filter."""
    if profile is None:
        return b""
    return seccomp.filter_bytes(profile, capabilities.effective, machine=linux.MACHINE)
