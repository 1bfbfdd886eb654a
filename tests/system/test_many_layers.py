"""Images of as many layers as the kernel stacks, and of one more."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, lab, root_file_system

from bayplan.errors import Invalid, Unavailable
from bayplan.kernel import linux, overlay
from bayplan.model.image import LAYERS_LIMIT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers take root")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("layers")) as found:
        yield found


def takes_many() -> bool:
    """Whether this kernel takes layers one by one."""
    try:
        context = linux.fsopen("overlay")
    except OSError:
        return False
    try:
        linux.fsconfig(context, linux.FSCONFIG_SET_STRING, "lowerdir+", "/")
    except OSError:
        return False
    finally:
        os.close(context)
    return True


def layer(number: int) -> bytes:
    """The first is the root file system; each other has a file of its own, one that it overwrites, and hides the one before it."""
    if number == 0:
        return root_file_system()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in ((f"own/{number}", b""), ("last", b"%d\n" % number), (f"own/.wh.{number - 1}", b"")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def docker_archive(path: Path, name: str, count: int) -> Path:
    plain = [layer(number) for number in range(count)]
    digests = [hashlib.sha256(data).hexdigest() for data in plain]
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [f"{digest}.tar" for digest in digests]}]
    members = [(f"{digest}.tar", data) for digest, data in zip(digests, plain)]
    members += [("config.json", json.dumps(config).encode()), ("manifest.json", json.dumps(manifest).encode())]
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.skipif(not takes_many(), reason="this kernel takes only as many layers as one page names")
@pytest.mark.parametrize("count", [300, LAYERS_LIMIT])
def test_an_image_of_hundreds_of_layers_runs(host: Lab, tmp_path: Path, count: int) -> None:
    name = f"many:{count}"
    host.ok("load", "-i", str(docker_archive(tmp_path / "many.tar", name, count)))
    script = "cat last; ls own; echo new > own/new; cat own/new"
    assert host.ok("run", "--rm", name, "sh", "-c", script) == f"{count - 1}\n{count - 1}\nnew\n"
    assert host.ok("run", "--rm", "-v", "/own", name, "ls", "/own") == f"{count - 1}\n", "a volume is filled from it, too"
    assert host.ok("run", "--rm", "--userns", "private", name, "cat", "last") == f"{count - 1}\n"
    host.ok("rmi", name)
    assert len(os.listdir(host.root / "layers")) == 1, "all of them go"


def test_one_more_is_refused_before_anything_is_stored(host: Lab, tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "many.tar", "many:501", LAYERS_LIMIT + 1)
    done = host.run("load", "-i", str(archive))
    assert done.returncode == 1 and "501 layers" in done.stderr and "bayplan image flatten" in done.stderr, done
    assert len(os.listdir(host.root / "layers")) == 1 and host.ok("images", "--format", "{{.Repository}}") == "box\n"


def test_a_manifest_of_one_more_is_refused_in_the_same_words(host: Lab, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    data = gzip.compress(layer(1))
    described = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": len(data), "digest": f"sha256:{'1' * 64}"}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}"}
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [described] * (LAYERS_LIMIT + 1)}
    text = json.dumps(manifest).encode()
    digest = hashlib.sha256(text).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(text)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "manifests": [{"mediaType": media_type, "size": len(text), "digest": f"sha256:{digest}"}]}
    (layout / "index.json").write_text(json.dumps(index))
    done = host.run("load", "-i", str(layout))
    assert done.returncode == 1 and "501 layers" in done.stderr and "bayplan image flatten" in done.stderr, done


def test_more_than_the_kernel_stacks_is_said_whatever_made_them_so_many(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"502 layers.*bayplan image flatten"):
        overlay.mount_many(("x",) * 502, str(tmp_path))


def test_a_kernel_that_takes_no_layers_one_by_one_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: str) -> int:
        raise OSError(38, "Function not implemented", kind)

    monkeypatch.setattr(linux, "fsopen", refuse)
    with pytest.raises(Unavailable, match=r"one page.*bayplan image flatten"):
        overlay.mount_many(("x",) * 400, str(tmp_path))


def test_few_layers_are_mounted_as_ever(host: Lab) -> None:
    assert host.ok("run", "--rm", IMAGE, "sh", "-c", "echo here") == "here\n"
