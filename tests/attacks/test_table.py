"""The table of attacks names tests that exist, and every test of this directory is in it."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
DIRECTORIES = {"": HERE, "S/": HERE.parent / "system", "U/": HERE.parent / "unit"}


def defined(directory: Path) -> set[str]:
    files = (path for path in directory.glob("test_*.py") if path != Path(__file__))
    return {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}


def test_every_test_that_the_table_names_exists_and_every_attack_is_in_it() -> None:
    named = re.findall(r"`([SU]/)?(test_\w+)`", (HERE / "README.md").read_text())
    absent = [name for where, name in named if name not in defined(DIRECTORIES[where])]
    assert not absent, f"named in the table, and not there: {absent}"
    unnamed = defined(HERE) - {name for where, name in named if not where}
    assert not unnamed, f"there, and not in the table: {sorted(unnamed)}"
