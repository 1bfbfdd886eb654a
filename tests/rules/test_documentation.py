"""The documentation that is committed is the one that the option table gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
MODULES = PROJECT / "collection" / "plugins" / "modules"


def load_writer() -> ModuleType:
    specification = importlib.util.spec_from_file_location("modules", PROJECT / "docs" / "modules.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


WRITER = load_writer()


@pytest.mark.parametrize("name", WRITER.modules())
def test_a_modules_documentation_is_what_the_option_table_gives(name: str) -> None:
    assert (MODULES / f"{name}.py").read_text() == WRITER.render(name), "out of date: run `make docs`"


def test_every_module_is_led_to_the_action_plugin_and_is_in_the_group_for_defaults() -> None:
    runtime = yaml.safe_load((PROJECT / "collection" / "meta" / "runtime.yml").read_text())
    assert sorted(runtime["plugin_routing"]["modules"]) == sorted(WRITER.modules()), "a module without its action plugin does nothing"
    assert sorted(runtime["action_groups"]["containers"]) == sorted(WRITER.modules()), "module_defaults reaches every module"


def test_every_option_says_what_it_is_for() -> None:
    from bayplan.model.options import module_options

    for name in WRITER.modules():
        for option in module_options(name):
            assert option.description.endswith("."), f"{name}.{option.name} has a sentence"
