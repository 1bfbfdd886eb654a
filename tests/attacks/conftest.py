"""One state with a hostile image for all attacks of a session; the labs are those of the system tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "system")]

from attack_lab import Host  # noqa: E402 - it imports the labs of the system tests
from engine_lab import reap  # noqa: E402


@pytest.fixture(scope="session")
def shared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("attacks take root, for namespaces and mounts")
    made = Host(tmp_path_factory.mktemp("host"))
    yield made
    made.close()


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    """The shared state, without containers and volumes before and after."""
    yield shared_host
    shared_host.clear()
    reap()
