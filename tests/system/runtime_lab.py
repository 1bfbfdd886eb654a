"""A lab whose containers another OCI runtime runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_lab import Lab

from bayplan.engine.state import open_state
from bayplan.kernel.pids import read_start_time

RUNTIME = Path(__file__).parents[2] / "runtime"
HUGETLB = Path("/sys/fs/cgroup/hugetlb")
OWN = f"""#!{sys.executable} -IS
import sys
sys.path.insert(0, {str(RUNTIME)!r})
from bayplan.oci.main import main
sys.exit(main(sys.argv[1:]))
"""
# crun 1.8 wants every controller of version 1 that the kernel has: what is not mounted is, where nobody else sees it
MOUNTED = f'mount -t cgroup -o hugetlb cgroup {HUGETLB} && exec "$@"'


class RuntimeLab(Lab):
    """A lab whose `run` and `create` name a runtime."""

    def __init__(self, directory: Path, runtime: str, before: tuple[str, ...] = ()) -> None:
        self.runtime, self.before = runtime, before
        super().__init__(directory)

    def command(self, *words: str) -> list[str]:
        named = ("--runtime", self.runtime) if words[0] in ("run", "create") and "--runtime" not in words else ()
        return [*self.before, *super().command(words[0], *named, *words[1:])]

    def container(self, name: str) -> Path:
        return self.root / "containers" / self.ok("inspect", "--format", "{{.Id}}", name).strip()

    def state_id(self) -> str:
        state = open_state(str(self.root))
        state.records.close()
        return state.id

    def pid(self, name: str) -> int:
        return int(self.ok("inspect", "--format", "{{.State.Pid}}", name))


def lacking_hierarchy() -> bool:
    return Path("/sys/fs/cgroup/memory").is_dir() and not (HUGETLB / "cgroup.procs").exists()


RUNTIMES = ["runc", "crun", "bayplan-oci"]


@contextlib.contextmanager
def runtime_lab(directory: Path, runtime: str) -> Iterator[RuntimeLab]:
    """A lab of one of `RUNTIMES`; the test is skipped where that cannot run here. Nothing of it is left."""
    before: tuple[str, ...] = ()
    if runtime == "bayplan-oci":
        runtime = str(directory / "bayplan-oci")
        Path(runtime).write_text(OWN)
        Path(runtime).chmod(0o755)
    elif not shutil.which(runtime):
        pytest.skip(f"{runtime} is not installed (Debian: {runtime})")
    made = runtime == "crun" and lacking_hierarchy() and not HUGETLB.exists()
    if runtime == "crun" and lacking_hierarchy():
        HUGETLB.mkdir(exist_ok=True)
        before = (shutil.which("unshare") or "unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED, "sh")
        if subprocess.run([*before, "mkdir", f"{HUGETLB}/bayplan-try"], stderr=subprocess.DEVNULL).returncode:
            pytest.skip("crun needs the hugetlb hierarchy, which somebody else has mounted read-only")
        subprocess.run([*before, "rmdir", f"{HUGETLB}/bayplan-try"], check=True)
    found = RuntimeLab(directory, runtime, before)
    try:
        yield found
    finally:
        state = found.state_id()
        found.close()
        left = [str(each) for each in Path("/sys/fs/cgroup").glob(f"*/bayplan-{state}")]
        assert not left, f"no cgroup of the state is left: {left}"
        if made:
            HUGETLB.rmdir()


def remains(host: RuntimeLab) -> list[str]:
    """What of ended containers is on this machine: processes that have to do with the state, mounts, cgroups."""
    root = str(host.directory)
    with_root = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if root in words:
                with_root.append(words)
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if root in line]
    ids = host.ok("ps", "-aq", "--no-trunc").split()
    state = f"bayplan-{host.state_id()}"
    cgroups = [str(each) for each in Path("/sys/fs/cgroup").glob(f"*/{state}/*") if each.is_dir() and each.name not in ("monitors", *ids)]
    return [*with_root, *mounts, *cgroups]


def gone(host: RuntimeLab) -> bool:
    deadline = time.monotonic() + 10
    while remains(host) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not remains(host)


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == b"sleep\x001000\x00" and os.readlink(entry / "root") != "/":
                found.append(entry.name)
        except OSError:
            continue
    return found


def is_alive(pid: int) -> bool:
    return read_start_time(pid) != 0
