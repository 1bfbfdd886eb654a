"""Bundles for other runtimes: nothing in them is of ours alone."""

from __future__ import annotations

from typing import Any

import pytest

from bayplan.errors import Invalid
from bayplan.kernel.seccomp_words import default_profile
from bayplan.model.bundle_document import config_document
from bayplan.model.image import ImageConfig
from bayplan.model.runtime import User
from bayplan.model.service import parse_service, service_document
from bayplan.plan.bundle import Surroundings, bundle
from bayplan.plan.portable import VERSION, portable

AROUND = Surroundings("a" * 64, "/state/containers/a", "/bayplan-1/a", cpus=2)


def document(**service: Any) -> dict[str, Any]:
    spec = parse_service("web", {"image": "box:1", "command": ["true"], "runtime": "runc", **service})
    config = bundle(spec, ImageConfig("amd64", "linux"), AROUND)
    written = portable(
        config,
        rootfs="/state/containers/a/upper",
        cgroups_path="/bayplan-1/a/container",
        user=User(1000, 1001, (1001, 7)),
        env=("PATH=/bin", "HOME=/srv"),
        given=frozenset({"CAP_CHOWN"}),
        seccomp=default_profile((), machine="x86_64"),
    )
    return config_document(written)


def test_nothing_is_said_in_annotations_of_ours() -> None:
    made = document(user="app:staff", group_add=["more"], annotations={"org.example": "kept"})
    assert made["annotations"] == {"org.example": "kept"}, "the user's own alone"
    assert made["process"]["user"] == {"uid": 1000, "gid": 1001, "umask": 0o22, "additionalGids": [1001, 7]}, "numbers, looked up"
    assert made["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO", "the whole filter"


def test_it_says_where_things_are_and_what_there_is_to_give() -> None:
    made = document(cap_add=["SYS_TIME"])
    assert made["root"]["path"] == "/state/containers/a/upper", "where it is mounted"
    assert made["linux"]["cgroupsPath"] == "/bayplan-1/a/container", "where our own cgroup is"
    assert made["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"], "no capability that the host cannot give"


def test_the_domain_name_is_a_sysctl() -> None:
    made = document(domainname="lab.test")
    assert "domainname" not in made and made["linux"]["sysctl"]["kernel.domainname"] == "lab.test", "which every version knows"
    assert VERSION.startswith("1.0."), "and the version is one that every runtime takes"


@pytest.mark.parametrize("name", ["runc", "crun-1.14", "/opt/bin/youki", "my_runtime"])
def test_a_runtime_is_a_name_or_an_absolute_path(name: str) -> None:
    spec = parse_service("web", {"image": "box:1", "runtime": name})
    assert spec.runtime == name and service_document(spec)["runtime"] == name, "as it was declared, and recorded"


def test_our_own_runtime_has_a_name_too() -> None:
    assert parse_service("web", {"image": "box:1", "runtime": "bayplan"}).runtime == "", "which is the default"


@pytest.mark.parametrize("name", ["../runc", "bin/runc", "-runc", ".", "..", "a b", "runc\n", "/a\n", "runc\0", "ruñc", 7, ["runc"]])
def test_anything_else_is_refused(name: object) -> None:
    with pytest.raises(Invalid, match=r"services\.web\.runtime"):
        parse_service("web", {"image": "box:1", "runtime": name})


@pytest.mark.parametrize(
    "service",
    [
        {"init": True},
        {"userns_mode": "private"},
        {"x-bayplan": {"systemd": "always"}},
        {"volumes": [{"type": "bind", "source": "/srv", "target": "/srv", "bind": {"propagation": "rshared"}}]},
        {"volumes": [{"type": "volume", "source": "data", "target": "/srv", "volume": {"subpath": "a"}}]},
    ],
)
def test_what_has_no_word_in_the_specification_is_refused(service: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="cannot be had from the runtime crun: "):
        parse_service("web", {"image": "box:1", "runtime": "crun", **service})
    assert parse_service("web", {"image": "box:1", **service}), "our own does it"
