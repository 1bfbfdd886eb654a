"""The engines that are compared: each with a state of its own in the benchmark's directory, each one's commands spelled alike."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import archive  # runtime/archive.py

IMAGE = "localhost/bench:1"
CGROUP = "bayplan-bench"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


class Engine(NamedTuple):
    """`argv` begins every command of it; `server` is the pid of what it leaves running, 0 where there is nothing."""

    name: str
    version: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    network: tuple[str, ...] = ()
    server: int = 0

    def do(self, *words: str) -> str:
        """Run a command; its output. Raises RuntimeError with its error."""
        done = subprocess.run((*self.argv, *words), env=self.environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{' '.join((*self.argv, *words))}: {done.stderr}")
        return done.stdout

    def run(self, *options: str) -> tuple[str, ...]:
        return (*self.argv, "run", "--rm", *options, IMAGE, "/bin/true")

    def pull(self, reference: str) -> tuple[str, ...]:
        insecure = ("--tls-verify=false",) if self.name == "podman" else ()
        return (*self.argv, "pull", "--quiet", *insecure, reference)


INSTALL = """
import sys
archive, digest, root = sys.argv[1:]
sys.path.insert(0, archive)
from bayplan.install import install
with open(archive, "rb") as file:
    install(file.read(), digest, root)
"""


def bayplan(directory: Path) -> Engine:
    """The runtime as it is on a host: the archive unpacked and compiled by the distribution's Python, started by its launcher."""
    made = archive.build()
    directory.mkdir(parents=True, exist_ok=True)
    carried = directory.with_suffix(".zip")
    carried.write_bytes(made)
    subprocess.run(["python3", "-c", INSTALL, carried, archive.digest(made), directory], env=ENVIRONMENT, check=True)
    launcher = f"{directory}/bin/bayplan"
    interpreter = Path(launcher).read_text().splitlines()[0][2:].split()[0]
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    python = subprocess.run([interpreter, "-V"], capture_output=True, text=True, check=True).stdout.strip()
    return Engine("bayplan", f"{version} on {python}", (launcher,), ENVIRONMENT)


def docker(directory: Path) -> Engine | None:
    """A daemon of our own; None where Docker is not installed."""
    if not installed("dockerd", "docker"):
        return None
    directory.mkdir(parents=True)
    socket = f"unix://{directory}/docker.sock"
    options = ["--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "-H", socket, "-p", f"{directory}/pid"]
    with open(directory / "log", "w") as log:
        server = subprocess.Popen(["dockerd", *options, "--cgroup-parent", f"/{CGROUP}"], env=ENVIRONMENT, stdout=log, stderr=log)
    engine = Engine("docker", "", ("docker", "-H", socket), ENVIRONMENT, server=server.pid)
    for _ in range(300):
        if server.poll() is not None:
            break
        try:
            return engine._replace(version=engine.do("version", "--format", "{{.Client.Version}}, daemon {{.Server.Version}}").strip())
        except RuntimeError:
            time.sleep(0.1)
    raise RuntimeError(f"dockerd does not start: {(directory / 'log').read_text()[-2000:]}")


def crun_works() -> bool:
    """Whether crun finds all of version 1's controllers, or version 2."""
    return not Path("/sys/fs/cgroup/memory").is_dir() or os.access("/sys/fs/cgroup/hugetlb/cgroup.procs", os.W_OK)


def podman(directory: Path) -> Engine | None:
    """With a store of its own; None where it is not installed."""
    if not installed("podman"):
        return None
    directory.mkdir(parents=True)
    settings = directory / "containers.conf"  # raising limits beyond what we have ourselves is refused
    settings.write_text('[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
    argv = ("podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp")
    argv += () if crun_works() else ("--runtime", "runc")
    environment = {**ENVIRONMENT, "CONTAINERS_CONF": str(settings), "HOME": str(directory)}
    engine = Engine("podman", "", (*argv, "--log-level", "error"), environment, network=("--cgroup-parent", f"/{CGROUP}"))
    version = engine.do("version", "--format", "{{.Client.Version}}").strip()
    runtime = engine.do("info", "--format", "{{.Host.OCIRuntime.Name}}").strip()
    return engine._replace(version=f"{version} with {runtime}")


def oci_runtimes(directory: Path, rootfs: Path, own: Engine) -> list[Engine]:
    """Bare OCI runtimes, ours first, with one bundle that is ready: no image, no store, no network set up."""
    directory.mkdir(parents=True)
    launcher = f"{own.argv[0]}-oci"
    subprocess.run([launcher, "spec"], cwd=directory, check=True, env=ENVIRONMENT)
    document = json.loads((directory / "config.json").read_text())
    document["ociVersion"] = "1.0.2"  # what the peers know
    document["process"]["terminal"] = False
    document["process"]["args"] = ["/bin/true"]
    document["root"] = {"path": str(rootfs), "readonly": True}
    document["linux"]["cgroupsPath"] = f"/{CGROUP}/oci"
    document["linux"]["namespaces"] = [each for each in document["linux"]["namespaces"] if each["type"] != "cgroup"]
    document["linux"]["seccomp"] = published_seccomp()
    (directory / "config.json").write_text(json.dumps(document))
    found = [
        ("bayplan-oci", launcher),
        *((name, name) for name in ("runc", "crun") if installed(name) and (name == "runc" or crun_works())),
    ]
    return [_oci_runtime(name, program, directory) for name, program in found]


def _oci_runtime(name: str, program: str, directory: Path) -> Engine:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    argv = (program, "--root", f"{directory}/{name}", "run", "--bundle", str(directory), "bench")
    return Engine(f"{name}, bundle ready", said[2], argv, ENVIRONMENT)


def _applies(includes: Mapping[str, Sequence[str]], excludes: Mapping[str, Sequence[str]]) -> bool:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    return not includes.get("caps") and machine in (includes.get("arches") or [machine]) and machine not in (excludes.get("arches") or ())


def published_seccomp() -> dict[str, object]:
    """A filter such as engines give every container: the profile that containers-common publishes, for a process without capabilities."""
    place = Path("/usr/share/containers/seccomp.json")
    if not place.exists():
        return {"defaultAction": "SCMP_ACT_ALLOW"}
    document = json.loads(place.read_text())
    rules = [each for each in document["syscalls"] if _applies(each.get("includes") or {}, each.get("excludes") or {})]
    members = ("names", "action", "errnoRet", "args")
    return {
        "defaultAction": document["defaultAction"],
        "defaultErrnoRet": document["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{name: rule[name] for name in members if rule.get(name) is not None} for rule in rules],
    }


def installed(*programs: str) -> bool:
    return all(shutil.which(program, path=ENVIRONMENT["PATH"]) for program in programs)


def load(engines: Sequence[Engine], rootfs_archive: Path) -> None:
    """Give every engine the same small image."""
    for engine in engines:
        engine.do("import", str(rootfs_archive), IMAGE)


def remove_cgroups() -> None:
    """Remove what the engines leave of their parent cgroup, whose processes have ended."""
    for hierarchy in {Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")}:
        for inner, _, _ in os.walk(hierarchy / CGROUP, topdown=False):
            with contextlib.suppress(OSError):  # its last processes are being ended still: the next one removes it
                os.rmdir(inner)


if __name__ == "__main__":
    sys.exit("this is a part of tests/bench/run.py")
