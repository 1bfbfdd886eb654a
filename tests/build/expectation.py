"""Writing an expectation into a case that has none: what the first of the builders that can has made. Read it before it is committed.

`python expectation.py [CASE...]`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import record
from builders import NAMES
from compare import USUAL
from dockerfile_cases import HERE, Case, all_cases


def main(arguments: Sequence[str]) -> int:
    seen = {name: record.read(record.SEEN, name) for name in NAMES}
    for case in all_cases():
        if (arguments and case.name not in arguments) or case.tree is not None or case.fails:
            continue
        made = next((seen[name][case.name] for name in reference_order(case) if "tree" in seen[name].get(case.name, {})), None)
        if made is None:
            print(f"{case.name}: nobody has built it")
            continue
        with open(HERE / "cases" / f"{case.name}.yaml", "a") as file:
            file.write(text(made))
    return 0


def reference_order(case: Case) -> list[str]:
    """Whom to believe first: BuildKit is what `docker build` is today; buildah knows options that it does not."""
    return [name for name in ("buildkit", "buildah", "classic") if name not in case.not_for]


def text(made: dict[str, Any]) -> str:
    tree = "".join(f"    {quoted(path)}: {quoted(words)}\n" for path, words in made["tree"].items())
    said = {name: value for name, value in made["config"].items() if name != "history" and value != USUAL.get(name)}
    said.update({name: None for name in USUAL if name not in made["config"]})
    config = "".join(f"    {name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in said.items())
    return "expect:\n" + (f"  tree:\n{tree}" if tree else "  tree: {}\n") + (f"  config:\n{config}" if config else "")


def quoted(words: str) -> str:
    plain = not set(words) & set(":#'\"{}[],&*!|>%@`\\\n\t") and words == words.strip()
    return words if plain else "'" + words.replace("'", "''") + "'"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
