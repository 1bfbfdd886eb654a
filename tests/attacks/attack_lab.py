"""What the attacks share: a hostile image, interpreters and runtimes that may be broken, and the command line run on them."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_lab import RUNTIME, Lab, busybox_tree

from bayplan.engine import containers, images, stop
from bayplan.store import records

PROGRAMS = Path(__file__).parent / "programs"
NET = ("--network", "none")
IMAGE = "evil:1"
FREE = ("-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie", "-Wl,-Ttext-segment=0x10000000")
FLAGS = {"loader": FREE, "calls32": FREE[:-1]}
LOADER = "lib64/ld-linux-x86-64.so.2"


class Host(Lab):
    """A state of its own with a hostile image beside the ordinary one."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.directory_of_all = root
        tree = root / "evil"
        busybox_tree(tree)
        self.add(tree)
        self.image(IMAGE, tree)

    def add(self, tree: Path) -> None:
        for applet in "printf env ps ln rm mv dd grep test stat tail head yes wc mknod mount umount mkfifo readlink chmod".split():
            (tree / "bin" / applet).symlink_to("busybox")
        for source in sorted(PROGRAMS.glob("*.c")):
            compile_program(source.stem, tree / "bin" / source.stem)
        (tree / LOADER).parent.mkdir()
        (tree / "bin/loader").rename(tree / LOADER)
        (tree / "bin/hashbang").write_text("#!/proc/self/exe\n")
        (tree / "bin/hashbang").chmod(0o755)

    def image(self, name: str, tree: Path) -> None:
        """Import the directory `tree` as an image."""
        self.pack(tree)
        images.import_(self.state(), self.archive, name)

    def ran(
        self, *words: str, python: str | Path = sys.executable, runtime: Path = RUNTIME, stdin: bytes = b"", timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """The command line, on this interpreter and this runtime; whatever comes of it, it is no traceback."""
        done = subprocess.run(self.argv(*words, python=python, runtime=runtime), input=stdin, capture_output=True, timeout=timeout)
        assert b"Traceback" not in done.stderr and b"bug" not in done.stderr.lower(), f"{words}: {done.stderr.decode()}"
        return done

    def argv(self, *words: str, python: str | Path = sys.executable, runtime: Path = RUNTIME) -> list[str]:
        return [str(python), "-I", "-S", str(runtime / "bayplan/__main__.py"), "--root", self.path, *words]

    def up(self, name: str, *words: str, image: str = IMAGE, options: tuple[str, ...] = NET) -> None:
        """A container in the background that sleeps, or runs `words`."""
        self.command("run", "-d", *options, "--name", name, image, *(words or ("sleep", "1000")))

    def first(self, name: str) -> int:
        return containers.started(self.state(), self.record(name)).pid

    def monitor(self, name: str) -> int:
        return containers.started(self.state(), self.record(name)).monitor

    def clear(self) -> None:
        """Nothing of one test is there in the next one."""
        state = self.state()
        for record in containers.all_records(state):
            stop.remove(state, record, force=True, volumes=True)
        for row in records.volumes(state.records):
            self.command("volume", "rm", row.name)


def compile_program(name: str, to: Path) -> None:
    """One of programs/, static; the test is skipped where there is no compiler, or the machine is not the one it is written for."""
    if not shutil.which("gcc") or platform.machine() != "x86_64":
        pytest.skip("the attackers' programs take gcc (Debian: gcc, libc6-dev) on x86-64")
    command = ["gcc", "-static", "-O1", *FLAGS.get(name, ()), "-o", str(to), str(PROGRAMS / f"{name}.c")]
    subprocess.run(command, check=True, capture_output=True)


def interpreter_copy(to: Path) -> Path:
    """An interpreter that may be overwritten: a copy of the distribution's, which finds its library by the path built into it."""
    source = Path("/usr/bin/python3").resolve()
    if not source.exists() or subprocess.run([source, "-c", "import sys; assert sys.version_info >= (3, 9)"]).returncode:
        pytest.skip("/usr/bin/python3 is not there, or older than 3.9")
    shutil.copy(source, to)
    return to


def weakened(to: Path, *cuts: tuple[str, str, str]) -> Path:
    """A copy of the runtime with (file, text, other text) replaced: a test that does not see the difference does not bite."""
    shutil.copytree(RUNTIME / "bayplan", to / "bayplan", ignore=shutil.ignore_patterns("__pycache__", "_vendor"))
    for name, old, new in cuts:
        path = to / "bayplan" / name
        text = path.read_text()
        assert text.count(old) >= 1, f"{name} has no longer {old!r}: say what the defence is now"
        path.write_text(text.replace(old, new))
    return to


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of_tree(directory: Path) -> dict[str, str]:
    """Every file below a directory but bytecode, with its digest."""
    return {str(path): digest(path) for path in sorted(directory.rglob("*")) if path.is_file() and "__pycache__" not in path.parts}


def eventually(condition: Callable[[], object], statement: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, statement
        time.sleep(0.02)
