"""A state for each storage driver: on a disk of its own, in a mount namespace of its own, of which nothing stays."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import IMAGE, Lab, root_file_system
from layer_lab import Entry, archive, directory, entry, hardlink, sha256, symlink

RUNTIME = Path(__file__).parents[2] / "runtime"
DRIVERS = ("overlay", "vfs", "btrfs")
DAY = 1_600_000_000
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"  # cap_net_bind_service=ep


FIND_SUBVOLUMES = """
import os, sys
for top, below, _ in os.walk(sys.argv[1]):
    for path in (os.path.join(top, name) for name in below):
        if os.lstat(path).st_ino == 256:
            print(path)
"""


class Disk:
    """A process that keeps a mount namespace in which `directory` is a file system of its own."""

    def __init__(self, path: Path, *, kind: str = "", size: int = 512 << 20) -> None:
        self.path = path
        path.mkdir()
        mount = ":"
        if kind in ("btrfs", "ext4"):
            image = path.parent / "disk.img"
            with open(image, "wb") as file:
                file.truncate(size)
            command = ["mkfs.btrfs", "-q", str(image)] if kind == "btrfs" else ["mkfs.ext4", "-q", "-F", "-m", "0", str(image)]
            subprocess.run(command, check=True, capture_output=True)
            mount = f"mount -o loop {image} {path}"
        elif kind == "tmpfs":
            mount = f"mount -t tmpfs -o size={size} tmpfs {path}"
        script = f"{mount} && echo ready && exec sleep 1000"
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout and self.holder.stdout.readline() == "ready\n", "the disk is mounted"

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-m"]

    @property
    def seen(self) -> Path:
        """The directory, as seen from outside of the namespace."""
        return Path(f"/proc/{self.holder.pid}/root{self.path}")

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()
        if self.holder.stdout:
            self.holder.stdout.close()


class DriverLab(Lab):
    """A state with the driver `name`; `root` is its path inside the namespace, `seen` the same from outside."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk, self.name = disk, name
        self.directory, self.root, self.seen = disk.path.parent, disk.path / "state", disk.seen / "state"
        rootfs = self.directory / "root.tar"
        rootfs.write_bytes(root_file_system())
        self.ok("import", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin", str(rootfs), IMAGE)

    def command(self, *words: str) -> list[str]:
        main = str(RUNTIME / "bayplan/__main__.py")
        driver = ["--storage-driver", self.name] if self.name else []
        return [*self.disk.prefix, sys.executable, "-I", "-S", main, "--root", str(self.root), *driver, *words]

    def python(self, code: str, *arguments: str) -> str:
        """Run code of the store's with root and driver, inside the namespace."""
        environment = {**os.environ, "PYTHONPATH": str(RUNTIME)}
        done = subprocess.run([*self.disk.prefix, sys.executable, "-c", code, str(self.root), *arguments], env=environment,
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inside(self, container: str) -> Path:
        """The root of a running container, as seen from here."""
        return Path(f"/proc/{self.ok('inspect', '--format', '{{.State.Pid}}', container).strip()}/root")

    def subvolumes(self) -> list[str]:
        """All subvolumes below the state."""
        return self.python(FIND_SUBVOLUMES).splitlines()

    def load(self, name: str, *layers: list[Entry]) -> None:
        """An image of these layers on top of busybox."""
        path = self.directory / "image.tar"
        docker_archive(path, name, [root_file_system(), *(archive(each) for each in layers)])
        self.ok("load", "-i", str(path))


@contextlib.contextmanager
def driver_lab(directory: Path, name: str, *, kind: str | None = None, size: int = 512 << 20) -> Iterator[DriverLab]:
    kind = kind if kind is not None else "btrfs" if name == "btrfs" else ""
    if kind == "btrfs":
        need_btrfs()
    disk = Disk(directory / "disk", kind=kind, size=size)
    try:
        lab = DriverLab(disk, name)
        try:
            yield lab
        finally:
            lab.ok("uninstall", "--force", "--volumes")
            assert not lab.seen.exists(), "nothing of the state is left"
    finally:
        disk.close()


def need_btrfs() -> None:
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("there is no mkfs.btrfs (Debian: btrfs-progs)")
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "btrfs"], capture_output=True)
    if "btrfs" not in Path("/proc/filesystems").read_text().split():
        pytest.skip("this kernel has no btrfs")


