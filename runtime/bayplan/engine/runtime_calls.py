"""Calling another OCI runtime of the host's: where it is found, how it is run, what it says as it fails.

The command line is runc's, which crun, youki and others have as well: `--root`, `--log` and `--log-format json`, then a verb.
"""

from __future__ import annotations

import os
import select
import time

from bayplan.errors import BayplanError, Unavailable
from bayplan.kernel import linux
from bayplan.kernel.pids import open_pidfd
from bayplan.kernel.process import ProgramNotFound, ProgramRefused
from bayplan.model import jsontext
from bayplan.model.value import NamedTuple
from bayplan.supervise.launch import ENVIRONMENT

STATE, LOG = "runtime", "runtime.log"
_REFUSALS = ("permission denied", "not permitted", "exec format", "is a directory")
_SECONDS = 300.0  # its hooks may take a while, too
_LONGEST = 2000  # characters of a runtime's message that are shown


class Runtime(NamedTuple):
    """One container's: `name` as declared, `directory` the container's own."""

    name: str
    program: str
    id: str
    directory: str

    def argv(self, verb: str, *arguments: str) -> list[str]:
        """The command line of `verb` for the container; `arguments` come before its id."""
        place = f"{self.directory}/{STATE}"
        return [self.program, "--root", place, "--log", f"{self.directory}/{LOG}", "--log-format", "json", verb, *arguments, self.id]


def find(name: str) -> str:
    """The program of the runtime `name`: of a fixed list of directories, or by its absolute path. Unavailable where there is none."""
    directories = ENVIRONMENT["PATH"].split(":")
    for path in [name] if name.startswith("/") else [f"{directory}/{name}" for directory in directories]:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    where = "there is no such program" if name.startswith("/") else f"it is not in {ENVIRONMENT['PATH']}"
    raise Unavailable(f"looking for the runtime {name}: {where}; install it, or leave the runtime out to use bayplan's own")


def spawn(argv: list[str]) -> int:
    """Another call of the runtime, with nothing on its streams: it has a log for what it says."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with(parent)
        linux.reset_signals()
        execute(argv, nothing())
    finally:
        os._exit(127)


def die_with(parent: int) -> None:
    """Have this process, and what it executes, killed with its parent; it ends here where that has ended already."""
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        os._exit(127)


def execute(argv: list[str], stdio: tuple[int, int, int]) -> None:
    """Returns only by raising. No other descriptor of ours goes along: a runtime might hand it on to the container."""
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # the listing's own
                continue
    os.execve(argv[0], argv, ENVIRONMENT)


def expect(runtime: Runtime, pid: int, verb: str, *, program: str) -> None:
    """Wait for a call of the runtime, and raise what it says where it fails; one that hangs is killed, or nobody could remove the
    container."""
    ended = wait(pid, _SECONDS)
    if ended is None:
        raise Unavailable(f"{runtime.name} {verb}: it has not ended within {_SECONDS:.0f} s, and was killed")
    if ended:
        raise _as_error(runtime, verb, ended, program)


def wait(pid: int, seconds: float) -> int | None:
    """The wait status of our child; None where it took longer than `seconds`, and was killed."""
    if _ends(pid, seconds):
        return os.waitpid(pid, 0)[1]
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


def _ends(pid: int, seconds: float) -> bool:
    pidfd = open_pidfd(pid)
    if pidfd >= 0:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = bool(poll.poll(seconds * 1000))
        os.close(pidfd)
        return ended
    deadline = time.monotonic() + seconds  # before Linux 5.3
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _as_error(runtime: Runtime, verb: str, ended: int, program: str) -> BayplanError:
    """What the runtime has said last, as the kind of error that it is: there are no numbers for these, only words."""
    if os.WIFSIGNALED(ended):
        return Unavailable(f"{runtime.name} {verb}: it was killed by signal {os.WTERMSIG(ended)}")
    said = _last_words(runtime) or f"exit status {os.WEXITSTATUS(ended)}, and not a word why"
    message, words = f"{runtime.name} {verb}: {said}", said.lower()
    if "executable" in words or (program and program.lower() in words and "exec" in words):
        message = message if program in said else f"{runtime.name} {verb}: {program}: {said}"
        if "no such file" in words or "not found" in words:
            return ProgramNotFound(message)
        if any(each in words for each in _REFUSALS):
            return ProgramRefused(message)
    return Unavailable(message)


def _last_words(runtime: Runtime) -> str:
    """The last error of the log, whose lines are objects with `level` and `msg`."""
    try:
        with open(f"{runtime.directory}/{LOG}", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = jsontext.loads(line.encode())
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "panic"):
            return _line(str(entry.get("msg", "")))
    return _line(lines[-1]) if lines else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def kill_children() -> None:
    """All that this process has: what a runtime that was killed leaves behind is its subreaper's. The first may have children."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                children = [int(word) for word in file.read().split()]
        except FileNotFoundError:  # a kernel without checkpoints: what is in the cgroup is killed all the same
            return
        if not children:
            return
        for pid in children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def nothing() -> tuple[int, int, int]:
    """Streams that lead nowhere."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return null, null, null
