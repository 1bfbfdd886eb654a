"""Where other builders make something else of a case than it expects, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from compare import Difference


class Accepted(NamedTuple):
    """For engines, cases and names of fields that match the expressions entirely: the differences that `when` says yes to."""

    engine: str
    case: str
    what: str  # tree, config or build
    name: str
    reason: str
    when: Callable[[Difference], bool] = lambda each: True

    def covers(self, engine: str, case: str, difference: Difference) -> bool:
        pairs = ((self.engine, engine), (self.case, case), (self.what, difference.what), (self.name, difference.name))
        return all(re.fullmatch(expression, text, re.DOTALL) for expression, text in pairs) and self.when(difference)


ACCEPTED: tuple[Accepted, ...] = ()


def reason(engine: str, case: str, difference: Difference) -> str | None:
    """Why this difference is meant, or None."""
    return next((each.reason for each in ACCEPTED if each.covers(engine, case, difference)), None)
