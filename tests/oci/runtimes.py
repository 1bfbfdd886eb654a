"""One bundle run by one runtime, and what was seen: by the process inside, and on the host while it ran."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bundles import Bundle, Place

CGROUPS = Path("/sys/fs/cgroup")
VALUES = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness",
               "memory.oom_control"),
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "pids": ("pids.max",),
    "devices": ("devices.list",),
    "hugetlb": ("hugetlb.2MB.limit_in_bytes",),
    "freezer": ("freezer.state",),
    "blkio": tuple(f"blkio.throttle.{name}_device" for name in ("read_bps", "write_bps", "read_iops", "write_iops")),
    "cpuacct": (),
    "systemd": (),
}  # fmt: skip
SECONDS = 20


class Runtime(NamedTuple):
    name: str
    command: tuple[str, ...]

    def argv(self, place: Place, *arguments: str) -> list[str]:
        return [*self.command, "--root", str(place.directory / f"state-{self.name}"), *arguments]


class Seen(NamedTuple):
    """`fields` maps (field, name) to a value, and is empty where the runtime has refused the bundle, in the words of `said`."""

    fields: dict[tuple[str, str], str]
    status: int
    said: str


def run(runtime: Runtime, bundle: Bundle, place: Place, container: str) -> Seen:
    """Run it in a fresh root file system as `container`, and remove it again if the runtime has not."""
    make_bundle(bundle, place, container)
    cgroups, status, text, ready = {}, -1, "", False
    try:
        with started(runtime.argv(place, "run", "--bundle", str(place.directory / "bundle"), container), terminal=bundle.terminal) as child:
            text, ready = child.read_until("ready")
            if ready:
                cgroups = dict(cgroup_values(container))
                child.release()
            text += child.read_until(None)[0]
            status = child.wait()
    except TimeoutError as error:
        delete(runtime, place, container)
        return Seen({}, -1, str(error))
    said = (place.directory / "stderr").read_text(errors="replace").strip()
    if not ready:
        delete(runtime, place, container)
        return Seen({}, status, said or text.strip())
    fields = {(field, name): value for line in text.splitlines() for field, name, value in [(*line.split("\t", 2), "", "")[:3]] if name}
    fields |= {("cgroups", name): value for name, value in cgroups.items()} | dict(hook_fields(place.log / "told"))
    fields |= {("left in the root", name): value for name, value in tree(place.directory / "bundle" / "rootfs")}
    fields["end", "status"] = str(status)
    fields["end", "mounts on the host"] = " ".join(remove_mounts(place))
    fields["end", "cgroup"] = "there" if any((CGROUPS / name / container).exists() for name in VALUES) else "gone"
    state = subprocess.run(runtime.argv(place, "state", container), capture_output=True, text=True, check=False)
    fields["end", "state"] = "there" if state.returncode == 0 else "gone"
    delete(runtime, place, container)
    return Seen(fields, status, said)


def delete(runtime: Runtime, place: Place, container: str) -> None:
    subprocess.run(runtime.argv(place, "delete", "--force", container), capture_output=True, check=False)
    for name in (*VALUES, "unified"):  # crun leaves the one of version 2
        directory = CGROUPS / name / container
        if directory.is_dir():
            os.rmdir(directory)


def make_bundle(bundle: Bundle, place: Place, container: str) -> None:
    """The configuration and a root file system that nobody has written to."""
    directory = place.directory / "bundle"
    subprocess.run(["rm", "-rf", "--one-file-system", directory], check=True)  # never into what a runtime has left mounted
    rootfs = directory / "rootfs"
    for name in ("dev", "proc", "sys", "etc", "tmp", "data/inner", "srv", "mnt", "bin"):
        (rootfs / name).mkdir(parents=True)
    os.link(place.probe, rootfs / "probe")
    (rootfs / "bin" / "tool").symlink_to("../probe")
    (rootfs / "link").symlink_to("/data")
    (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (rootfs / "etc" / "group").write_text("root:x:0:\naudio:x:29:user\nuser:x:1000:\n")
    (rootfs / "etc" / "secret").write_text("secret")
    (rootfs / "data" / "file").write_text("data")
    (rootfs / "tmp").chmod(0o1777)
    if bundle.owner:
        for path in (rootfs, *rootfs.rglob("*")):
            if path.name != "probe":
                os.chown(path, bundle.owner, bundle.owner, follow_symlinks=False)
    (directory / "config.json").write_text(json.dumps(bundle.config).replace("{id}", container))
    (place.log / "told").write_text("")
    (place.log / "told").chmod(0o666)  # hooks inside are the container's user


class Child:
    """A runtime in the foreground, with the container's standard streams."""

    def __init__(self, process: subprocess.Popen[bytes], source: int, sink: int) -> None:
        self.process, self._source, self._sink = process, source, sink
        self._deadline = time.monotonic() + SECONDS

    def read_until(self, line: str | None) -> tuple[str, bool]:
        """What it wrote, up to `line` or to its end, and whether the line came."""
        text = b""
        while line is None or f"\n{line}\n".encode() not in text.replace(b"\r", b""):
            readable, _, _ = select.select([self._source], [], [], max(0, self._deadline - time.monotonic()))
            if not readable:
                self.process.kill()
                raise TimeoutError(f"{self.process.args!r} took longer than {SECONDS} s; so far: {text!r}")
            try:
                piece = os.read(self._source, 65536)
            except OSError as error:
                if error.errno != errno.EIO:  # a terminal whose other end is closed
                    raise
                piece = b""
            if not piece:
                return text.decode(errors="replace").replace("\r", ""), False
            text += piece
        return text.decode(errors="replace").replace("\r", ""), True

    def release(self) -> None:
        os.write(self._sink, b"\n")

    def wait(self) -> int:
        return self.process.wait(max(1, self._deadline - time.monotonic()))


