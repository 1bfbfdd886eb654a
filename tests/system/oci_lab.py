"""bayplan-oci with a state of its own, and bundles of busybox to run with it."""

from __future__ import annotations

import array
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RUNTIME = Path(__file__).parents[2] / "runtime"
CGROUPS = Path("/sys/fs/cgroup")
KERNEL = ("nosuid", "noexec", "nodev")
MOUNTS = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*KERNEL, "ro"]},
)
CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
Json = dict[str, Any]


def executable(directory: Path) -> Path:
    """The command as an engine calls it: one path."""
    path = directory / "bayplan-oci"
    code = f"import sys; sys.path.insert(0, {str(RUNTIME)!r}); from bayplan.oci.main import main; main(sys.argv[1:])"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} -I -S -c \"{code}\" \"$@\"\n")
    path.chmod(0o755)
    return path


class Lab:
    """`root` is the state's directory; every container in it is gone in the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "state"
        self.program = executable(directory)
        self.cgroup = f"bayplan-oci-test{os.getpid()}"
        make_rootfs(directory / "rootfs")

    def bundle(self, *args: str, name: str = "bundle", change: Json | None = None, **process: Any) -> Path:
        """A bundle of the process `args`; `change` is laid over the whole configuration, `process` over its process."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        sets = {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")}
        own = {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "capabilities": sets, **process}
        document: Json = {
            "ociVersion": "1.2.0",
            "process": own,
            "root": {"path": str(self.directory / "rootfs")},
            "mounts": list(MOUNTS),
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
                "cgroupsPath": f"/{self.cgroup}/{name}",
            },
        }
        (directory / "config.json").write_text(json.dumps(overlaid(document, change or {})))
        return directory

    def command(self, *words: str) -> list[str]:
        return [str(self.program), "--root", str(self.root), *words]

    def run(self, *words: str, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), input=stdin, capture_output=True, text=True, timeout=60, **options)

    def ok(self, *words: str, **options: Any) -> str:
        """What it prints, where it succeeds and says nothing else."""
        done = self.run(*words, **options)
        assert (done.returncode, done.stderr) == (0, ""), f"bayplan-oci {' '.join(words)}: {done}"
        return done.stdout

    def create(self, container: str, bundle: Path, *options: str) -> None:
        """With streams that nobody reads to their end: the container has them as long as it lives."""
        command = self.command("create", "--bundle", str(bundle), *options, container)
        with open(self.directory / "stderr", "w+") as said:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, timeout=60)
            said.seek(0)
            assert (done.returncode, said.read()) == (0, ""), f"create {container}: {done}"

    def state(self, container: str) -> Json:
        state: Json = json.loads(self.ok("state", container))
        return state

    def wait(self, container: str, status: str) -> None:
        deadline = time.monotonic() + 10
        while self.state(container)["status"] != status:
            assert time.monotonic() < deadline, f"{container} becomes {status}: {self.state(container)}"
            time.sleep(0.01)

    def close(self) -> None:
        for name in self.ok("list", "--quiet").split():
            self.ok("delete", "--force", name)
        kept = {"@seccomp"} & {entry.name for entry in self.root.iterdir()} if self.root.exists() else set()
        assert not self.root.exists() or {entry.name for entry in self.root.iterdir()} == kept, "no record is left"
        remove_cgroup(self.cgroup)


@contextlib.contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    found = Lab(directory)
    try:
        yield found
    finally:
        found.close()


def overlaid(below: Json, above: Json) -> Json:
    merged = {**below, **above}
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            merged[name] = overlaid(below[name], value)
    return merged


def make_rootfs(directory: Path) -> Path:
    (directory / "bin").mkdir(parents=True)
    for name in ("dev", "proc", "sys", "etc", "tmp"):
        (directory / name).mkdir()
    shutil.copy("/bin/busybox", directory / "bin" / "busybox")
    listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in set(listed) - {"busybox"}:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return directory


def remove_cgroup(name: str) -> None:
    """The parent that containers' cgroups were in, as every runtime leaves it; it fails where one still is."""
    for hierarchy in {CGROUPS, *CGROUPS.glob("*")}:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.rmdir(hierarchy / name)


class Console:
    """A console socket, as an engine has one: it is sent the master of a terminal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(20)

    def take(self) -> int:
        connection, _ = self.listener.accept()
        with connection:
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        self.listener.close()
        (fd,) = array.array("i", ancillary[0][2])
        return fd


def read_all(terminal: int) -> str:
    """Until its last process has closed the other side."""
    said = b""
    with contextlib.suppress(OSError):  # EIO
        while piece := os.read(terminal, 65536):
            said += piece
    os.close(terminal)
    return said.decode().replace("\r\n", "\n")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


