"""What a test needs of the kernel that the one which is played by OLD_KERNEL=1 (tests/conftest.py) does not have."""

from __future__ import annotations

import os

import pytest


def needs(what: str) -> pytest.MarkDecorator:
    """Skips the test on the old kernel; `what` names the call and its version."""
    return pytest.mark.skipif(bool(os.environ.get("OLD_KERNEL")), reason=f"needs {what}, and an old kernel is played")
