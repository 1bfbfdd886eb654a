"""Seccomp filters, compiled once for each profile and kept: engines give every container the same one, of some 400 calls.

    ROOT/@seccomp/KEY    the program, and the digest of it

The key is a digest of the profile and of the code that compiles it: profiles are foreign input, and none may be found under the
name of another. The directory is root's alone.
"""

from __future__ import annotations

import os

from bayplan.errors import Unavailable
from bayplan.kernel import linux
from bayplan.model.runtime import Capabilities, Seccomp
from bayplan.model.value import TYPE_CHECKING
from bayplan.oci import record

if TYPE_CHECKING:
    from hashlib import blake2b
else:
    try:
        from _blake2 import blake2b  # what hashlib has it from, without OpenSSL, which takes 7 ms to load
    except ImportError:
        from hashlib import blake2b

_MOST_KEPT = 100
_SIZE = 32
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SOURCES = ("seccomp.py", "seccomp_profile.py", "seccomp_program.py", "seccomp_table.py")


def program(root: str, profile: Seccomp | None, capabilities: Capabilities) -> bytes:
    """The BPF program for a process of these capabilities; b"" where there is no filter. Raises Invalid, Unavailable.

    `root` is there, and nobody else writes in it: `record.take` has looked.
    """
    if profile is None:
        return b""
    described = repr((_code(), linux.MACHINE, sorted(capabilities.effective) if profile.profile == "default" else (), tuple(profile)))
    directory = f"{root}/@seccomp"
    path = f"{directory}/{_digest(described.encode('utf-8', 'backslashreplace')).hex()}"
    try:
        with open(path, "rb", buffering=0) as file:
            kept = file.read()
    except OSError:  # mostly that there is none; anything else is said where it is written
        kept = b""
    if len(kept) > _SIZE and _digest(kept[_SIZE:]) == kept[:_SIZE]:  # a power cut may leave the beginning of a file
        return kept[_SIZE:]
    return _compile(profile, capabilities, directory, path)


def _compile(profile: Seccomp, capabilities: Capabilities, directory: str, path: str) -> bytes:
    from bayplan.kernel import seccomp

    compiled = seccomp.filter_bytes(profile, capabilities.effective, machine=linux.MACHINE)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        record.write_bytes(path, _digest(compiled) + compiled)
        _forget_oldest(directory)
    except OSError as error:
        raise Unavailable(f"keeping a compiled seccomp filter in {directory}: {error.strerror}") from error
    return compiled


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=_SIZE).digest()


def _code() -> str:
    """What stands for the compiler and its tables: the digest in an installed runtime's path, else times and sizes."""
    place, digest = os.path.split(os.path.dirname(_PACKAGE))
    if len(digest) == 64 and os.path.basename(place) == "runtime":
        return digest
    found = [os.stat(f"{_PACKAGE}/kernel/{name}") for name in _SOURCES]
    return " ".join(f"{each.st_mtime_ns}-{each.st_size}-{each.st_ino}" for each in found)


def _forget_oldest(directory: str) -> None:
    with os.scandir(directory) as entries:
        dated = sorted((entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in entries)
    for _, path in dated[:-_MOST_KEPT]:
        try:
            os.unlink(path)
        except FileNotFoundError:  # another start does the same
            continue
