"""Indexes made here, lists of tags, manifests of registries, and pulls of all tags, as people type it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Lab, lab
from registry_lab import OCI, push_image, registry, send

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a state needs root")

INDEX = f"{OCI}.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as name:
        push_image(name, "team/other", "s390x", [b"\0" * 1024], config={"architecture": "s390x"})
        yield name


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


def index_at(server: str, repository: str, tag: str) -> tuple[str, dict[str, Any]]:
    code, _, data = send(server, "GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": INDEX})
    assert code == 200, data
    return f"sha256:{hashlib.sha256(data).hexdigest()}", json.loads(data)


def test_an_index_of_images_of_here_and_there_is_pushed_with_all_that_is_in_it(here: Lab, server: str, tmp_path: Path) -> None:
    name = f"{server}/multi/box:1"
    assert here.ok("manifest", "create", name, "box:1", f"{server}/team/other:s390x") == f"Created manifest list {name}\n"
    again = here.run("manifest", "create", name, "box:1")
    assert again.returncode == 1 and "--amend" in again.stderr
    here.ok("manifest", "create", "--amend", name, "box:1")
    shown = json.loads(here.ok("manifest", "inspect", name))
    assert [each["platform"]["architecture"] for each in shown["manifests"]] == ["s390x", "amd64"], "the amended one is there once"
    said = here.ok("manifest", "push", name)
    digest, document = index_at(server, "multi/box", "1")
    assert said.splitlines()[-1] == digest and document == shown
    assert "mounted from team/other" in said, "what the registry has in another repository is not sent"
    for each in document["manifests"]:
        one = f"docker://{server}/multi/box@{each['digest']}"
        here.ok("copy", "-q", "--format", "oci", one, f"oci:{tmp_path}/layout:{each['digest'][7:19]}")
    here.ok("manifest", "rm", name)
    assert here.run("manifest", "rm", name).returncode == 1
    assert json.loads(here.ok("manifest", "inspect", name)) == shown, "now it is the registry's that is shown"


def test_a_platform_is_corrected(here: Lab, server: str) -> None:
    name = f"{server}/multi/corrected:1"
    here.ok("manifest", "create", name, "box:1")
    here.ok("manifest", "annotate", name, "box:1", "--arch", "arm", "--variant", "v7", "--annotation", "a=b")
    entry = json.loads(here.ok("manifest", "inspect", name))["manifests"][0]
    assert entry["platform"] == {"os": "linux", "architecture": "arm", "variant": "v7"} and entry["annotations"] == {"a": "b"}
    wrong = here.run("manifest", "annotate", name, f"sha256:{'0' * 64}", "--arch", "arm")
    assert wrong.returncode == 1 and entry["digest"] in wrong.stderr, "it says what there is"
    here.ok("manifest", "push", "--purge", "--quiet", name)
    assert here.run("manifest", "push", name).returncode == 1, "it is gone here"


def test_what_an_index_needs_stays_when_its_image_goes(here: Lab, server: str) -> None:
    name = f"{server}/multi/kept:1"
    here.ok("tag", "box:1", "going:1")
    here.ok("manifest", "create", name, "going:1")
    here.ok("rmi", "going:1")
    here.ok("save", "-o", str(here.directory / "box.tar"), "box:1")
    try:
        here.ok("rmi", "--force", "box:1")
        here.ok("image", "prune", "--all", "--force")
        here.ok("manifest", "push", "--quiet", "--purge", name)
        assert len(index_at(server, "multi/kept", "1")[1]["manifests"]) == 1
    finally:
        here.ok("load", "-i", str(here.directory / "box.tar"))


def test_a_manifest_is_shown_raw_and_described(here: Lab, server: str) -> None:
    name = f"{server}/team/other:s390x"
    raw = here.ok("manifest", "inspect", "--raw", name)
    shown = json.loads(here.ok("manifest", "inspect", "--verbose", name))
    assert shown["Descriptor"]["digest"] == f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}" and shown["OCIManifest"] == json.loads(raw)
    assert shown["Ref"] == name
    missing = here.run("manifest", "inspect", f"{server}/team/other:none")
    assert missing.returncode == 1 and "does not have it" in missing.stderr


def test_tags_are_listed_with_digests_and_up_to_a_limit(here: Lab, server: str) -> None:
    for tag in ("a", "b", "c"):
        here.ok("copy", "-q", "--platform", "linux/s390x", f"docker://{server}/team/other:s390x", f"docker://{server}/team/tags:{tag}")
    assert sorted(here.ok("tags", "-q", f"{server}/team/tags").split()) == ["a", "b", "c"]
    lines = here.ok("search", "tags", "--digests", f"{server}/team/tags").splitlines()
    assert lines[0].split() == ["NAME", "TAG", "DIGEST"] and len({line.split()[2] for line in lines[1:]}) == 1
    limited = here.run("tags", "--limit", "2", "--format", "{{.Tag}}", f"{server}/team/tags")
    assert len(limited.stdout.split()) == 2 and "--limit" in limited.stderr
    unknown = here.run("tags", f"{server}/team/unknown")
    assert unknown.returncode == 1 and "does not exist" in unknown.stderr


def test_push_and_pull_print_what_docker_prints(here: Lab, server: str) -> None:
    name = f"{server}/print/box"
    for tag in ("1", "latest"):
        here.ok("tag", "box:1", f"{name}:{tag}")
    lines = here.ok("push", f"{name}:1").splitlines()
    digest = lines[-1].split()[2]
    assert lines[0] == f"The push refers to repository [{name}]" and lines[1].endswith(": Pushed"), lines
    assert lines[-1].startswith(f"1: digest: {digest} size: ")
    assert here.ok("push", "--all-tags", "--quiet", name) == f"{name}:1\n{name}:latest\n"
    status = f"Status: Image is up to date for {name}:latest"
    said = ["Using default tag: latest", "latest: Pulling from print/box", f"Digest: {digest}", status, f"{name}:latest"]
    assert here.ok("pull", name).splitlines() == said
    here.ok("rmi", f"{name}:1")
    here.ok("rmi", f"{name}:latest")
    assert "Status: Downloaded newer image" in here.ok("pull", "--all-tags", name)
    assert here.ok("pull", "-q", f"{name}:1") == f"{name}:1\n"
    assert f"{name}@{digest}" in here.ok("inspect", "--format", "{{json .RepoDigests}}", f"{name}:1")


def test_an_untagged_name_cannot_be_pushed(here: Lab, server: str) -> None:
    failed = here.run("push", f"{server}/print/none:1")
    assert failed.returncode == 1 and "`tag`" in failed.stderr, "it says how an image gets the name"
