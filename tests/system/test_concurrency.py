"""Ten converges at once on one host: each succeeds, and there is one result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_lab import RUNTIME, Lab, service

from bayplan.engine import containers

CONVERGE = """
import json, sys
from bayplan import dispatch
from bayplan.model.result import Request, response_document
asked = json.load(sys.stdin)
print(json.dumps(response_document(dispatch.handle(Request("converge", asked["want"], False, False, asked["root"])))))
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    yield found
    found.close()


def at_once(lab: Lab, wants: list[dict[str, object]]) -> list[dict[str, object]]:
    """Start all of them before any is waited for; their responses."""
    running = []
    for want in wants:
        process = subprocess.Popen(
            [sys.executable, "-c", CONVERGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps({"want": want, "root": lab.path}))
        process.stdin.close()
        running.append(process)
    answers = []
    for process in running:
        with process:
            assert process.stdout is not None
            answers.append(json.loads(process.stdout.read()))
    return answers


def test_ten_equal_converges_make_one_result(lab: Lab) -> None:
    want = {"name": "same", "services": {"a": service(volumes=["v:/v"]), "b": service(depends_on=["a"])}, "volumes": {"v": {}}}
    answers = at_once(lab, [want] * 10)
    assert [answer["error"] for answer in answers] == [None] * 10, "all of them succeed"
    assert sum(answer["changed"] is True for answer in answers) == 1, "one did the work, the others found it done"
    assert lab.done(want).steps == ()
    assert len(containers.all_records(lab.state())) == 2


def test_ten_different_converges_of_a_new_host_all_succeed(lab: Lab) -> None:
    wants: list[dict[str, object]] = [{"name": f"p{number}", "services": {"a": service()}} for number in range(10)]
    answers = at_once(lab, wants)
    assert [answer["error"] for answer in answers] == [None] * 10, "nobody gets in anybody's way"
    records = containers.all_records(lab.state())
    assert {record.name for record in records} == {f"p{number}-a-1" for number in range(10)}
    subnets = lab.command("network", "inspect", *(f"p{number}_default" for number in range(10)), "--format", "{{json .IPAM}}")
    assert len(set(subnets.splitlines())) == 10, "each has a subnet of its own"
