"""The builders that are compared, each with a state of its own, in mount, network and process namespaces that end with it.

buildkit and classic are Docker's two, buildah is buildah, ours is bayplan. With `userland` (a directory with a distribution in it), all but
ours come from there, so that newer versions than the host's can be asked.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import base
import image_reader as images
from dockerfile_cases import Case, lay_out

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
CGROUPS = Path("/sys/fs/cgroup")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
NAMES = ("buildkit", "classic", "buildah")
BUILT = "localhost/built:1"
LONGEST = 120  # seconds that one build may take
BOUND = ("setpriv", "--pdeathsig", "KILL")  # what begins with this ends with this process, however that ends

# The second half makes another userland the root, as runc and crun need it: a mount, and not only a directory.
INSIDE = """
set -e
ip link set lo up
if [ "$2" != / ]; then
    mount --bind "$2" "$2"
    mount --rbind /sys "$2/sys"
    mount --rbind /dev "$2/dev"
    mkdir -p "$2$1"
    mount --bind "$1" "$2$1"
    cd "$2"
    mkdir -p .before
    pivot_root . .before
    cd /
    mount -t proc proc /proc
    umount -l /.before
fi
mount -t tmpfs -o mode=755 tmpfs /run
echo ready
exec sleep 100000
"""


class Built(NamedTuple):
    """`image` is None where the build has failed; `said` is all that it printed."""

    image: images.Image | None
    said: str


class Lab:
    """Namespaces, the server that cases download from, and the engines that were started in them."""

    def __init__(self, directory: Path, userland: Path = Path("/")) -> None:
        self.directory, self.userland = directory, userland
        self.cgroup = f"bayplan-build{os.getpid()}"
        self.children: list[subprocess.Popen[str]] = []
        self.environment = {**ENVIRONMENT, "HOME": str(directory), "TMPDIR": str(directory)}
        flags = ("--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private")
        command = [*BOUND, "unshare", *flags, "sh", "-c", INSIDE, "lab", str(directory), str(userland)]
        self.outside = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)
        assert self.outside.stdout and self.outside.stdout.readline() == "ready\n", "the namespaces are made"
        self.first = Path(f"/proc/{self.outside.pid}/task/{self.outside.pid}/children").read_text().split()[0]
        self.base = directory / "base.tar"
        base.write(self.base)
        self.tree, self.lowest = (read := images.read_image(self.base)).tree, read.lowest
        self.serve()

    def serve(self) -> None:
        served = self.directory / "served"
        command = ["nsenter", "-t", self.first, "-n", sys.executable, str(Path(__file__).with_name("server.py")), str(served)]
        self.start(command, "server.log")

    def start(self, command: Sequence[str], log: str) -> subprocess.Popen[str]:
        with open(self.directory / log, "w") as file:
            child = subprocess.Popen(
                [*BOUND, *command], stdout=file, stderr=file, env=self.environment, text=True, stdin=subprocess.DEVNULL
            )
        self.children.append(child)
        return child

    def run(
        self, words: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """In the namespaces; both streams are in stdout."""
        enter = ["nsenter", "-t", self.first, "-m", "-n", "-p", "sh", "-c", 'cd "$0" && exec "$@"', str(cwd or self.directory)]
        return subprocess.run(
            [*enter, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace",
            timeout=LONGEST, env={**self.environment, **(environment or {})}, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def ok(self, *words: str) -> str:
        done = self.run(words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}"
        return done.stdout

    def close(self) -> None:
        """All that runs in the namespaces ends with their first process."""
        self.outside.kill()
        self.outside.communicate()
        for child in self.children:
            child.terminate()
            child.wait()
        for hierarchy in {CGROUPS, *CGROUPS.glob("*")}:
            _remove_cgroups(hierarchy / self.cgroup)
        for left in (f"{self.userland}/{self.directory}", f"{self.userland}/.before") if self.userland != Path("/") else ():
            with contextlib.suppress(OSError):
                os.rmdir(left)


def _remove_cgroups(top: Path) -> None:
    deadline = time.monotonic() + 5
    while top.is_dir() and time.monotonic() < deadline:
        for inner, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # its processes are ending still
                os.rmdir(inner)


class Engine:
    """`version` is what it calls itself."""

    def __init__(self, name: str, lab: Lab) -> None:
        self.name, self.lab = name, lab
        self.directory = lab.directory / name
        self.directory.mkdir()
        self.environment: dict[str, str] = {}

    version = ""

    def build_command(self, image: str, options: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def save_command(self, image: str, archive: Path) -> list[str]:
        raise NotImplementedError

    def build(self, case: Case) -> Built:
        """In a directory of the case's own, which is gone afterwards."""
        place = self.directory / "case"
        lay_out(case, place)
        served = self.lab.directory / "served"
        served.symlink_to(place / "served")
        try:
            return self._build(case, place)
        finally:
            served.unlink()
            shutil.rmtree(place)

    def _build(self, case: Case, place: Path) -> Built:
        environment = {**self.environment, **case.environment}
        for number, (name, text) in enumerate(case.images.items()):
            (place / f"Dockerfile.{number}").write_text(text)
            command = [*self.build_command(name, ["--file", f"Dockerfile.{number}"]), "context"]
            done = self.lab.run(command, cwd=place, environment=environment)
            assert done.returncode == 0, f"{self.name} builds {name} for {case.name}: {done.stdout}"
        done = self.lab.run([*self.build_command(BUILT, case.options), "context"], cwd=place, environment=environment)
        if done.returncode:
            return Built(None, done.stdout)
        archive = self.directory / "built.tar"
        try:
            saved = self.lab.run(self.save_command(BUILT, archive))
            return Built(None if saved.returncode else images.read_image(archive), done.stdout + saved.stdout)
        finally:
            archive.unlink(missing_ok=True)


