"""Facts for pyinfra: what is on a host, one list of documents for each kind. A host without the runtime has nothing."""

from __future__ import annotations

import json
import shlex
from typing import Any

from pyinfra.api.facts import FactBase

from bayplan.model.result import DEFAULT_ROOT
from bayplan_pyinfra.transport import find_archive, run_command


class _Documents(FactBase[list[Any]]):
    abstract = True
    kind = ""

    def command(self, names: tuple[str, ...] = (), root: str = DEFAULT_ROOT) -> str:
        """Asks the runtime of this version where it is there, else any: to tell, they are all the same."""
        runtimes = f"{shlex.quote(root)}/runtime"
        found = f'r={runtimes}/{find_archive()[1]}; [ -e "$r/lock" ] || {{ set -- {runtimes}/*/lock; r=${{1%/lock}}; }}'
        told = run_command('"$r"', root, "info", self.kind, root, *names)
        return f'{found}; if [ -e "$r/lock" ]; then {told}; else echo; fi'

    @staticmethod
    def default() -> list[Any]:
        return []

    def process(self, output: list[str]) -> list[Any]:
        text = "".join(output).strip()
        return list(json.loads(text).get("result") or ()) if text else []


class Images(_Documents):
    abstract = False
    kind = "image"


class Containers(_Documents):
    abstract = False
    kind = "container"


class Networks(_Documents):
    abstract = False
    kind = "network"


class Volumes(_Documents):
    abstract = False
    kind = "volume"


class Stacks(_Documents):
    abstract = False
    kind = "stack"