def docker_archive(path: Path, name: str, layers: list[bytes]) -> None:
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [str(sha256(data)) for data in layers]},
    }
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    members = [*zip(names, layers), ("config.json", json.dumps(config).encode()), ("manifest.json", json.dumps(manifest).encode())]
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def with_xattr(made: Entry, **attributes: str) -> Entry:
    made[0].pax_headers = {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in attributes.items()}
    return made


LAYERS: list[list[Entry]] = [
    [
        directory("t/"),
        directory("t/sticky", mode=0o1777),
        directory("t/private", mode=0o700, uid=1000, gid=1001),
        entry("t/setuid", b"s", mode=0o4755),
        entry("t/owned", b"o", mode=0o640, uid=12345, gid=54321),
        with_xattr(entry("t/marked", b"m"), user__note="kept", security__capability=CAPABILITY.decode()),
        entry("t/linked", b"two names"),
        hardlink("t/again", "t/linked"),
        hardlink("t/sticky/third", "t/linked"),
        symlink("t/symbolic", "../etc/nowhere"),
        entry("t/fifo", kind=tarfile.FIFOTYPE, mode=0o600),
        entry("t/null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
        entry("t/goes", b"g"),
        directory("t/tree"),
        entry("t/tree/inner", b"i"),
        directory("t/emptied", mode=0o711),
        entry("t/emptied/old", b"o"),
        directory("t/implied", mode=0o2775, uid=7, gid=8),
        entry("t/becomes-a-directory", b"f"),
        directory("t/becomes-a-file"),
        entry("t/becomes-a-file/x", b"x"),
        entry("t/came-back", b"first"),
        entry("t/ünï \\ code", b"u"),
    ],
    [
        entry("t/.wh.goes"),
        entry("t/.wh.tree"),
        entry("t/.wh.came-back"),
        directory("t/emptied", mode=0o711),
        entry("t/emptied/.wh..wh..opq"),
        entry("t/emptied/new", b"n"),
        entry("t/implied/here", b"h"),
        directory("t/becomes-a-directory"),
        entry("t/becomes-a-directory/y", b"y"),
        entry("t/becomes-a-file", b"now"),
        entry("t/again", b"a name of its own"),
    ],
    [entry("t/came-back", b"second"), entry("t/implied/there", b"t"), directory("t/tree", mode=0o750), entry("t/tree/other", b"o")],
]

EXPECTED: dict[str, tuple[str, int, int, str]] = {
    "sticky": ("0o41777", 0, 0, ""),
    "sticky/third": ("0o100644", 0, 0, "two names"),
    "private": ("0o40700", 1000, 1001, ""),
    "setuid": ("0o104755", 0, 0, "s"),
    "owned": ("0o100640", 12345, 54321, "o"),
    "marked": ("0o100644", 0, 0, "m"),
    "linked": ("0o100644", 0, 0, "two names"),
    "again": ("0o100644", 0, 0, "a name of its own"),
    "symbolic": ("0o120777", 0, 0, "-> ../etc/nowhere"),
    "fifo": ("0o10600", 0, 0, ""),
    "null": ("0o20666", 0, 0, "1:3"),
    "tree": ("0o40750", 0, 0, ""),
    "tree/other": ("0o100644", 0, 0, "o"),
    "emptied": ("0o40711", 0, 0, ""),
    "emptied/new": ("0o100644", 0, 0, "n"),
    "implied": ("0o42775", 7, 8, ""),
    "implied/here": ("0o100644", 0, 0, "h"),
    "implied/there": ("0o100644", 0, 0, "t"),
    "becomes-a-directory": ("0o40755", 0, 0, ""),
    "becomes-a-directory/y": ("0o100644", 0, 0, "y"),
    "becomes-a-file": ("0o100644", 0, 0, "now"),
    "came-back": ("0o100644", 0, 0, "second"),
    "ünï \\ code": ("0o100644", 0, 0, "u"),
}


def look(top: Path) -> dict[str, tuple[str, int, int, str]]:
    """Everything below: path -> mode, owner, group, content, as in EXPECTED."""
    found = {}
    for path in top.rglob("*"):
        status = path.lstat()
        content = ""
        if path.is_symlink():
            content = f"-> {os.readlink(path)}"
        elif path.is_file():
            content = path.read_text()
        elif path.is_char_device():
            content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        found[str(path.relative_to(top))] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def until(what: str, condition: Any, *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.05)
