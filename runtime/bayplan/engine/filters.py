"""Seccomp filters, compiled once per profile, capabilities and architecture, and kept: a start reads a file.

    ROOT/filters/KEY    the profile as text, a null byte, the program, and a mark that all of it is there

What is kept is used only for the very profile that it was made of, by the code that would make it again: an installed runtime has
the digest of all its code in its path, and of a checkout the sources' sizes and times tell, as they do for the interpreter itself.
"""

from __future__ import annotations

import os
from _imp import source_hash  # what the interpreter itself tells sources apart by: no module to load

from bayplan.model.capabilities import mask
from bayplan.model.runtime import Capabilities, Config, Seccomp
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import status

if TYPE_CHECKING:
    from bayplan.engine.state import State

_MOST_KEPT = 100
_END = b"\0whole"  # a power cut may leave the beginning of a file
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SOURCES = ("seccomp.py", "seccomp_profile.py", "seccomp_program.py", "seccomp_table.py")


def program(state: State, config: Config) -> bytes:
    return of(state, config.linux.seccomp, config.process.capabilities)


def of(state: State, profile: Seccomp | None, capabilities: Capabilities) -> bytes:
    """The BPF program for a process of these capabilities; b"" where there is no filter."""
    if profile is None:
        return b""
    described = _describe(profile, capabilities)
    path = state.root.filter(f"{os.uname().machine}-{source_hash(0, described).hex()}")
    try:
        with open(path, "rb") as file:
            kept = file.read()
    except FileNotFoundError:
        kept = b""
    if kept.startswith(described) and kept.endswith(_END):  # a hash of 64 bits can be met on purpose, this cannot
        return kept[len(described) : -len(_END)]
    from bayplan.kernel import seccomp

    compiled = seccomp.filter_bytes(profile, capabilities.effective, machine=os.uname().machine)
    status.write_bytes(path, described + compiled + _END)
    _forget_oldest(os.path.dirname(path))
    return compiled


def _describe(profile: Seccomp, capabilities: Capabilities) -> bytes:
    """All that a program depends on but the machine, and a null byte. Only our own profile asks for capabilities."""
    content = f"capabilities {mask(capabilities.effective):x}" if profile.profile == "default" else repr(tuple(profile))
    return f"{_code()} {content}\0".encode("utf-8", "backslashreplace")


def _code() -> str:
    """What stands for the compiler and its tables: the digest in an installed runtime's path, else times and sizes."""
    place, digest = os.path.split(os.path.dirname(_PACKAGE))
    if len(digest) == 64 and os.path.basename(place) == "runtime":
        return digest
    found = [os.stat(f"{_PACKAGE}/kernel/{name}") for name in _SOURCES]
    return " ".join(f"{each.st_mtime_ns}-{each.st_size}-{each.st_ino}" for each in found)


def _forget_oldest(directory: str) -> None:
    """Keep what was compiled last: profiles and runtimes change, and nothing says which of the old ones will be back."""
    with os.scandir(directory) as entries:
        dated = sorted((entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in entries)
    for _, path in dated[:-_MOST_KEPT]:
        try:
            os.unlink(path)
        except FileNotFoundError:  # another start does the same
            continue
