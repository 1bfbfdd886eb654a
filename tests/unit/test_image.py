"""Manifests, indexes and configs: what is accepted, and that nothing ambiguous is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bayplan.errors import Invalid
from bayplan.model.container import Healthcheck
from bayplan.model.image import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    LAYERS_LIMIT,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    Platform,
    choose_platform,
    machine_platform,
    parse_image_config,
    parse_manifest,
    parse_platform,
)

HEX = "ab" * 32
OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


def descriptor(media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{HEX}", "size": 10, **more}


def manifest(**more: Any) -> dict[str, Any]:
    layer = descriptor(f"{OCI}.layer.v1.tar+gzip")
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(f"{OCI}.config.v1+json"), "layers": [layer], **more}


def index(*platforms: Platform, **more: Any) -> dict[str, Any]:
    entries = [
        descriptor(OCI_MANIFEST, digest=f"sha256:{number:064x}", platform=platform._asdict()) for number, platform in enumerate(platforms)
    ]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **more}


def config(**run: Any) -> dict[str, Any]:
    return {"os": "linux", "architecture": "amd64", "config": run, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]}}


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_a_manifest_and_an_index_are_told_apart() -> None:
    assert isinstance(parse_manifest(encoded(manifest())), Manifest)
    assert isinstance(parse_manifest(encoded(index(Platform("linux", "amd64")))), Index)


def test_dockers_manifest_is_read_like_oci_s() -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(f"{DOCKER}.container.image.v1+json"),
        "layers": [descriptor(f"{DOCKER}.image.rootfs.diff.tar.gzip")],
    }
    found = parse_manifest(encoded(document), media_type=DOCKER_MANIFEST)
    assert isinstance(found, Manifest) and len(found.layers) == 1


AMBIGUOUS = {
    "both index and manifest": (encoded({**manifest(), **index(Platform("linux", "amd64"))}), ""),
    "both, without a media type": (encoded({**manifest(mediaType=None), "manifests": []}), ""),
    "neither": (encoded({"schemaVersion": 2}), ""),
    "an index that calls itself a manifest": (encoded(index(mediaType=OCI_MANIFEST)), ""),
    "a manifest sent as an index": (encoded(manifest(mediaType=None)), OCI_INDEX),
    "a manifest sent under another type than its own": (encoded(manifest()), DOCKER_MANIFEST),
    "a Docker index with layers": (encoded({**index(mediaType=DOCKER_INDEX), "layers": []}), ""),
    "a member twice": (b'{"schemaVersion":2,"config":{},"layers":[],"layers":[]}', ""),
    "schema 1": (encoded({"schemaVersion": 1, "fsLayers": []}), ""),
    "a schema version that is no number": (encoded(manifest(schemaVersion="2")), ""),
    "an unknown media type": (encoded(manifest(mediaType="text/plain")), ""),
    "an artifact that is no image": (encoded(manifest(config=descriptor("application/vnd.oci.empty.v1+json"))), ""),
    "a layer that is none": (encoded(manifest(layers=[descriptor("text/plain")])), ""),
    "a digest that is a path": (encoded(manifest(layers=[descriptor(f"{OCI}.layer.v1.tar", digest="sha256:../../etc")])), ""),
    "a negative size": (encoded(manifest(layers=[descriptor(f"{OCI}.layer.v1.tar", size=-1)])), ""),
    "an enormous size": (encoded(manifest(layers=[descriptor(f"{OCI}.layer.v1.tar", size=1 << 60)])), ""),
    "a size that is a fraction": (encoded(manifest(layers=[descriptor(f"{OCI}.layer.v1.tar", size=1.5)])), ""),
    "ten thousand layers": (encoded(manifest(layers=[descriptor(f"{OCI}.layer.v1.tar")] * 10_000)), ""),
    "a config of a gigabyte": (encoded(manifest(config=descriptor(f"{OCI}.config.v1+json", size=1 << 30))), ""),
    "five megabytes of it": (encoded(manifest(annotations={"x": "y" * (5 << 20)})), ""),
    "a number of a million digits": (b'{"schemaVersion":' + b"2" * 1_000_000 + b"}", ""),
    "nested a hundred thousand deep": (b"[" * 100_000, ""),
    "not JSON": (b"\xff\xfe", ""),
    "NaN": (b'{"schemaVersion":NaN}', ""),
    "a list": (b"[]", ""),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_or_absurd_manifest_is_refused(name: str) -> None:
    data, media_type = AMBIGUOUS[name]
    with pytest.raises(Invalid):
        parse_manifest(data, media_type=media_type)


def test_as_many_layers_as_overlay_can_take_are_accepted() -> None:
    found = parse_manifest(encoded(manifest(layers=[descriptor(f"{OCI}.layer.v1.tar")] * LAYERS_LIMIT)))
    assert isinstance(found, Manifest) and len(found.layers) == LAYERS_LIMIT


def test_a_config_s_values_are_taken_literally() -> None:
    found = parse_image_config(
        encoded(
            config(
                User="-1:../x",
                Env=["A=$(id)", "B", "=C"],
                Entrypoint=[],
                Cmd=None,
                WorkingDir="/proc/self/fd/7",
                Volumes={"/b": {}, "../a": {}},
                ExposedPorts={"80/tcp": {}},
                Labels={"b": "{{ x }}", "a": "\n"},
                StopSignal="SIGFOO",
                Shell=["/bin/sh"],
                OnBuild=["RUN x"],
            )
        )
    )
    assert found.user == "-1:../x" and found.env == ("A=$(id)", "B", "=C") and found.working_dir == "/proc/self/fd/7"
    assert found.entrypoint == () and found.cmd is None, "an empty list and an absent one are different"
    assert found.volumes == ("../a", "/b") and found.exposed_ports == ("80/tcp",)
    assert found.labels == (("a", "\n"), ("b", "{{ x }}")), "labels are sorted pairs"
    assert (found.stop_signal, found.shell, found.on_build) == ("SIGFOO", ("/bin/sh",), ("RUN x",))


def test_a_config_without_a_config_object_is_one_without_defaults() -> None:
    found = parse_image_config(encoded({**config(), "config": None}))
    assert (found.env, found.cmd, found.entrypoint, found.healthcheck) == ((), None, None, None)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, None),
        ({"Test": ["NONE"]}, Healthcheck(("NONE",))),
        ({"Test": ["CMD", "x"], "Interval": 5, "Retries": 2}, Healthcheck(("CMD", "x"), interval=5, retries=2)),
        ({"Test": ["CMD-SHELL", "x"], "StartPeriod": 7, "Timeout": 0}, Healthcheck(("CMD-SHELL", "x"), start_period=7)),
    ],
)
def test_a_health_check_takes_docker_s_defaults_for_zero(document: Any, expected: Healthcheck | None) -> None:
    assert parse_image_config(encoded(config(Healthcheck=document))).healthcheck == expected


@pytest.mark.parametrize(
    "run",
    [
        {"Env": "A=1"},
        {"Env": ["A\0B"]},
        {"Env": [1]},
        {"Cmd": {"a": 1}},
        {"User": 5},
        {"Volumes": []},
        {"Labels": {"a": 1}},
        {"Healthcheck": {"Test": ["SOMETHING"]}},
        {"Healthcheck": {"Interval": -1}},
        {"Healthcheck": {"Retries": 1 << 70}},
        {"Healthcheck": 5},
        {"Env": ["x" * (2 << 20)]},
        {"Env": ["\ud800"]},
    ],
)
def test_absurd_values_of_a_config_are_errors(run: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        parse_image_config(encoded(config(**run)))


@pytest.mark.parametrize(
    "rootfs", [None, {}, {"type": "other", "diff_ids": []}, {"type": "layers", "diff_ids": ["x"]}, {"type": "layers", "diff_ids": 5}]
)
def test_a_config_says_which_layers_it_is_for(rootfs: Any) -> None:
    with pytest.raises(Invalid):
        parse_image_config(encoded({**config(), "rootfs": rootfs}))


CHOICES = [
    ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
    ("linux/arm64", ["linux/arm64/v8", "linux/amd64"], "linux/arm64/v8"),
    ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
    ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
    ("linux/arm/v6", ["linux/arm/v7"], ""),
    ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
    ("linux/amd64", ["unknown/unknown", "linux/amd64"], "linux/amd64"),
    ("linux/amd64", ["windows/amd64"], ""),
    ("linux/x86_64", ["linux/amd64"], "linux/amd64"),
]


@pytest.mark.parametrize(("wanted", "there", "chosen"), CHOICES, ids=[f"{each[0]} of {each[1]}" for each in CHOICES])
def test_the_platform_is_chosen_that_runs_best(wanted: str, there: list[str], chosen: str) -> None:
    platforms = [Platform(*each.split("/")) for each in there]
    document = parse_manifest(encoded(index(*platforms)))
    assert isinstance(document, Index)
    if not chosen:
        with pytest.raises(Invalid, match="only there for"):
            choose_platform(document, parse_platform(wanted))
        return
    found = choose_platform(document, parse_platform(wanted)).platform
    assert str(found) == chosen, "an exact variant first, then the next lower one"


@pytest.mark.parametrize(("machine", "platform"), [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv7l", "linux/arm/v7")])
def test_a_machine_knows_its_platform(machine: str, platform: str) -> None:
    assert str(machine_platform(machine)) == platform


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "linux/a b", "a/b/c/d", "linux/../x"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_platform(text)
