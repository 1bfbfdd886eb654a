from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cases import Case, all_cases
from simulate import simulate

from bayplan.errors import BayplanError
from bayplan.model.compose import parse_declaration
from bayplan.plan.converge import plan

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=[case.file for case in CASES])
def test_the_steps_from_what_is_there_to_what_is_wanted(case: Case) -> None:
    if case.error:
        with pytest.raises(BayplanError) as caught:
            plan(parse_declaration(case.want), case.have)
        assert case.error in str(caught.value), case.name
        return
    planned = plan(parse_declaration(case.want), case.have)
    found = [f"{step.action} {step.kind} {step.name}: {'; '.join(step.why)}" for step in planned.steps]
    expected = [text.partition(": ") for text in case.steps]
    assert [text.partition(": ")[0] for text in found] == [each[0] for each in expected], case.name
    for text, each in zip(found, expected):
        assert each[2] in text, f"{case.name}: the step says why"
    for text, warning in zip(planned.warnings, case.warnings):
        assert warning in text, case.name
    assert len(planned.warnings) == len(case.warnings), f"{case.name}: warnings are {planned.warnings}"


@pytest.mark.parametrize("case", [case for case in CASES if not case.error], ids=lambda case: case.file)
def test_nothing_is_left_to_do_after_the_steps(case: Case) -> None:
    want = parse_declaration(case.want)
    after = simulate(case.have, want, plan(want, case.have).steps)
    repeating = [each.spec.name for each in want.containers if each.restart or each.recreate == "always"]
    left = [step for step in plan(want, after).steps if step.name not in repeating]
    assert left == [], f"{case.name}: one run is enough"


def test_the_known_defects_of_others_are_all_here() -> None:
    numbers = {int(case.file.split("-")[1]) for case in CASES if case.file.startswith("defect-")}
    assert numbers == set(range(1, 13)), "each has a case of its own"
