"""Hooks of the runtime specification (config.md, "POSIX-platform Hooks"): programs that are run around a container's start.

Each gets the container's state as JSON on its standard input; one that fails, or takes longer than its timeout, stops what it was
run for. Those of the host are executed as they are. What runs inside (`startContainer`) is a program of the container's: the caller
gives an `execute` that goes through the trampoline, so that it never has the interpreter as its `/proc/self/exe`.
"""

from __future__ import annotations

import os
import time

from bayplan.errors import Unavailable
from bayplan.kernel import linux
from bayplan.model.runtime import Hook
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGEST = 4096  # bytes of a hook's output that an error shows
_PIPE = 1 << 20  # what a pipe holds at most
_POLL_SECONDS = 0.002


def execute(hook: Hook) -> None:
    """Become a hook of the host's; one without an environment of its own has this process's, as with runc and crun.
    Returns only by raising."""
    linux.close_from(3)
    env = dict(entry.split("=", 1) for entry in hook.env if "=" in entry) if hook.env else dict(os.environ)
    os.execve(hook.path, list(hook.args or (hook.path,)), env)


def run(
    hooks: tuple[Hook, ...], state: bytes, *, moment: str, directory: str = ".", execute: Callable[[Hook], None] = execute
) -> None:
    """Run `hooks` one after the other in `directory`, each with `state` on its standard input.

    Unavailable names the first that exits with a failure or exceeds its timeout (it is killed), with the end of what it said; those
    after it are not run.
    """
    for index, hook in enumerate(hooks):
        said, ended = _run(hook, state, directory, execute)
        if ended:
            how = _how(hook, ended)
            raise Unavailable(f"running the hook {moment}[{index}] {hook.path}: {how}" + (f"; it said: {said}" if said else ""))


def _how(hook: Hook, ended: int) -> str:
    if ended < 0:
        return f"it did not end within {hook.timeout} s, and was killed"
    return f"exit status {os.WEXITSTATUS(ended)}" if os.WIFEXITED(ended) else f"killed by signal {os.WTERMSIG(ended)}"


def _run(hook: Hook, state: bytes, directory: str, execute: Callable[[Hook], None]) -> tuple[str, int]:
    """The end of its output, and its wait status; -1 where its time was up."""
    stdin = linux.memfd("state", 1)
    os.write(stdin, state)
    os.lseek(stdin, 0, os.SEEK_SET)
    out, output = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(hook, (stdin, output, output), directory, execute)
    os.close(stdin)
    os.close(output)
    os.set_blocking(out, False)
    try:
        said, ended = _attend(pid, out, hook.timeout)
    finally:
        os.close(out)
    return said.decode("utf-8", "replace").strip(), ended


def _become(hook: Hook, stdio: tuple[int, int, int], directory: str, execute: Callable[[Hook], None]) -> None:
    try:
        os.chdir(directory)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        execute(hook)
    except BaseException as error:
        os.write(2, f"{error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _attend(pid: int, out: int, timeout: int | None) -> tuple[bytes, int]:
    """Until the hook itself has ended: a process that it leaves behind with its output open keeps nobody."""
    deadline = None if timeout is None else time.monotonic() + timeout
    said = b""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        said = (said + _read(out))[-_LARGEST:]
        if ended:
            return said, status
        if deadline is not None and time.monotonic() > deadline:
            os.kill(pid, 9)  # our own child, not reaped yet
            os.waitpid(pid, 0)
            return said, -1
        time.sleep(_POLL_SECONDS)


def _read(out: int) -> bytes:
    try:
        return os.read(out, _PIPE)
    except BlockingIOError:
        return b""
