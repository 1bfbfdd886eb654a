"""All measurements that docs/benchmarks.md shows, side by side in one run: `make bench`.

    python tests/bench/run.py [--rounds N] [--output FILE] [start] [pull] [monitors] [scale] [converge]

Takes root. It happens in network, mount and process namespaces of its own, so that servers, bridges, rules and mounts end with it;
what lies on disk is in one temporary directory. Docker, Podman, runc and crun are compared where Debian's packages of them are installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path[:0] = [str(PROJECT / "runtime"), str(PROJECT / "tests" / "hosts")]
INSIDE = "BAYPLAN_BENCH_INSIDE"
PARTS = ("start", "pull", "monitors", "scale", "converge")
CONTAINERS = 500
MONITORS = 50
REGISTRY = "127.0.0.1:5000"

import converge  # noqa: E402
import engines  # noqa: E402
import images  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import scale  # noqa: E402
from engines import Engine  # noqa: E402
from measure import Command  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure bayplan beside other engines.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them unless named")
    parser.add_argument("--rounds", type=int, default=15, help="how often each start is measured (a third of it for what takes seconds)")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "benchmarks.md")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - set(PARTS)
    if unknown or os.geteuid() != 0:
        parser.error(f"there is no part {', '.join(unknown)}" if unknown else "making namespaces takes root")
    if INSIDE not in os.environ:
        return enter(arguments)
    prepare()
    directory = Path(tempfile.mkdtemp(prefix="bayplan-bench-", dir="/var/tmp"))
    try:
        for part in given.parts or PARTS:  # what has been measured is written, whatever comes of the next
            report.write(given.output, MEASURED[part](directory, given.rounds), rounds=given.rounds)
    finally:
        engines.remove_cgroups()  # here all hierarchies are mounted
        shutil.rmtree(directory, ignore_errors=True)
    print(given.output.read_text())
    return 0


def enter(arguments: Sequence[str]) -> int:
    """Run this program again in namespaces of its own; whatever still runs in them when it ends is killed by the kernel."""
    namespaces = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private"]
    command = ["unshare", *namespaces, sys.executable, __file__, *arguments]
    status = subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode
    engines.remove_cgroups()
    return status


def prepare() -> None:
    """What Docker, Podman and crun ask of a machine: a loopback, a place for sockets, all controllers of version 1 if any is."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
    if Path("/sys/fs/cgroup/memory").is_dir() and not Path("/sys/fs/cgroup/hugetlb/cgroup.procs").exists():
        Path("/sys/fs/cgroup/hugetlb").mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", "/sys/fs/cgroup/hugetlb"], check=False)
        if not engines.crun_works():  # somebody else has the hierarchy, read-only
            subprocess.run(["umount", "/sys/fs/cgroup/hugetlb"], check=False)


@contextmanager
def peers(directory: Path) -> Iterator[list[Engine]]:
    """bayplan first, and beside it those that are installed."""
    found = [engines.bayplan(directory / "bayplan"), engines.docker(directory / "docker"), engines.podman(directory / "podman")]
    there = [each for each in found if each]
    try:
        yield there
    finally:
        for each in there:
            if each.server:
                os.kill(each.server, 15)
                os.waitpid(each.server, 0)


def start(directory: Path, rounds: int) -> list[report.Section]:
    """`run --rm IMAGE /bin/true`, from the command's start to its end."""
    rootfs = make_rootfs(directory / "rootfs")
    with peers(directory) as there:
        engines.load(there, rootfs)
        commands = {each.name: Command(each.run(*each.network), each.environment) for each in there}
        commands |= {f"{each.name}, no network": Command(each.run("--network", "none", *each.network), each.environment) for each in there}
        bare = engines.oci_runtimes(directory / "oci", directory / "rootfs", there[0])
        commands |= {each.name: Command(each.argv, each.environment) for each in bare}
        interpreter = Path(there[0].argv[0]).read_text().splitlines()[0][2:].split()[0]
        commands["python3 -I -S -c pass"] = Command((interpreter, "-I", "-S", "-c", "pass"), engines.ENVIRONMENT)
        results = measure.interleaved(commands, rounds=rounds)
    return [report.starts(results, versions=[*there, *bare])]


