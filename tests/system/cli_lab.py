"""A state of its own with one small image, driven by the command line as people type it."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

MAIN = Path(__file__).parents[2] / "runtime/bayplan/__main__.py"
IMAGE = "box:1"
APPLETS = "sh true false sleep cat echo ls ps id env hostname wget httpd stty kill date test touch mkdir yes head tr seq".split()


class Lab:
    """`root` is the state's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "state"
        archive = directory / "root.tar"
        archive.write_bytes(root_file_system())
        self.ok("import", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin", "--change", "EXPOSE 80", str(archive), IMAGE)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(MAIN), "--root", str(self.root), *words]

    def run(self, *words: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.command(*words), input=stdin, capture_output=True, timeout=60, env={**os.environ, **environment})
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *words: str, stdin: bytes = b"", **environment: str) -> str:
        """What it prints, where it succeeds and says nothing else."""
        done = self.run(*words, stdin=stdin, **environment)
        assert (done.returncode, done.stderr) == (0, ""), f"bayplan {' '.join(words)}: {done}"
        return done.stdout

    def ids(self) -> list[str]:
        return self.ok("ps", "-aq").split()

    def status(self, name: str) -> str:
        return self.ok("inspect", "--format", "{{.State.Status}}", name).strip()

    def wait(self, name: str, status: str) -> None:
        """Until the container has this status."""
        deadline = time.monotonic() + 10
        while self.status(name) != status:
            assert time.monotonic() < deadline, f"{name} is {self.status(name)}, and not {status}"
            time.sleep(0.05)

    def close(self) -> None:
        self.ok("uninstall", "--force", "--volumes")
        assert not self.root.exists(), "nothing of the state is left"


@contextlib.contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    found = Lab(directory)
    try:
        yield found
    finally:
        found.close()


def root_file_system() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("bin", "etc", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        busybox = shutil.which("busybox")
        assert busybox, "busybox-static is not installed"
        archive.add(busybox, "bin/busybox")
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return buffer.getvalue()


class Typist:
    """A command line at a terminal of its own."""

    def __init__(self, words: list[str], *, rows: int = 24, columns: int = 80) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(words[0], words)
        self.resize(rows, columns)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.terminal, text)

    def expect(self, text: bytes) -> None:
        deadline = time.monotonic() + 15
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{text!r} did not come, but {self.seen!r}"
            try:
                data = os.read(self.terminal, 4096)
            except OSError:
                data = b""
            assert data, f"the end came, and {text!r} did not: {self.seen!r}"
            self.seen += data
        self.seen = self.seen.partition(text)[2]

    def end(self) -> int:
        """Its exit status; what it writes meanwhile is read."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.terminal, 4096)
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it does not end: {self.seen!r}")
