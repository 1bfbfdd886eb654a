"""Run bundles by every runtime, in a mount namespace of its own, and print what was seen: one JSON object a line.

    python run.py DIRECTORY SEED FIRST LAST NAME=COMMAND...

Whatever it mounts and starts ends with it. Takes root, gcc and cgroup version 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import bundles
import runtimes
import sight
from bundles import Place

INSIDE = "BAYPLAN_OCI_INSIDE"
CGROUPS = Path("/sys/fs/cgroup")
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: Sequence[str]) -> int:
    if INSIDE not in os.environ:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, *arguments]
        return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode
    directory, seed, first, last = Path(arguments[0]), *(int(number) for number in arguments[1:4])
    known = [runtimes.Runtime(name, tuple(command.split())) for name, _, command in (each.partition("=") for each in arguments[4:])]
    mount_controllers()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # nobody else is sure to reap what a runtime leaves
    with namespaces() as joined:
        place = prepare(directory, joined)
        for number in range(first, last):
            print(json.dumps({"number": number, **look(bundles.generate(seed, number, place), known, place)}), flush=True)
            reap()
    return 0


def look(bundle: bundles.Bundle, known: list[runtimes.Runtime], place: Place) -> dict[str, object]:
    """The bundle's configuration, and what came of it in each runtime."""
    found = {}
    for runtime in known:
        container = f"bayplan-oci-{os.getpid()}-{bundle.number}-{runtime.name}"
        seen = runtimes.run(runtime, bundle, place, container)
        fields = [[*key, value] for key, value in sight.reduce(seen, place, container).items()] if seen.fields else []
        found[runtime.name] = {"fields": fields, "status": seen.status, "said": seen.said}
    return {"config": bundle.config, "seen": found}


def prepare(directory: Path, joined: dict[str, str]) -> Place:
    """The probe, and something to bind: a file, and a directory with a file system mounted in it."""
    place = Place(directory, joined, directory.stat().st_dev)
    source = Path(__file__).with_name("probe.c")
    subprocess.run(["gcc", "-O1", "-static", "-o", place.probe, source], check=True)
    (place.sources / "tree" / "sub").mkdir(parents=True)
    (place.sources / "file").write_text("a file")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=64k", "tmpfs", place.sources / "tree" / "sub"], check=True)
    subprocess.run(["mount", "--bind", place.sources, place.sources], check=True)
    subprocess.run(["mount", "--make-rshared", place.sources], check=True)
    place.log.mkdir(mode=0o777)
    place.log.chmod(0o777)
    return place


def mount_controllers() -> None:
    """All controllers of version 1 that bundles limit: crun wants that of huge pages even where it is not asked for."""
    assembled = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "cgroups", assembled], check=True)
    for each in CGROUPS.iterdir():
        if each.is_symlink():
            (assembled / each.name).symlink_to(os.readlink(each))
        elif each.is_dir():
            (assembled / each.name).mkdir()
            subprocess.run(["mount", "--bind", each, assembled / each.name], check=True)
    hugetlb = assembled / "hugetlb"
    hugetlb.mkdir(exist_ok=True)
    if not (hugetlb / "cgroup.procs").exists():
        subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", hugetlb], check=True)
    subprocess.run(["umount", "--recursive", "--lazy", CGROUPS], check=True)
    subprocess.run(["mount", "--move", assembled, CGROUPS], check=True)
    assembled.rmdir()


@contextmanager
def namespaces() -> Iterator[dict[str, str]]:
    """Paths of namespaces to join, by type; a process holds them."""
    holder = subprocess.Popen(["unshare", "--net", "--ipc", "--uts", "sh", "-c", "echo ready; exec sleep infinity"], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    try:
        names = {"network": "net", "ipc": "ipc", "uts": "uts"}
        yield {kind: f"/proc/{holder.pid}/ns/{name}" for kind, name in names.items()}
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