def make_rootfs(directory: Path) -> Path:
    """A root file system of busybox-static, and an archive of it."""
    (directory / "bin").mkdir(parents=True)
    for name in ("dev", "proc", "sys", "etc", "tmp"):
        (directory / name).mkdir()
    shutil.copy("/bin/busybox", directory / "bin" / "busybox")
    for applet in ("true", "sh", "sleep", "nslookup"):
        (directory / "bin" / applet).symlink_to("busybox")
    with tarfile.open(directory.with_suffix(".tar"), "w") as archive:
        archive.add(directory, arcname=".")
    return directory.with_suffix(".tar")


def pull(directory: Path, rounds: int) -> list[report.Section]:
    """A large image from a registry on this machine: seconds, and the most memory at once."""
    place = directory / "pull"
    images.start_registry(place / "registry", REGISTRY)
    try:
        name = f"{REGISTRY}/large:1"
        said = subprocess.run([sys.executable, HERE / "large_image.py", name], check=True, capture_output=True, text=True).stdout
        with peers(place) as there:
            results = alternate(there, name, max(2, rounds // 5))
    finally:
        images.stop_registry(place / "registry")
    return [report.pulls(results, said.strip())]


def alternate(there: Sequence[Engine], name: str, rounds: int) -> dict[str, measure.Result]:
    found: dict[str, list[tuple[float, int]]] = {each.name: [] for each in there}
    for _ in range(rounds):
        for each in there:
            found[each.name].append(measure.with_peak(Command(each.pull(name), each.environment, os.sync), server=each.server))
            each.do("rmi", "--force", name)
    return {
        each: measure.Result(tuple(seconds for seconds, _ in values), max(peak for _, peak in values)) for each, values in found.items()
    }


def monitors(directory: Path, rounds: int) -> list[report.Section]:
    """What stays in memory for each of fifty containers, when each has looked a name up."""
    engine = engines.bayplan(directory / "resident")
    engine.do("import", str(make_rootfs(directory / "small")), engines.IMAGE)
    engine.do("network", "create", "bench")
    names = [f"c{number}" for number in range(MONITORS)]
    for name in names:
        engine.do("run", "--detach", "--network", "bench", "--name", name, engines.IMAGE, "sleep", "100000")
    for name in names:
        engine.do("exec", name, "nslookup", f"c{(names.index(name) + 1) % MONITORS}")
    time.sleep(1)
    shares, others = resident(directory / "resident")
    for name in names:
        engine.do("rm", "--force", name)
    engine.do("network", "rm", "bench")
    return [report.memory(shares, others)]


def many(directory: Path, rounds: int) -> list[report.Section]:
    """Whether the last of many containers starts as the first, and what listing and keeping them costs."""
    engine = engines.bayplan(directory / "many")
    engine.do("import", str(make_rootfs(directory / "smallest")), engines.IMAGE)
    found = scale.measure(engine, CONTAINERS)
    shares, _ = resident(directory / "many")
    scale.remove(engine, ["warm", *(f"c{number}" for number in range(CONTAINERS))])
    return [report.many(found, shares)]


def resident(root: Path) -> tuple[list[int], list[str]]:
    """The monitors' proportional shares in bytes, and the command lines of whatever else of a state runs."""
    shares, others = [], []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if any(word.startswith(str(root)) for word in line):
            if any(word.endswith("/supervise/monitor.py") for word in line):
                shares.append(measure.share(int(entry.name)))
            else:
                others.append(" ".join(line))
    return shares, others


def converges(directory: Path, rounds: int) -> list[report.Section]:
    """Playbooks with nothing to do beside playbooks that only ping."""
    return [report.converges(converge.measured(max(3, rounds // 3)))]


MEASURED: Mapping[str, Callable[[Path, int], list[report.Section]]] = {
    "start": start,
    "pull": pull,
    "monitors": monitors,
    "scale": many,
    "converge": converges,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
