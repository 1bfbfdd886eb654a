"""Hatchling's hook: the wheel holds the collection where Ansible finds it, and the archive that travels inside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent


class CollectionHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(HERE))
        import archive
        import collection

        if not (HERE / "bayplan" / "_vendor").is_dir():
            archive.vendor()
        if version == "editable":  # a checkout's collection is linked instead: a copy would not follow its changes
            return
        staged = collection.stage(HERE.parent / "build" / "staged")
        build_data["force_include"][str(staged)] = str(collection.PLACE)
