"""What a full disk stops leaves nothing behind: whole layers that had come before are removed, too, and with them all that nothing needs.

The looking is store/room.py's: before something comes in, and while it does.
"""

from __future__ import annotations

import errno

from bayplan.engine.state import State
from bayplan.errors import Full, Kernel

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PATIENCE = 1.0  # seconds: those who add content beside us are about to find the disk full, too


class clearing:
    """`with guard.clearing(state), pull.using(state.root):` The lock on the content is released by the time that this one sweeps."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, Full) or (isinstance(error, (Kernel, OSError)) and error.errno in _FULL):
            from bayplan.engine import content
            from bayplan.store import staging

            staging.sweep(self._state.root)  # a worker that was ended for another's failure may have been clearing up
            content.remove_unneeded(self._state, patience=_PATIENCE, idle=0.0)
