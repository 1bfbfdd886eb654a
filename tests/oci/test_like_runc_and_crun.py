"""Random valid bundles, run here, by runc and by crun: what the process sees, and what is left, is what one of the two makes of it.

BUNDLES says how many (100), SEED which series (1), FIRST where it begins. A failure names its bundles: `BUNDLES=1 FIRST=17` runs that one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).resolve().parent
LAUNCHER = HERE.parents[1] / "runtime" / "launcher" / "bayplan-oci"
sys.path.insert(0, str(HERE))

import accepted  # noqa: E402

BUNDLES, SEED, FIRST = (int(os.environ.get(name, default)) for name, default in (("BUNDLES", "100"), ("SEED", "1"), ("FIRST", "0")))
PEERS = ("runc", "crun")
MISSING = [name for name in (*PEERS, "gcc", "unshare") if not shutil.which(name)]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers take root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="the bundles limit controllers of cgroup version 1"),
]
Fields = dict[tuple[str, str], str]


class Observed(NamedTuple):
    """One bundle; `fields` is empty for a runtime that has refused it."""

    number: int
    config: dict[str, Any]
    fields: dict[str, Fields]
    said: dict[str, str]


@pytest.fixture(scope="module")
def observed() -> Iterator[list[Observed]]:
    directory = Path(tempfile.mkdtemp(prefix="bayplan-oci-", dir="/var/tmp"))
    directory.chmod(0o755)  # the root of a user namespace goes through it
    commands = [*(f"{name}={name}" for name in PEERS), f"ours={sys.executable} -I -S {LAUNCHER}"]
    command = [sys.executable, HERE / "run.py", directory, str(SEED), str(FIRST), str(FIRST + BUNDLES), *commands]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        yield [_read(json.loads(line)) for line in done.stdout.splitlines()]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _read(line: dict[str, Any]) -> Observed:
    seen = line["seen"]
    fields = {name: {(field, of): value for field, of, value in each["fields"]} for name, each in seen.items()}
    return Observed(line["number"], line["config"], fields, {name: each["said"] for name, each in seen.items()})


def test_what_either_of_them_runs_is_run(observed: list[Observed]) -> None:
    refused = {each.number: each.said["ours"] for each in observed if not each.fields["ours"] and any(each.fields[name] for name in PEERS)}
    assert not refused, f"a valid bundle is run, but of series {SEED}: {refused}"


def test_what_both_of_them_refuse_is_refused(observed: list[Observed]) -> None:
    taken = {each.number: each.said for each in observed if each.fields["ours"] and not any(each.fields[name] for name in PEERS)}
    assert not taken, f"nobody runs it, but of series {SEED}: {taken}"


def test_a_container_is_what_one_of_them_makes_of_it(observed: list[Observed]) -> None:
    both = [each for each in observed if all(each.fields.values())]
    assert len(both) >= BUNDLES * 0.6, "enough of the bundles are such that all three run them"
    wrong: dict[str, list[int]] = {}
    for each in both:
        for difference in differences(each):
            wrong.setdefault(difference, []).append(each.number)
    listed = "\n".join(f"{difference} (bundles {', '.join(map(str, numbers[:5]))})" for difference, numbers in wrong.items())
    assert not wrong, f"{len(wrong)} differences in series {SEED}, of {len(both)} bundles that all three run:\n{listed}"


def differences(each: Observed) -> list[str]:
    """Where ours is like neither, and not meant to be."""
    ours, peers = each.fields["ours"], [each.fields[name] for name in PEERS]
    found = []
    for key in sorted(set(ours).union(*peers)):
        theirs = [fields.get(key) for fields in peers]
        if ours.get(key) not in theirs and accepted.reason(each.config, key, ours.get(key), theirs) is None:
            found.append(f"{key[0]}, {key[1]}: {ours.get(key)!r}, with runc {theirs[0]!r}, with crun {theirs[1]!r}")
    return found


def test_nothing_is_left_of_a_container(observed: list[Observed]) -> None:
    for each in observed:
        left = {name for name in ("state", "cgroup") if each.fields["ours"].get(("end", name), "gone") != "gone"}
        assert not left, f"bundle {each.number} has ended, and its {', '.join(left)} with it"
