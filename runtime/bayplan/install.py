"""The runtime's own place on a host: unpacking the archive that was carried here, and sweeping those that nothing uses.

    ROOT/runtime/DIGEST/bayplan/...   the archive of that digest, byte-compiled
    ROOT/runtime/DIGEST/bytecode      the same in one file (bytecode.py)
    ROOT/runtime/DIGEST/lock          held shared by every call that runs from there; its time is about when one last did
    ROOT/runtime/interpreter          the real interpreter (never a shim) that monitors, the boot unit and the launcher use
    ROOT/bin/bayplan, bayplan-oci     the launchers; for the default root in /usr/local/bin as well

Nothing here is imported by a call that finds its runtime in place.
"""

from __future__ import annotations

import fcntl
import os
import sys

from bayplan.errors import Invalid, Unavailable
from bayplan.model.result import DEFAULT_ROOT
from bayplan.model.value import TYPE_CHECKING
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = "/usr/local/bin"
RECENT = 24 * 3600  # seconds; two controllers with different versions would else send theirs in turns
UNITS = ("/etc/systemd/system/bayplan.service", "/etc/init.d/bayplan")

# The lock is what keeps a runtime from being swept while a command of it runs. Looking for garbage takes 2 ms of a short one.
LAUNCHER = """\
#!{interpreter} -IS
import fcntl, gc, os, sys
gc.set_threshold(100_000)
sys.path.insert(0, {runtime!r})
held = os.open({runtime!r} + "/lock", os.O_RDONLY)
fcntl.flock(held, fcntl.LOCK_SH)
os.environ.setdefault("BAYPLAN_ROOT", {root!r})
from bayplan import bytecode
bytecode.use({runtime!r})
from bayplan.{door}.main import main
main(sys.argv[1:])
"""
_DOORS = {"bayplan": "cli", "bayplan-oci": "oci"}


def install(archive: bytes, digest: str, root: str) -> str:
    """Unpack `archive` (a zip whose sha256 is `digest`, hexadecimal) under the state root `root`; returns its directory.

    Idempotent, and safe beside itself: the directory appears under its name only when it is whole. Older runtimes that
    nothing uses are swept. Raises Invalid where the archive is not what `digest` says; nothing is left then.
    """
    import hashlib

    if hashlib.sha256(archive).hexdigest() != digest:
        raise Invalid("unpacking the runtime: the archive that arrived does not have the digest it was sent under")
    state = StateRoot(root)
    state.create()
    with _Exclusive(state.runtimes):
        if not os.path.isdir(state.runtime(digest)):
            _unpack(archive, state, digest)
        write_launcher(state, digest)
        sweep(root, keep=digest)
    return state.runtime(digest)


def write_launcher(state: StateRoot, digest: str) -> None:
    """Write the launcher(s) of runtime `digest`, and record the interpreter: the one recorded if it is still there, else ours."""
    interpreter = recorded_interpreter(state) or os.path.realpath(sys.executable)
    _replace(f"{state.runtimes}/interpreter", interpreter + "\n", mode=0o644)
    for path in launchers(state):
        directory, _, name = path.rpartition("/")
        text = LAUNCHER.format(interpreter=interpreter, runtime=state.runtime(digest), root=state.path, door=_DOORS[name])
        os.makedirs(directory, mode=0o755, exist_ok=True)
        _replace(path, text, mode=0o755)


def launchers(state: StateRoot) -> tuple[str, ...]:
    """The paths of the launchers that belong to a state."""
    places = (os.path.dirname(state.launcher), *([COMMANDS] if state.path == DEFAULT_ROOT else []))
    return tuple(f"{place}/{name}" for place in places for name in _DOORS)


def recorded_interpreter(state: StateRoot) -> str:
    """The interpreter on record, or "" where there is none or it has vanished."""
    try:
        with open(f"{state.runtimes}/interpreter", encoding="utf-8") as file:
            path = file.read().strip()
    except FileNotFoundError:
        return ""
    return path if os.access(path, os.X_OK) else ""


def sweep(root: str, *, keep: str) -> tuple[str, ...]:
    """Remove every runtime but `keep` that no call of the last day, no monitor, launcher or boot unit uses; returns the digests removed."""
    import shutil

    state = StateRoot(root)
    swept = []
    for name in sorted(os.listdir(state.runtimes)):
        if name.startswith("."):  # left by an install that was killed
            shutil.rmtree(f"{state.runtimes}/{name}", ignore_errors=True)
        elif len(name) == 64 and name != keep and not _recent(state, name) and not _named(state, name) and _take(state, name):
            shutil.rmtree(f"{state.runtimes}/.swept-{name}")
            swept.append(name)
    return tuple(swept)


