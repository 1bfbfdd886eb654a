"""Images from and into archives, checked against what Docker and skopeo make of them where these are installed."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from layer_lab import Entry, archive, directory, entry, new_root, overlay, sha256, symlink

from bayplan.engine import archives
from bayplan.engine.pull import Pulled
from bayplan.errors import BayplanError, Invalid, NotFound
from bayplan.store import blobs, layers
from bayplan.store.records import ImageRow
from bayplan.store.root import StateRoot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking layers needs root")

LAYERS = [archive([directory("tmp", mode=0o1777), entry("a", b"1")]), archive([entry(".wh.a"), entry("b", b"2")])]
EXPECTED = ["b", "tmp"]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[StateRoot]:
    found = new_root(tmp_path)
    yield found
    assert os.listdir(found.staging) == [], "nothing stays in staging"


def config(plain: list[bytes], **more: Any) -> bytes:
    diff_ids = [str(sha256(each)) for each in plain]
    document = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["x"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps({**document, **more}).encode()


def docker_entries(plain: list[bytes], *, names: list[str] | None, packed: bool = False, config_name: str = "") -> list[Entry]:
    """What docker save wrote before version 25; the manifest comes last, as it did."""
    text = config(plain)
    name = config_name or f"{sha256(text).hex}.json"
    sources = [f"{sha256(each).hex}/layer.tar" for each in plain]
    manifest = [{"Config": name, "RepoTags": names, "Layers": sources}]
    content = [gzip.compress(each) if packed else each for each in plain]
    files = [entry(source, data) for source, data in zip(sources, content)]
    return [*files, entry(name, text), entry("manifest.json", json.dumps(manifest).encode())]


def oci_files(plain: list[bytes], *, annotations: Mapping[str, str] | None = None) -> dict[str, bytes]:
    kind = "application/vnd.oci.image"
    packed = [gzip.compress(each, mtime=0) for each in plain]
    text = config(plain)
    described = [{"mediaType": f"{kind}.layer.v1.tar+gzip", "digest": str(sha256(each)), "size": len(each)} for each in packed]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": {"mediaType": f"{kind}.config.v1+json", "digest": str(sha256(text)), "size": len(text)},
            "layers": described,
        }
    ).encode()
    top = {"mediaType": f"{kind}.manifest.v1+json", "digest": str(sha256(manifest)), "size": len(manifest)}
    index = {"schemaVersion": 2, "manifests": [{**top, "annotations": annotations} if annotations else top]}
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}
    return {**files, **{f"blobs/sha256/{sha256(each).hex}": each for each in (*packed, text, manifest)}}


def write(tmp_path: Path, entries: list[Entry]) -> str:
    path = tmp_path / "archive.tar"
    path.write_bytes(archive(entries))
    return str(path)


def write_files(tmp_path: Path, files: Mapping[str, bytes]) -> str:
    return write(tmp_path, [entry(name, data) for name, data in files.items()])


def check(root: StateRoot, found: tuple[Pulled, ...]) -> Pulled:
    assert len(found) == 1 and found[0].image_id == sha256(config(LAYERS)), "the image's id is its config's digest"
    assert sorted(overlay(root, found[0].layers)) == EXPECTED
    assert all(blobs.exists(root, each) for each in found[0].blobs)
    return found[0]


@pytest.mark.parametrize("packed", [False, True], ids=["plain layers", "gzipped layers"])
def test_a_docker_archive_is_loaded_with_its_names_only_returned(root: StateRoot, tmp_path: Path, packed: bool) -> None:
    source = write(tmp_path, docker_entries(LAYERS, names=["app:1", "reg.io/app:2"], packed=packed))
    image = check(root, archives.load(source, root=root))
    assert image.names == ("docker.io/library/app:1", "reg.io/app:2"), "what to call it is for the caller to decide"
    assert image.manifest_digest is None and not os.path.exists(root.database), "nothing is recorded"


@pytest.mark.parametrize("codec", ["gzip", "zstd", "bzip2", "xz"])
def test_a_packed_archive_is_loaded(root: StateRoot, tmp_path: Path, codec: str) -> None:
    source = write(tmp_path, docker_entries(LAYERS, names=None))
    packed = tmp_path / "packed"
    packed.write_bytes(subprocess.run([codec, "-c", source], capture_output=True, check=True).stdout)
    check(root, archives.load(str(packed), root=root))


def test_an_archive_comes_from_a_pipe(root: StateRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, docker_entries(LAYERS, names=None))
    saved = os.dup(0)
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as process:
        assert process.stdout
        os.dup2(process.stdout.fileno(), 0)
        try:
            check(root, archives.load("-", root=root))
        finally:
            os.dup2(saved, 0)
            os.close(saved)


def test_an_oci_archive_and_a_layout_s_directory_are_loaded(root: StateRoot, tmp_path: Path) -> None:
    files = oci_files(LAYERS, annotations={"org.opencontainers.image.ref.name": "reg.io/app:1"})
    image = check(root, archives.load(write_files(tmp_path, files), root=root))
    assert image.names == ("reg.io/app:1",)
    for name, data in files.items():
        path = tmp_path / "layout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert check(root, archives.load(str(tmp_path / "layout"), root=root)).names == ("reg.io/app:1",)


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        (None, ()),
        ({"org.opencontainers.image.ref.name": "latest"}, ()),
        (
            {"org.opencontainers.image.ref.name": "1.0", "io.containerd.image.name": "docker.io/library/x:1.0"},
            ("docker.io/library/x:1.0",),
        ),
    ],
)
def test_a_tag_alone_names_nothing(root: StateRoot, tmp_path: Path, annotations: Any, names: tuple[str, ...]) -> None:
    assert archives.load(write_files(tmp_path, oci_files(LAYERS, annotations=annotations)), root=root)[0].names == names


def test_identifying_an_archive_writes_nothing(tmp_path: Path) -> None:
    root = StateRoot(str(tmp_path / "state"))
    source = write(tmp_path, docker_entries(LAYERS, names=["app:1"]))
    assert archives.identify(source, root=root) == ((sha256(config(LAYERS)), ("docker.io/library/app:1",)),)
    assert not root.exists(), "a check changes nothing"


def test_links_between_members_are_followed_within_the_archive_only(root: StateRoot, tmp_path: Path) -> None:
    entries = docker_entries(LAYERS[:1] * 2, names=None)
    first = entries[0][0].name
    manifest = json.loads(entries[-1][1])
    manifest[0]["Layers"][1] = "again/layer.tar"
    entries[-1] = entry("manifest.json", json.dumps(manifest).encode())
    source = write(tmp_path, [entries[0], symlink("again/layer.tar", f"../{first}"), *entries[2:]])
    assert len(archives.load(source, root=root)) == 1


def changed(files: dict[str, bytes], **changes: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """The files, with those whose name ends as given changed."""
    for ending, change in changes.items():
        for name in list(files):
            if name.replace(".", "_").endswith(ending):
                files[name] = change(files[name])
    return files


HOSTILE: dict[str, Callable[[], list[Entry]]] = {
    "a config through a link to the host": lambda: [
        symlink("config.json", "/etc/passwd"),
        entry("manifest.json", b'[{"Config":"config.json","RepoTags":["x:1"],"Layers":[]}]'),
    ],
    "a config with dots": lambda: [entry("manifest.json", b'[{"Config":"../../etc/passwd","Layers":[]}]')],
    "a config that is absolute": lambda: [entry("manifest.json", b'[{"Config":"/etc/passwd","Layers":[]}]')],
    "a layer that is not there": lambda: [each for each in docker_entries(LAYERS, names=None) if "layer.tar" not in each[0].name],
    "a layer that is another": lambda: [
        (each[0], each[1]) if "layer.tar" not in each[0].name else entry(each[0].name, archive([entry("evil")]))
        for each in docker_entries(LAYERS, names=None)
    ],
    "a config under another digest": lambda: docker_entries(LAYERS, names=None, config_name="0" * 64 + ".json"),
    "links in a circle": lambda: [symlink("a", "b"), symlink("b", "a"), entry("manifest.json", b'[{"Config":"a","Layers":[]}]')],
    "fewer layers than diff_ids": lambda: [
        *docker_entries(LAYERS, names=None)[:-1],
        entry("manifest.json", json.dumps([{"Config": f"{sha256(config(LAYERS)).hex}.json", "Layers": []}]).encode()),
    ],
    "a name that is none": lambda: docker_entries(LAYERS, names=["../../x:1"]),
    "no manifest": lambda: [entry("etc/passwd", b"root")],
    "a manifest that is no list": lambda: [entry("manifest.json", b'{"Config": 1}')],
    "a manifest of many megabytes": lambda: [entry("manifest.json", b"[" + b" " * (5 << 20) + b"]")],
    "another layout version": lambda: [entry("oci-layout", b'{"imageLayoutVersion":"2.0"}'), entry("index.json", b"{}")],
    "a blob that is damaged": lambda: [
        entry(name, data if "index" in name or "layout" in name else data[:-1] + b"!") for name, data in oci_files(LAYERS).items()
    ],
    "an index that is a manifest too": lambda: [
        entry(name, data if name != "index.json" else json.dumps({**json.loads(data), "layers": [], "config": {}}).encode())
        for name, data in oci_files(LAYERS).items()
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_broken_archive_is_refused_and_leaves_nothing(root: StateRoot, tmp_path: Path, name: str) -> None:
    with pytest.raises((Invalid, NotFound)) as raised:
        archives.load(write(tmp_path, HOSTILE[name]()), root=root)
    assert "root:" not in str(raised.value), "no file of the host is shown"
    assert layers.listed(root) == () and blobs.listed(root) == ()


def test_a_truncated_archive_and_a_missing_one_are_errors(root: StateRoot, tmp_path: Path) -> None:
    path = tmp_path / "archive.tar"
    path.write_bytes(archive(docker_entries(LAYERS, names=None))[:3000])
    with pytest.raises(BayplanError, match=r"truncated|neither"):
        archives.load(str(path), root=root)
    with pytest.raises(NotFound, match="no such file"):
        archives.load(str(tmp_path / "none"), root=root)


@pytest.mark.parametrize("packed", [False, True])
def test_a_root_file_system_is_imported_as_one_layer(root: StateRoot, tmp_path: Path, packed: bool) -> None:
    plain = archive([directory("bin"), entry("bin/sh", b"x", mode=0o755)])
    path = tmp_path / "rootfs"
    path.write_bytes(gzip.compress(plain, mtime=0) if packed else plain)
    image = archives.import_rootfs(str(path), root=root, run={"Cmd": ["/bin/sh"], "Env": ["A=1"]})
    assert image.config.cmd == ("/bin/sh",) and image.config.env == ("A=1",) and image.layers == (sha256(plain),)
    assert sorted(overlay(root, image.layers)) == ["bin", "bin/sh"]
    again = archives.import_rootfs(str(path), root=root, run={"Cmd": ["/bin/sh"], "Env": ["A=1"]})
    assert again == image, "the same content is the same image"


def test_importing_what_is_no_archive_leaves_nothing(root: StateRoot, tmp_path: Path) -> None:
    path = tmp_path / "rootfs"
    path.write_bytes(b"<html>" * 1000)
    with pytest.raises(Invalid, match="not a tar archive"):
        archives.import_rootfs(str(path), root=root)
    assert layers.listed(root) == () and blobs.listed(root) == ()


def saved(root: StateRoot, image: Pulled, names: tuple[str, ...], format: str) -> bytes:
    buffer = io.BytesIO()
    row = ImageRow(str(image.image_id), "", 0, "", (), tuple(map(str, image.blobs)))
    found = archives.find_manifest(root, row)
    assert found is not None
    archives.save([archives.Saved(*found, names)], buffer.write, root=root, format=format)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_what_is_saved_is_loaded_again_unchanged(root: StateRoot, tmp_path: Path, format: str, kind: str) -> None:
    made = docker_entries(LAYERS, names=None) if kind == "docker" else [entry(*each) for each in oci_files(LAYERS).items()]
    image = check(root, archives.load(write(tmp_path, made), root=root))
    data = saved(root, image, ("docker.io/library/app:1", "reg.io/b:2"), format)
    assert data == saved(root, image, ("docker.io/library/app:1", "reg.io/b:2"), format), "the same image is the same archive"
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        names = file.getnames()
    assert ("manifest.json" in names) == (format == "docker-archive") and len(names) == len(set(names))
    other = new_root(tmp_path / "other") if (tmp_path / "other").mkdir() is None else root
    path = tmp_path / "saved.tar"
    path.write_bytes(data)
    again = check(other, archives.load(str(path), root=other))
    assert again.blobs == image.blobs and again.names == ("docker.io/library/app:1", "reg.io/b:2")


def test_saving_what_is_gone_or_in_an_unknown_format_is_an_error(root: StateRoot, tmp_path: Path) -> None:
    image = archives.load(write(tmp_path, docker_entries(LAYERS, names=None)), root=root)[0]
    with pytest.raises(Invalid, match="neither"):
        saved(root, image, (), "zip")
    blobs.remove(root, image.blobs[-1])
    with pytest.raises(NotFound, match="pull the image again"):
        saved(root, image, (), "docker-archive")


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_is_saved_and_its_archives_are_loaded(root: StateRoot, tmp_path: Path, format: str) -> None:
    image = archives.load(write(tmp_path, docker_entries(LAYERS, names=["app:1"])), root=root)[0]
    path = tmp_path / "saved.tar"
    path.write_bytes(saved(root, image, ("docker.io/library/app:1",), format))
    for target in ("docker-archive", "oci-archive"):
        copied = tmp_path / f"{target}.tar"
        subprocess.run(["skopeo", "copy", "-q", f"{format}:{path}", f"{target}:{copied}:app:1"], check=True)
        found = archives.load(str(copied), root=root)[0]
        assert sorted(overlay(root, found.layers)) == EXPECTED
