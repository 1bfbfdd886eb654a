"""Progress on a terminal's standard error, one line that is written over; nothing where there is no terminal."""

from __future__ import annotations

import os

from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def on_terminal(name: str) -> Callable[[str], None] | None:
    """What to call with each report, or None."""
    if not os.isatty(2):
        return None

    def show(text: str) -> None:
        os.write(2, f"\r\x1b[K{name}: {text}".encode())

    return show


def end() -> None:
    """Clear the line."""
    if os.isatty(2):
        os.write(2, b"\r\x1b[K")
