"""What holds of every plan, shown with generated declarations and hosts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayplan.errors import Conflict, NotFound
from bayplan.model.compose import parse_declaration
from bayplan.model.host import Host
from bayplan.model.names import image_key
from bayplan.model.service import RECORDED, parse_service, service_document
from bayplan.plan.converge import plan

sys.path.insert(0, str(Path(__file__).parents[1] / "cases"))
from generate import IMAGES, documents
from simulate import simulate

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
DISTURBANCES = ("killed", "drifted", "files", "image moved", "table flushed", "network damaged", "stopped by hand")


def disturbed(host: Host, kind: str) -> Host:
    """The host after something happened to it from outside."""
    name = next(iter(host.containers), "")
    if kind in ("killed", "drifted", "files", "stopped by hand") and name:
        there = host.containers[name]
        changed = {
            "killed": there._replace(status="exited", exit_code=137, completed=True),
            "drifted": there._replace(drift=("monitor gone",)),
            "files": there._replace(drift=("files changed: /run/secrets/password",)),
            "stopped by hand": there._replace(status="exited", stopped_by_user=True),
        }[kind]
        return host._replace(containers={**host.containers, name: changed})
    if kind == "image moved" and host.images:
        key = next(key for key in host.images if not key.startswith("sha256:"))
        return host._replace(images={**host.images, key: host.images[key]._replace(id=f"sha256:{'f' * 64}")})
    if kind == "table flushed":
        return host._replace(firewall_drift=("port 8080/tcp of web", "bridge world_front"))
    if kind == "network damaged" and host.networks:
        network = next(iter(host.networks))
        return host._replace(networks={**host.networks, network: host.networks[network]._replace(drift=("bridge missing",))})
    return host


def converged(document: dict[str, Any], host: Host) -> Host:
    want = parse_declaration(document)
    return simulate(host, want, plan(want, host).steps)


@SETTINGS
@given(documents(), documents(), st.lists(st.sampled_from(DISTURBANCES), max_size=3))
def test_the_second_run_of_a_plan_is_empty(first: dict[str, Any], second: dict[str, Any], kinds: list[str]) -> None:
    host = converged(first, Host())
    assert plan(parse_declaration(first), host).steps == (), "a host that was made by a plan has nothing left to do"
    for kind in kinds:
        host = disturbed(host, kind)
    want = parse_declaration(second)
    try:
        steps = plan(want, host).steps
    except (Conflict, NotFound):  # what recreate: never keeps may need what goes
        return
    left = plan(want, simulate(host, want, steps))
    assert left.steps == (), "whatever the host was, one run is enough"
    assert not left.before and not left.after, "an empty plan shows no difference"


@SETTINGS
@given(documents(), documents())
def test_every_step_says_why_and_is_shown_in_the_difference(first: dict[str, Any], second: dict[str, Any]) -> None:
    host = converged(first, Host())
    try:
        planned = plan(parse_declaration(second), host)
    except (Conflict, NotFound):  # what recreate: never keeps may need what goes
        return
    for step in planned.steps:
        assert step.why and all(step.why), "a step says why"
        key = f"{step.kind} {step.name}"
        assert planned.before[key] != planned.after[key], "what changes is seen in before and after"


@SETTINGS
@given(documents())
def test_one_changed_option_touches_only_its_container(document: dict[str, Any]) -> None:
    for service in document["services"].values():
        service["x-bayplan"] = {}
        service.pop("depends_on", None)
        if "network_mode" in service:
            del service["network_mode"]
    host = converged(document, Host())
    name = next(iter(document["services"]))
    document["services"][name]["mem_limit"] = "77m"
    steps = plan(parse_declaration(document), host).steps
    assert [(step.action, step.name) for step in steps] == [("update", f"world-{name}-1")], "a limit changes in place, and alone"
    document["services"][name]["environment"] = {"NEW": "1"}
    steps = plan(parse_declaration(document), host).steps
    assert [(step.action, step.name) for step in steps] == [("replace", f"world-{name}-1")], "only this container is replaced"


@SETTINGS
@given(documents())
def test_a_container_is_read_back_from_its_document(document: dict[str, Any]) -> None:
    for wanted in parse_declaration(document).containers:
        spec = wanted.spec._replace(files=tuple(file._replace(content="") for file in wanted.spec.files))
        assert parse_service(spec.name, service_document(spec), RECORDED) == spec, "the record says what was declared"


@SETTINGS
@given(documents())
def test_taking_a_project_away_leaves_its_volumes_and_its_images(document: dict[str, Any]) -> None:
    host = converged(document, Host())
    absent = {**document, "x-bayplan": {**document["x-bayplan"], "state": "absent"}}
    left = converged(absent, host)
    assert not left.containers and not left.networks, "containers and networks of the project go"
    assert left.volumes.keys() == host.volumes.keys() and left.images.keys() == host.images.keys(), "data and images stay"
    assert converged(absent, left) == left, "taking it away twice is taking it away once"


@pytest.mark.parametrize("reference", IMAGES)
def test_the_generated_world_uses_images_by_canonical_name(reference: str) -> None:
    assert image_key(reference) == reference, "hosts are keyed by canonical references"
