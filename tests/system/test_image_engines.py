"""Images that were made here in Docker, Podman and skopeo, and theirs here: the trees are the same."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, lab
from test_image_changes import CHANGE, layers, raw
from test_oci_engines import ENVIRONMENT, NEEDED, Engine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
HOSTS = {
    "dev",
    "proc",
    "sys",
    "run",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    ".dockerenv",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "etc/mtab",
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("engines")) as found:
        found.ok(
            "run",
            "--name",
            "seed",
            IMAGE,
            "sh",
            "-c",
            "mkdir /old /opaque; echo x > /old/file; echo y > /opaque/hidden; echo z > /etc/kept",
        )
        found.ok("commit", "seed", "seed:1")
        found.ok("run", "--name", "two", "seed:1", "sh", "-c", CHANGE)
        assert found.run("commit", "two", "made:1").returncode == 0
        found.ok("image", "flatten", "made:1", "flat:1")
        found.ok("image", "flatten", "--keep", "1", "made:1", "partly:1")
        yield found


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    programs = ("podman", "conmon") if request.param == "podman" else ("docker", "dockerd", "containerd")
    missing = [program for program in (*programs, *NEEDED) if not shutil.which(program, path=ENVIRONMENT["PATH"])]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    directory = Path(tempfile.mkdtemp(prefix="bpe", dir="/var/tmp"))
    found = Engine(request.param, directory)
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(directory)


def tree(archive: bytes) -> dict[str, tuple[object, ...]]:
    """What an export shows of a root file system. Whole seconds: Docker and Podman keep no more. What each makes for itself is left out."""
    found: dict[str, tuple[object, ...]] = {}
    groups: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        for each in file:
            name = each.name.removeprefix("./").rstrip("/")
            if name in HOSTS or not name or name == ".wh.etc":
                continue
            if each.islnk():  # which of several names is the file depends on the order
                groups[name] = each.linkname.removeprefix("./")
                each = file.getmember(each.linkname)
            content = file.extractfile(each) if each.isreg() else None
            data = hash(content.read()) if content else None
            kind = each.type if not each.isreg() else b"0"
            found[name] = (
                kind,
                each.mode & 0o7777,
                each.uid,
                each.gid,
                each.isdir() or int(each.mtime),
                each.linkname,
                each.devmajor,
                each.devminor,
                data,
            )
    return found


def exported(host: Lab, name: str) -> dict[str, tuple[object, ...]]:
    host.ok("create", "--name", "look", name, "sh")
    try:
        return tree(raw(host, "export", "look"))
    finally:
        host.ok("rm", "look")


def theirs(engine: Engine, name: str) -> dict[str, tuple[object, ...]]:
    engine.ok("create", "--name", "look", name, "/bin/sh")
    try:
        engine.ok("export", "-o", str(engine.directory / "export.tar"), "look")
        return tree((engine.directory / "export.tar").read_bytes())
    finally:
        engine.ok("rm", "-f", "look")


@pytest.mark.parametrize("name", ["made:1", "flat:1", "partly:1"])
def test_an_engine_loads_what_was_committed_and_flattened(host: Lab, engine: Engine, name: str) -> None:
    host.ok("save", "-o", str(engine.directory / "saved.tar"), name)
    engine.ok("load", "-i", str(engine.directory / "saved.tar"))
    want = exported(host, name)
    found = theirs(engine, name if engine.name == "docker" else f"docker.io/library/{name}")
    assert found == want, "every file, with its kind, mode, owner, time, links and content"
    assert want["etc/kept"][1] == 0o4755 and want["etc/new"][2:4] == (70000, 3000000) and "old" not in want and "opaque/hidden" not in want


def test_what_an_engine_saves_is_loaded_flattened_and_exported(host: Lab, engine: Engine) -> None:
    host.ok("save", "-o", str(engine.directory / "saved.tar"), "seed:1")
    engine.ok("load", "-i", str(engine.directory / "saved.tar"))
    base = "seed:1" if engine.name == "docker" else "docker.io/library/seed:1"
    engine.ok(
        "run", "--name", "change", "--network", "none", "--cap-add", "MKNOD", base, "/bin/sh", "-c", CHANGE.replace("touch /.wh.etc", "")
    )
    engine.ok("commit", "change", "theirs:1")
    engine.ok("save", "-o", str(engine.directory / "theirs.tar"), "theirs:1")
    said = host.ok("load", "-i", str(engine.directory / "theirs.tar"))
    name = said.partition(": ")[2].strip()
    assert len(layers(host, name)) == 3
    want = theirs(engine, "theirs:1")
    assert exported(host, name) == want
    host.ok("image", "flatten", name, "flattened:1")
    assert exported(host, "flattened:1") == want and len(layers(host, "flattened:1")) == 1
    host.ok("rmi", "flattened:1", name)


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_skopeo_copies_a_saved_image_and_keeps_its_digests(host: Lab, tmp_path: Path, format: str) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("needs skopeo")
    host.ok("save", "--format", format, "-o", str(tmp_path / "saved.tar"), "made:1")
    command = ["skopeo", "copy", "--insecure-policy", f"{format}:{tmp_path}/saved.tar", f"oci:{tmp_path}/layout:made"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = host.ok("load", "-i", str(tmp_path / "layout"))
    loaded = said.partition(": ")[2].strip()
    assert layers(host, loaded) == layers(host, "made:1")
