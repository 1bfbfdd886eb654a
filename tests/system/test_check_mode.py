"""Check mode on a real host, over generated declarations: it foretells the run's steps, and leaves no trace.

Each declaration meets the host as the one before left it. PAIRS in the environment says how many (300 in `make soak`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_lab import Lab
from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "cases"))

from generate import IMAGES, documents

from bayplan.engine import containers, images
from bayplan.kernel import firewall, interfaces
from bayplan.model.result import Response
from bayplan.plan import addresses
from bayplan.store import records

PAIRS = int(os.environ.get("PAIRS", "25"))
TABLES = ("image", "image_name", "network", "volume", "container", "endpoint", "port", "volume_use")
VOLATILE = ("json.log", "db.sqlite", "health", "exit")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    state = found.state(create=True)
    for number, name in enumerate(IMAGES):
        (tmp_path / "tree" / "number").write_text(str(number))
        found.pack(tmp_path / "tree")
        images.import_(state, found.archive, name)
    yield found
    found.close()


def snapshot(lab: Lab) -> dict[str, object]:
    """All that a check must not change: records, files, processes, links, rules, cgroups."""
    state = lab.state()
    with state.records as db:
        rows = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    files = sorted(str(path) for path in Path(lab.path).rglob("*") if not any(path.name.startswith(name) for name in VOLATILE))
    known = containers.all_records(state)
    return {
        **rows,
        "files": files,
        "processes": {each.name: containers.run_of(state, each.id).pid for each in known if each.spec.restart.name == "no"},
        "links": sorted(name for name in interfaces.observe() if name.startswith(addresses.prefix_of(state.id))),
        "rules": firewall.observe(state.id),
        "networks": [row.name for row in records.networks(state.records)],
    }


def settled(lab: Lab) -> dict[str, object]:
    """A snapshot that lasts: the kernel takes away a moment later what was in a network namespace that has ended."""
    found = snapshot(lab)
    while True:
        time.sleep(0.1)
        again = snapshot(lab)
        if again == found:
            return found
        found = again


def told(response: Response) -> list[tuple[str, str, str]]:
    return [(step.action, step.kind, step.name) for step in response.steps]


def test_a_check_foretells_the_run_and_changes_nothing(lab: Lab) -> None:
    outcomes = {"done": 0, "refused": 0, "failed": 0}

    @settings(max_examples=PAIRS, phases=[Phase.generate], deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))
    @given(documents())
    def walk(want: dict[str, object]) -> None:
        before = settled(lab)
        checked = lab.converge(want, check=True)
        assert snapshot(lab) == before, "a check changes nothing"
        ran = lab.converge(want)
        if checked.error:
            assert ran.error == checked.error, "what a check refuses, a run refuses with the same words"
            assert snapshot(lab) == before, "and a refused run changes nothing"
            outcomes["refused"] += 1
            return
        if ran.error:
            outcomes["failed"] += 1
            print(f"\nfailed: {ran.error}")
            assert ran.error[0] != "bug", ran.error
            return
        assert told(checked) == told(ran), "the steps of a check are the steps of the run"
        assert told(lab.converge(want)) == [], "the second run has nothing to do"
        outcomes["done"] += 1

    walk()
    print(f"\n{outcomes}")
    assert outcomes["failed"] <= PAIRS // 10, f"too many runs failed: {outcomes}"
    assert outcomes["done"] >= PAIRS // 2, f"the generator should mostly make what can be done: {outcomes}"
