"""Where the libraries lie that travel along (runtime/vendor.txt)."""

from __future__ import annotations

import sys


def reach() -> str:
    """Make them importable, where one is needed and not before; returns their directory, for an error's message."""
    directory = f"{__file__.rpartition('/model/')[0]}/_vendor"
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return directory