def remove(root: str) -> bool:
    """Remove all runtimes and launchers of a state; whether there was anything. Raises Unavailable while one is in use."""
    import shutil

    state = StateRoot(root)
    present = [path for path in (*launchers(state), state.runtimes) if os.path.lexists(path)]
    if not present:
        return False
    in_use = [path for path in _command_lines() if f"{state.runtimes}/".encode() in path]
    if in_use:
        raise Unavailable(f"removing the runtime: {len(in_use)} container(s) of {root} still run, stop them first")
    for path in launchers(state):
        if os.path.lexists(path):
            os.unlink(path)
    shutil.rmtree(state.runtimes, ignore_errors=True)
    return True


def _unpack(archive: bytes, state: StateRoot, digest: str) -> None:
    import io
    import shutil
    import tempfile
    import zipfile

    scratch = tempfile.mkdtemp(prefix=".new-", dir=state.runtimes)
    try:
        os.chmod(scratch, 0o755)
        with zipfile.ZipFile(io.BytesIO(archive)) as content:
            for name in content.namelist():
                _write_source(scratch, name, content.read(name))
        os.close(os.open(f"{scratch}/lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        _compile(scratch)
        _compile_together(scratch, state.runtime(digest))
        os.rename(scratch, state.runtime(digest))
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _write_source(directory: str, name: str, content: bytes) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise Invalid(f"unpacking the runtime: the archive names a path outside itself: {name!r}")
    path = f"{directory}/{name}"
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        os.makedirs(parent)
        while parent != directory:  # whatever the umask
            os.chmod(parent, 0o755)
            parent = os.path.dirname(parent)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o644)


def _compile(directory: str) -> None:
    """Cache the bytecode for this interpreter, without a check against the source: a directory never changes under its digest."""
    import py_compile

    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for path in _sources(directory):
        py_compile.compile(path, doraise=True, invalidation_mode=unchecked, optimize=-1)


_TOGETHER = "import sys; sys.path.insert(0, sys.argv[1]); from bayplan.compilation import write; write(*sys.argv[1:])"


def _compile_together(directory: str, final: str) -> None:
    """By an interpreter that leaves the columns of the source out of the code (no_debug_ranges, from Python 3.11): a tenth of a start's
    bytes. Unavailable where it cannot."""
    import subprocess

    command = [sys.executable, "-I", "-S", "-X", "no_debug_ranges", "-c", _TOGETHER, directory, final]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Unavailable(f"compiling the runtime with {sys.executable}: {done.stderr.strip()}")


def _sources(directory: str) -> Iterator[str]:
    for parent, _, names in os.walk(directory):
        yield from (f"{parent}/{name}" for name in names if name.endswith(".py"))


def _recent(state: StateRoot, digest: str) -> bool:
    """Whether a task ran from this runtime within the last day, by this host's clock."""
    import time

    try:
        return abs(time.time() - os.stat(f"{state.runtime(digest)}/lock").st_mtime) < RECENT
    except FileNotFoundError:
        return False


def _named(state: StateRoot, digest: str) -> bool:
    """Whether a process, a launcher or a boot unit names this runtime's directory."""
    runtime = state.runtime(digest).encode()
    if any(runtime in line for line in _command_lines()):
        return True
    for path in (*launchers(state), *UNITS):
        try:
            with open(path, "rb") as file:
                if runtime in file.read(65536):
                    return True
        except OSError:
            continue
    return False


def _take(state: StateRoot, digest: str) -> bool:
    """Rename a runtime away while no call holds its lock: a call looks again whether it is there once it has the lock."""
    try:
        descriptor = os.open(f"{state.runtime(digest)}/lock", os.O_RDONLY)
    except FileNotFoundError:
        os.rename(state.runtime(digest), f"{state.runtimes}/.swept-{digest}")
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(state.runtime(digest), f"{state.runtimes}/.swept-{digest}")
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _command_lines() -> Iterator[bytes]:
    """Of our own user's processes in our own pid namespace: what others, or containers, call theirs keeps nothing in place."""
    own = os.stat("/proc/self/ns/pid")
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid != os.geteuid() or not os.path.samestat(os.stat(f"/proc/{name}/ns/pid"), own):
                    continue
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    yield file.read(65536)
            except OSError:  # it has ended meanwhile
                continue


def _replace(path: str, text: str, *, mode: int) -> None:
    """Write `text` to `path` by rename; the temporary name is created exclusively, so no link that waits there is followed."""
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, mode)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(descriptor, mode)
    os.rename(temporary, path)


class _Exclusive:
    """One install at a time under a directory of runtimes."""

    def __init__(self, directory: str) -> None:
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
