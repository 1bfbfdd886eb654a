"""The scenario that a user of molecule would run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import disposable
import pytest
from conftest import PATIENCE, PROJECT


@pytest.mark.skipif(os.geteuid() != 0, reason="a disposable host takes root, for its namespaces")
def test_the_default_scenario_converges_once_and_verifies(scratch: Path) -> None:
    tools = Path(sys.executable).parent
    number, claim = disposable.claim_number()
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(scratch), "DISPOSABLE_NUMBER": str(number)}
    done = subprocess.run(
        [str(tools / "molecule"), "test", "-s", "default"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    claim.close()
    assert done.returncode == 0, done.stdout