class Docker(Engine):
    """Both of its builders; one daemon for each, since both keep the images that they have made."""

    def __init__(self, name: str, lab: Lab) -> None:
        super().__init__(name, lab)
        self.environment = {"DOCKER_BUILDKIT": "1" if name == "buildkit" else "0", "BUILDKIT_PROGRESS": "plain", "BUILDX_GIT_INFO": "0"}
        self.argv = ["/usr/bin/docker", "-H", f"unix://{self.directory}/socket"]
        places = {"--data-root": "data", "--exec-root": "exec", "-p": "pid"}
        options = [word for option, path in places.items() for word in (option, f"{self.directory}/{path}")]
        enter = ["nsenter", "-t", lab.first, "-m", "-n", "-p", "dockerd", "-H", f"unix://{self.directory}/socket"]
        bridge = ["--bip", "10.99.1.1/24"] if name == "buildkit" else ["--bridge", "none"]
        server = lab.start([*enter, *options, *bridge, "--cgroup-parent", f"/{lab.cgroup}"], f"{name}.log")
        deadline = time.monotonic() + 60
        while lab.run([*self.argv, "version"]).returncode:
            assert server.poll() is None and time.monotonic() < deadline, (lab.directory / f"{name}.log").read_text()[-2000:]
            time.sleep(0.2)
        self.version = "docker " + lab.ok(*self.argv, "version", "--format", "{{.Server.Version}}").strip()
        lab.ok(*self.argv, "load", "--input", str(lab.base))

    def build_command(self, image: str, options: Sequence[str]) -> list[str]:
        return [*self.argv, "build", "--tag", image, *options]

    def save_command(self, image: str, archive: Path) -> list[str]:
        return [*self.argv, "save", "--output", str(archive), image]


class Buildah(Engine):
    def __init__(self, name: str, lab: Lab) -> None:
        super().__init__(name, lab)
        (self.directory / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.argv = ["buildah", "--root", f"{self.directory}/root", "--runroot", f"{self.directory}/run", "--storage-driver", "overlay"]
        self.version = lab.ok("buildah", "--version").split(" (")[0]
        lab.ok(*self.argv, "pull", "--signature-policy", f"{self.directory}/policy.json", f"docker-archive:{lab.base}")

    def build_command(self, image: str, options: Sequence[str]) -> list[str]:
        own = [
            "--layers",
            "--format",
            "docker",
            "--identity-label=false",
            "--isolation",
            "oci",
            "--runtime",
            "runc",
            "--cgroup-parent",
            f"/{self.lab.cgroup}",
        ]
        own += ["--cap-add", "MKNOD"]
        own += ["--signature-policy", f"{self.directory}/policy.json"]
        for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):  # its defaults may be beyond ours
            own += ["--ulimit", name + "={}:{}".format(*resource.getrlimit(limit))]
        return [*self.argv, "build", *own, "--tag", image, *options]

    def save_command(self, image: str, archive: Path) -> list[str]:
        archive.unlink(missing_ok=True)
        return [*self.argv, "push", "--signature-policy", f"{self.directory}/policy.json", image, f"docker-archive:{archive}"]


class Bayplan(Engine):
    def __init__(self, name: str, lab: Lab) -> None:
        super().__init__(name, lab)
        code = f"import sys; sys.path.insert(0, {str(RUNTIME)!r}); from bayplan.cli.main import main; main(sys.argv[1:])"
        self.argv = [sys.executable, "-I", "-S", "-c", code, "--root", str(self.directory / "state")]
        lab.ok(*self.argv, "load", "--input", str(lab.base))

    def build_command(self, image: str, options: Sequence[str]) -> list[str]:
        return [*self.argv, "build", "--tag", image, *options]

    def save_command(self, image: str, archive: Path) -> list[str]:
        return [*self.argv, "save", "--output", str(archive), image]

    def close(self) -> None:
        self.lab.ok(*self.argv, "uninstall", "--force", "--volumes")


MAKERS = {"buildkit": Docker, "classic": Docker, "buildah": Buildah, "ours": Bayplan}
