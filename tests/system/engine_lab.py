"""A state of its own with a small image, and what a test needs to drive it: requests as every door sends them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from bayplan import dispatch
from bayplan.engine import containers, images, networks, stop
from bayplan.engine.containers import Record, Run
from bayplan.engine.state import State, open_state
from bayplan.model.result import Request, Response
from bayplan.store import records
from bayplan.store.trees import remove_tree

RUNTIME = Path(__file__).parents[2] / "runtime"
APPLETS = "sh true false sleep cat ls echo id nc httpd wget nslookup mkdir touch ip kill".split()


def busybox_tree(path: Path) -> None:
    """A root file system of Debian's static busybox."""
    (path / "bin").mkdir(parents=True)
    (path / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (path / "bin/busybox").chmod(0o755)
    for name in APPLETS:
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc").mkdir()
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    (path / "seed").mkdir(mode=0o750)
    (path / "seed/first").write_text("from the image\n")
    (path / "tmp").mkdir(mode=0o1777)


class Lab:
    """One state root; `close` removes all that it made in the kernel."""

    def __init__(self, root: Path) -> None:
        self.path = str(root / "state")
        self.archive = str(root / "image.tar")
        busybox_tree(root / "tree")
        self.pack(root / "tree")
        images.import_(self.state(create=True), self.archive, "lab:1")

    def pack(self, tree: Path) -> None:
        """Write `tree` to the archive that images are imported from."""
        with tarfile.open(self.archive, "w") as tar:
            tar.add(tree, arcname=".")

    def state(self, *, create: bool = False) -> State:
        return open_state(self.path, create=create)

    def converge(self, want: dict[str, Any], *, check: bool = False) -> Response:
        return dispatch.handle(Request("converge", want, check, True, self.path))

    def done(self, want: dict[str, Any]) -> Response:
        """Converge, and fail the test with the error where there is one."""
        response = self.converge(want)
        assert response.error is None, response.error
        return response

    def record(self, name: str) -> Record:
        return containers.find(self.state(), name)

    def run(self, name: str) -> Run:
        return containers.run_of(self.state(), self.record(name).id)

    def directory(self, name: str) -> Path:
        return Path(self.state().root.container(self.record(name).id))

    def output(self, name: str) -> str:
        from bayplan.supervise import logs

        return "".join(line.text for line in logs.read_log(str(self.directory(name)), logs.LogQuery()))

    def inside(self, name: str, *argv: str) -> str:
        return self.command("exec", name, *argv)

    def command(self, *words: str, status: int = 0) -> str:
        argv = [sys.executable, "-I", "-S", str(RUNTIME / "bayplan/__main__.py"), "--root", self.path, *words]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert ran.returncode == status, f"{words}: exit {ran.returncode}: {ran.stderr}"
        return ran.stdout if status == 0 else ran.stderr

    def wait(self, what: str, condition: Any, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
            time.sleep(0.02)

    def close(self) -> None:
        state = self.state()
        for record in containers.all_records(state):
            stop.remove(state, record, force=True, volumes=True)
        for row in records.networks(state.records):
            networks.remove(state, row.name)
        self.wait("the monitors have ended", lambda: reap() or not self.cgroups_left(state.id))

        state.records.close()
        remove_tree(self.path, scratch=os.path.dirname(self.path))  # a test may have made what no recursion can remove

    def cgroups_left(self, state_id: str) -> list[Path]:
        """Removes the state's empty cgroups; those that still hold a process are returned."""
        left = []
        found = {path for place in places(state_id) for path in (place, *place.glob("**/")) if path.is_dir()}
        for directory in sorted(found, reverse=True):
            try:
                os.rmdir(directory)
            except OSError:
                left.append(directory)
        return left


def places(state_id: str) -> list[Path]:
    """The state's own directory in each hierarchy of cgroups; others' come and go meanwhile, so nothing else is listed."""
    root = Path("/sys/fs/cgroup")
    named = [root / name / f"bayplan-{state_id}" for name in os.listdir(root)]
    return [path for path in (root / f"bayplan-{state_id}", *named) if path.is_dir()]


def reap() -> None:
    """Collect ended monitors: they are this process's children, since it started the containers."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def service(*command: str, **more: Any) -> dict[str, Any]:
    """A service of the lab's image that ends at once when it is told to."""
    return {"image": "lab:1", "command": list(command) or ["sleep", "1000"], "stop_signal": "SIGKILL", **more}
