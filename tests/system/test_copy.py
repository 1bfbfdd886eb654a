"""Images copied between registries, layouts, archives and the store: digests kept, nothing sent twice, no state and no root needed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layer_lab import overlay
from moving_lab import docker_archive, hows, layer, load, move
from registry_lab import OCI, front, push_image, push_manifest, registry, send

from bayplan.engine import images
from bayplan.engine.state import open_state
from bayplan.model.digest import parse_digest

NOBODY = 65534
LAYERS = [layer("base", 300_000, 1), layer("top", 100_000, 2)]
PLATFORMS = {"amd64": LAYERS, "arm64": [LAYERS[0], layer("arm", 5000, 4)], "s390x": [layer("s390x", 4000, 3)]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as name:
        yield name


@pytest.fixture
def other(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as name:
        yield name


@pytest.fixture(scope="module")
def image(server: str) -> str:
    """The digest of an image in OCI's words, at team/app:1."""
    return push_image(server, "team/app", "1", LAYERS).manifest


@pytest.fixture(scope="module")
def index(server: str) -> str:
    """The digest of an index of three platforms and an attestation, at team/multi:1."""
    entries = []
    for name, layers in PLATFORMS.items():
        found = push_image(server, "team/multi", name, layers, config={"architecture": name})
        entries.append(described(server, found.manifest, {"os": "linux", "architecture": name}))
    attestation = attest(server, entries[0]["digest"])
    entries.append({**described(server, attestation, {"os": "unknown", "architecture": "unknown"}),
                    "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})  # fmt: skip
    document = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries, "annotations": {"kept": "so"}}
    return push_manifest(server, "team/multi", "1", document)


def described(server: str, digest: str, platform: dict[str, str]) -> dict[str, Any]:
    size = len(raw(server, "team/multi", digest))
    return {"mediaType": f"{OCI}.manifest.v1+json", "digest": digest, "size": size, "platform": platform}


def attest(server: str, subject: str) -> str:
    """As a builder attaches one: an image manifest whose layer is no layer."""
    from registry_lab import push_blob

    config = json.dumps({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    statement = json.dumps({"_type": "https://in-toto.io/Statement/v0.1", "subject": [subject]}).encode()
    layers = [{"mediaType": "application/vnd.in-toto+json", "digest": push_blob(server, "team/multi", statement), "size": len(statement)}]
    described = {"mediaType": f"{OCI}.config.v1+json", "digest": push_blob(server, "team/multi", config), "size": len(config)}
    document = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": described, "layers": layers}
    return push_manifest(server, "team/multi", "attestation", document)


def raw(server: str, repository: str, name: str) -> bytes:
    accept = f"{OCI}.manifest.v1+json, {OCI}.index.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    code, _, data = send(server, "GET", f"/v2/{repository}/manifests/{name}", headers={"Accept": accept})
    assert code == 200, data
    return data


def digest_at(server: str, repository: str, name: str) -> str:
    return f"sha256:{hashlib.sha256(raw(server, repository, name)).hexdigest()}"


def test_an_image_goes_from_registry_to_registry_and_then_nothing_goes(server: str, other: str, image: str) -> None:
    with front(server) as here, front(other) as there:
        locations = {"source": f"docker://{here.name}/team/app:1", "target": f"docker://{there.name}/x/app:2"}
        answer = move("copy", **locations)
        assert hows(answer) == ["pushed"] * 3 and answer["digest"] == image == digest_at(other, "x/app", "2")
        here.asked.clear(), there.asked.clear()
        assert hows(move("copy", **locations)) == ["exists"] * 3
        assert not any("/blobs/" in each.path for each in (*here.asked, *there.asked)), "no blob is even asked for"


def test_within_one_registry_blobs_are_mounted(server: str, image: str) -> None:
    answer = move("copy", source=f"docker://{server}/team/app:1", target=f"docker://{server}/mounted/app:1")
    assert hows(answer) == ["mounted"] * 3 and digest_at(server, "mounted/app", "1") == image


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
def test_an_image_goes_through_a_file_with_its_digest(server: str, other: str, image: str, tmp_path: Path, kind: str) -> None:
    place = f"{kind}:{tmp_path}/there:{'app:1' if kind == 'docker-archive' else 'one'}"
    assert move("copy", source=f"docker://{server}/team/app:1", target=place)["digest"] == image
    assert move("copy", source=place, target=f"docker://{other}/back/app:1")["digest"] == image == digest_at(other, "back/app", "1")
    assert not [name for name in os.listdir(tmp_path) if "part" in name], "nothing half is left"


def test_large_blobs_go_in_chunks_through_the_copier_s_memory_only(server: str, other: str, image: str) -> None:
    answer = move("copy", source=f"docker://{server}/team/app:1", target=f"docker://{other}/x/app:1", whole=1000, chunk=50_000)
    assert hows(answer) == ["pushed"] * 3 and digest_at(other, "x/app", "1") == image


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_no_root_is_needed(server: str, other: str, image: str, tmp_path: Path) -> None:
    shared = Path("/var/tmp") / f"move-{os.getpid()}"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    try:
        for target in (f"docker://{other}/x/app:1", f"oci:{shared}/layout:1", f"docker-archive:{shared}/file"):
            assert move("copy", source=f"docker://{server}/team/app:1", target=target, user=NOBODY)["digest"] == image
    finally:
        shutil.rmtree(shared)


def test_an_index_goes_whole_or_one_platform_of_it(server: str, other: str, index: str) -> None:
    whole = {"source": f"docker://{server}/team/multi:1", "target": f"docker://{other}/all/multi:1", "every": True}
    assert move("copy", **whole)["digest"] == index
    assert raw(other, "all/multi", "1") == raw(server, "team/multi", "1"), "the attestation too, and every annotation"
    for each in json.loads(raw(other, "all/multi", "1"))["manifests"]:
        assert digest_at(other, "all/multi", each["digest"]) == each["digest"]
    one = move("copy", source=f"docker://{server}/team/multi:1", target=f"docker://{other}/one/multi:1", platform="linux/s390x")
    assert one["digest"] == digest_at(server, "team/multi", "s390x") == digest_at(other, "one/multi", "1")
    missing = move("copy", source=f"docker://{server}/team/multi:1", target=f"docker://{other}/no/multi:1", platform="linux/ppc64le")
    assert missing["error"] == "invalid" and "linux/s390x" in missing["message"], "it says what there is"
    wrong = move("copy", source=f"docker://{server}/team/multi:s390x", target=f"docker://{other}/no/multi:1", platform="linux/arm64")
    assert wrong["error"] == "invalid"


def test_an_index_goes_through_a_layout_and_an_archive(server: str, other: str, index: str, tmp_path: Path) -> None:
    source = f"docker://{server}/team/multi:1"
    assert move("copy", source=source, target=f"oci:{tmp_path}/layout:all", every=True)["digest"] == index
    assert move("copy", source=f"oci:{tmp_path}/layout:all", target=f"oci-archive:{tmp_path}/file:all", every=True)["digest"] == index
    assert move("copy", source=f"oci-archive:{tmp_path}/file", target=f"docker://{other}/x/multi:1", every=True)["digest"] == index
    refused = move("copy", source=source, target=f"docker-archive:{tmp_path}/docker", every=True)
    assert refused["error"] == "invalid" and "one platform" in refused["message"] and not (tmp_path / "docker").exists()


def test_a_layout_keeps_several_images_by_name(server: str, image: str, index: str, tmp_path: Path) -> None:
    layout = f"oci:{tmp_path}/layout"
    for repository, name in (("app:1", "a"), ("multi:s390x", "b"), ("multi:s390x", "a"), ("app:1", "c")):
        answer = move("copy", source=f"docker://{server}/team/{repository}", target=f"{layout}:{name}")
    assert hows(answer) == ["exists"] * 3, "what is there is not fetched"
    document = json.loads((tmp_path / "layout/index.json").read_text())
    names = {each["annotations"]["org.opencontainers.image.ref.name"]: each["digest"] for each in document["manifests"]}
    assert names == {"a": digest_at(server, "team/multi", "s390x"), "b": digest_at(server, "team/multi", "s390x"), "c": image}
    several = move("copy", source=layout, target=f"oci:{tmp_path}/again")
    assert several["error"] == "invalid" and "a, b, c" in several["message"]
    assert move("copy", source=f"{layout}:d", target=f"oci:{tmp_path}/again")["error"] == "not_found"


def test_an_archive_without_a_manifest_gets_one_and_that_is_said(other: str, tmp_path: Path) -> None:
    source = f"docker-archive:{docker_archive(tmp_path / 'saved', LAYERS, 'app:1')}"
    first = move("copy", source=f"{source}:app:1", target=f"docker://{other}/x/app:1")
    assert not first["exact"] and first["digest"] == digest_at(other, "x/app", "1")
    assert move("copy", source=source, target=f"docker://{other}/x/app:2")["digest"] == first["digest"], "the same each time"
    layout = move("copy", source=source, target=f"oci:{tmp_path}/layout:1")
    assert not layout["foreign"], "in a layout it is made in OCI's words"
    assert move("copy", source=f"{source}:other:1", target=f"oci:{tmp_path}/x")["error"] == "not_found"


@pytest.mark.skipif(os.geteuid() != 0, reason="a state needs root")
def test_the_store_is_a_place_like_others(server: str, other: str, image: str, index: str, tmp_path: Path) -> None:
    root = str(tmp_path / "state")
    assert move("copy", root=root, source=f"docker://{server}/team/app:1", target="store:app:1")["digest"] == image
    state = open_state(root)
    row = images.find(state, "app:1")
    assert sorted(overlay(state.root, [parse_digest(each) for each in row.layers])) == ["data", "data/base", "data/top"]
    assert move("copy", root=root, source="store:app:1", target=f"docker://{other}/x/app:1")["digest"] == image
    assert move("copy", root=root, source=f"docker://{server}/team/multi:1", target="store:multi:1", every=True)["digest"] == index
    assert move("copy", root=root, source="store:multi:1", target=f"docker://{other}/x/multi:1", every=True)["digest"] == index
    images.tag(open_state(root), "multi:1", f"{other}/pushed/multi:1")
    assert move("push", root=root, name=f"{other}/pushed/multi:1")["pushed"][0][1] == index, "an index that is here whole is pushed whole"
    images.remove(open_state(root), "app:1")
    assert move("copy", root=root, source="store:multi:1", target=f"oci:{tmp_path}/all", every=True)["digest"] == index, "the sweep kept it"


def test_a_damaged_source_gives_no_image(server: str, other: str, image: str, tmp_path: Path) -> None:
    move("copy", source=f"docker://{server}/team/app:1", target=f"oci:{tmp_path}/layout:1")
    blobs = tmp_path / "layout/blobs/sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[1000] ^= 1
    largest.write_bytes(data)
    places = (f"docker://{other}/x/app:1", f"oci:{tmp_path}/next:1", f"oci-archive:{tmp_path}/file", f"docker-archive:{tmp_path}/file")
    for target in places:
        answer = move("copy", source=f"oci:{tmp_path}/layout:1", target=target)
        assert answer["error"] == "invalid" and largest.name in answer["message"], answer
    assert send(other, "GET", "/v2/x/app/manifests/1")[0] == 404 and not (tmp_path / "file").exists()
    assert not (tmp_path / "next/index.json").exists() and not list((tmp_path / "next").rglob("*.part"))


def test_a_hostile_layout_is_not_followed_out_of_its_directory(server: str, image: str, tmp_path: Path) -> None:
    target, outside = tmp_path / "layout", tmp_path / "outside"
    target.mkdir(), outside.mkdir()
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (target / "blobs").symlink_to(outside)
    answer = move("copy", source=f"docker://{server}/team/app:1", target=f"oci:{target}:1")
    assert answer["error"] == "invalid" and not list(outside.iterdir())
    assert move("copy", source=f"oci:{target}:1", target=f"oci:{tmp_path}/x")["error"] in ("not_found", "invalid")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.bashrc").write_text("mine")
    assert move("copy", source=f"docker://{server}/team/app:1", target=f"oci:{tmp_path}/home:1")["error"] == "conflict"


def test_a_layout_that_names_blobs_elsewhere_reads_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    layout = tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    digest = hashlib.sha256(b"secret").hexdigest()
    (layout / f"blobs/sha256/{digest}").symlink_to(secret)
    entry = {"mediaType": f"{OCI}.manifest.v1+json", "digest": f"sha256:{digest}", "size": 6}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    answer = move("copy", source=f"oci:{layout}", target=f"oci:{tmp_path}/x")
    assert answer["error"] == "not_found"


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
def test_skopeo_reads_what_is_copied_and_the_other_way_round(server: str, image: str, tmp_path: Path, kind: str) -> None:
    name = "app:1" if kind == "docker-archive" else "one"
    move("copy", source=f"docker://{server}/team/app:1", target=f"{kind}:{tmp_path}/ours:{name}")
    subprocess.run(["skopeo", "copy", "-q", f"{kind}:{tmp_path}/ours:{name}", f"{kind}:{tmp_path}/theirs:{name}"], check=True)
    answer = move("copy", source=f"{kind}:{tmp_path}/theirs:{name}", target=f"oci:{tmp_path}/back:1")
    assert answer.get("digest") and answer["exact"] == (kind != "docker-archive")
    if kind != "docker-archive":
        assert answer["digest"] == image, "OCI's words are nobody's to change"
    inspect = subprocess.run(["skopeo", "inspect", f"oci:{tmp_path}/back:1"], capture_output=True, text=True, check=True).stdout
    assert len(json.loads(inspect)["Layers"]) == 2


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("skopeo"), reason="a state needs root, and skopeo has to be there")
def test_in_a_layout_docker_s_words_stay_and_become_oci_s_where_that_is_asked(tmp_path: Path) -> None:
    root = str(tmp_path / "state")
    load(root, docker_archive(tmp_path / "saved", LAYERS, "app:1"))
    kept = move("copy", root=root, source="store:app:1", target=f"oci:{tmp_path}/kept:1")
    assert kept["foreign"] and not kept.get("error")
    made = move("copy", root=root, source="store:app:1", target=f"oci:{tmp_path}/made:1", format="oci")
    assert not made["foreign"] and made["digest"] != kept["digest"]
    subprocess.run(["skopeo", "inspect", f"oci:{tmp_path}/made:1"], check=True, capture_output=True)


def test_an_archive_is_a_plain_tar_that_others_list(server: str, image: str, tmp_path: Path) -> None:
    move("copy", source=f"docker://{server}/team/app:1", target=f"docker-archive:{tmp_path}/file:app:1")
    with tarfile.open(tmp_path / "file") as archive:
        names = archive.getnames()
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert len(names) == len(set(names)) and manifest[0]["RepoTags"] == ["app:1"] and all(name in names for name in manifest[0]["Layers"])