@contextmanager
def started(command: Sequence[str], *, terminal: bool) -> Iterator[Child]:
    errors = Path(command[command.index("--bundle") + 1]).parent / "stderr"
    with errors.open("wb") as stderr:
        child = _on_terminal(command, stderr.fileno()) if terminal else _on_pipes(command, stderr.fileno())
    try:
        yield child
    finally:
        if child.process.poll() is None:
            child.process.kill()
            child.process.wait()
        os.close(child._source)
        if child._sink != child._source:
            os.close(child._sink)


def _on_pipes(command: Sequence[str], stderr: int) -> Child:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment())
    assert process.stdin and process.stdout
    source, sink = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
    process.stdin.close()
    process.stdout.close()
    return Child(process, source, sink)


def _on_terminal(command: Sequence[str], stderr: int) -> Child:
    master, slave = os.openpty()

    def take() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=stderr, preexec_fn=take, env=environment())
    os.close(slave)
    return Child(process, master, master)


def environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def cgroup_values(container: str) -> Iterator[tuple[str, str]]:
    """What the host says of the container's cgroups, at the moment."""
    for controller, files in VALUES.items():
        directory = CGROUPS / controller / container
        if not directory.is_dir():
            yield controller, "absent"
            continue
        yield controller, "joined" if (directory / "cgroup.procs").read_text() else "empty"
        for name in files:
            if (directory / name).exists():
                yield name, " ".join(sorted((directory / name).read_text().splitlines()))


def hook_fields(told: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """What the hooks wrote, in the order in which they ran."""
    count: dict[str, int] = {}
    order = []
    for line in told.read_text().splitlines() if told.exists() else ():
        field, name, value = line.split("\t", 2)
        if name == "state":
            count[field] = count.get(field, 0) + 1
            order.append(field.removeprefix("hook "))
            yield from ((((f"{field} {count[field]}"), f"state.{key}"), str(each)) for key, each in json.loads(value or "{}").items())
        else:
            yield ((f"{field} {count[field]}", f"env {value}" if name == "env" else name), value)
    yield ("hooks", "order"), " ".join(order)


def remove_mounts(place: Place) -> list[str]:
    """What a container has mounted on the host, by way of a source that it shares; it is gone afterwards."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4] for line in lines if line.split(" ")[4].startswith(f"{place.sources}/")]
    points.remove(str(place.sources / "tree" / "sub"))
    for point in reversed(points):
        subprocess.run(["umount", point], check=True)
    return sorted(points)


def tree(rootfs: Path) -> Iterator[tuple[str, str]]:
    """Every file that is in the root file system afterwards."""
    for path in sorted(rootfs.rglob("*")):
        status = path.lstat()
        yield f"/{path.relative_to(rootfs)}", f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
