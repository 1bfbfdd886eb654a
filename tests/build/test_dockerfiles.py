"""Dockerfiles, built: each case has what a reader of its Dockerfile expects, and what Docker's two builders and buildah have made of it.

Theirs is recorded in `seen`; ENGINES=1 builds it anew (record.py says how). A difference of theirs from the expectation that is meant is in
accepted_builds.py with its reason. Ours is what is expected, without exception.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import accepted_builds as accepted
import compare
import record
from builders import NAMES, Bayplan, Built, Lab
from dockerfile_cases import Case, all_cases

CASES = all_cases()
HERE = Path(__file__).resolve().parent
MISSING = [name for name in ("unshare", "nsenter", "ip", "git", "zstd", "busybox") if not shutil.which(name)]
Seen = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="session")
def seen() -> Iterator[Seen]:
    """What the others have made, by their names and the cases'."""
    if not os.environ.get("ENGINES"):
        yield {name: record.read(record.SEEN, name) for name in NAMES}
        return
    directory = Path(tempfile.mkdtemp(prefix="bayplan-seen-", dir="/var/tmp"))
    try:
        subprocess.run([sys.executable, HERE / "record.py", "--to", directory], check=True)
        yield {name: record.read(directory, name) for name in NAMES}
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def ours(request: pytest.FixtureRequest) -> Mapping[str, Ours]:
    """What our own builds of the cases that are tried have made; as many at once as there are processors."""
    if os.geteuid() != 0 or MISSING:
        pytest.skip(f"builds take root and {', '.join(MISSING) or 'namespaces'}")
    function = test_a_dockerfile_is_built_as_it_says.__name__
    tried = [item for item in request.session.items if isinstance(item, pytest.Function) and item.originalname == function]
    wanted = [item.callspec.params["case"] for item in tried]
    shares = [wanted[start :: os.cpu_count()] for start in range(os.cpu_count() or 1)]
    with ThreadPoolExecutor(len(shares)) as pool:
        return {name: made for share in pool.map(build, shares) for name, made in share.items()}


class Ours(NamedTuple):
    """`history` is as images.settings says."""

    said: str
    fields: compare.Fields
    history: str


def build(cases: Sequence[Case]) -> dict[str, Ours]:
    directory = Path(tempfile.mkdtemp(prefix="bayplan-build-", dir="/var/tmp"))  # overlayfs does not lie on overlayfs
    lab = Lab(directory)
    try:
        engine = Bayplan("ours", lab)
        built = {case.name: engine.build(case) for case in cases}
        engine.close()
        return {name: look(each, lab) for name, each in built.items()}
    finally:
        lab.close()
        shutil.rmtree(directory)


def look(built: Built, lab: Lab) -> Ours:
    summary = record.summary(built, lab)
    return Ours(built.said, compare.found(summary), summary.get("config", {}).get("history", ""))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_expectation_is_what_other_builders_make(case: Case, seen: Seen) -> None:
    wanted = compare.expected(case)
    wrong = []
    for name in NAMES:
        assert seen[name][case.name]["key"] == case.key, f"what {name} makes of it is recorded: run tests/build/record.py"
        if name not in case.not_for:
            for each in compare.differences(wanted, compare.found(seen[name][case.name])):
                if accepted.reason(name, case.name, each) is None:
                    wrong.append(f"{name}: {each} ({seen[name][case.name].get('fails', 'it has built it')})")
    assert not wrong, f"{case.about}; but\n" + "\n".join(wrong)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_dockerfile_is_built_as_it_says(case: Case, ours: Mapping[str, Ours], seen: Seen) -> None:
    said, made, history = ours[case.name]
    if case.fails:
        assert made[compare.BUILT] == "fails", f"{case.about}; but it is built: {said}"
        assert case.fails in said and "bug" not in said, f"the error says what is wrong: {said}"
        return
    wrong = compare.differences(compare.expected(case), made)
    assert not wrong, f"{case.about}; but\n" + "\n".join(map(str, wrong)) + f"\n{said}"
    assert case.says in said, f"it says {case.says!r}: {said}"
    patterns = [each[case.name]["config"]["history"] for each in seen.values() if "config" in each[case.name]]
    assert history in patterns or not patterns, f"which instructions have made a layer is as somebody else sees it: {patterns}"


@pytest.mark.skipif(bool(os.environ.get("ENGINES")), reason="of what is recorded")
def test_every_accepted_difference_is_there(seen: Seen) -> None:
    unused = set(accepted.ACCEPTED)
    for case in CASES:
        for name in set(NAMES) - set(case.not_for):
            for each in compare.differences(compare.expected(case), compare.found(seen[name][case.name])):
                unused -= {rule for rule in unused if rule.covers(name, case.name, each)}
    assert not unused, "what is no difference any more needs no reason"


def test_what_is_recorded_is_of_a_case() -> None:
    known = {case.name for case in CASES}
    for name in NAMES:
        left = set(record.read(record.SEEN, name)) - known
        assert not left, f"{name} has built what is no case any more: run tests/build/record.py"
