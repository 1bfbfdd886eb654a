"""A container on an internal network and on another one: the other one is where the outside reaches it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_lab import Lab, service

from bayplan.engine import publications
from bayplan.store import records


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    yield found
    found.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def led_to(lab: Lab, name: str) -> set[str]:
    """The names of the networks that the container's published ports lead into."""
    state = lab.state()
    leases = records.endpoints(state.records, container=lab.record(name).id)
    addresses = {each.address for each in publications.of_running(state)}
    return {records.network_by_id(state.records, each.network).name for each in leases if addresses & {each.ipv4, each.ipv6}}


def test_a_published_port_leads_to_the_network_that_is_not_internal(lab: Lab) -> None:
    want = {
        "services": {"web": service(ports=[f"{free_port()}:80"], networks=["back", "front"], extra_hosts=["up:host-gateway"])},
        "networks": {"back": {"internal": True}, "front": {}},
    }
    lab.done(want)
    assert led_to(lab, "web") == {"front"}, "packets from outside are not let into an internal network"
    front = next(each for each in records.networks(lab.state().records) if each.name == "front")
    assert f"{front.gateway}\tup" in lab.inside("web", "cat", "/etc/hosts").replace(" ", "\t"), "nor does the host answer on one"
    assert lab.done(want).steps == (), "and that is what is looked for afterwards"


def test_joining_and_leaving_an_internal_network_moves_the_port(lab: Lab) -> None:
    web = service(ports=[f"{free_port()}:80"], networks=["back"])
    want = {"services": {"web": web}, "networks": {"back": {"internal": True}, "front": {}}}
    lab.done(want)
    assert led_to(lab, "web") == {"back"}, "there is no other"
    for networks, way in ((["back", "front"], {"front"}), (["back"], {"back"})):
        web["networks"] = networks
        lab.done(want)
        assert led_to(lab, "web") == way, f"of {networks}"
        assert lab.done(want).steps == ()
