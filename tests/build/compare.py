"""A build's result as fields, {(what, name): value}, and where two of them differ: in the tree, in the config, or that one has failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import base
from dockerfile_cases import Case

Fields = dict[tuple[str, str], str]
USUAL: Mapping[str, Any] = {"Env": [base.ENVIRONMENT], "Cmd": ["/bin/sh"]}  # of the base's config
BUILT = ("build", "")


class Difference(NamedTuple):
    """None is what one of the two does not have: of the tree, a path that is as in the base."""

    what: str
    name: str
    ours: str | None
    theirs: str | None

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.ours!r} is expected, not {self.theirs!r}"


def expected(case: Case) -> Fields:
    if case.fails:
        return {BUILT: "fails"}
    config = {name: value for name, value in {**USUAL, **case.config}.items() if value is not None}
    return {BUILT: "succeeds", **_fields(case.tree or {}, config)}


def found(summary: Mapping[str, Any]) -> Fields:
    """Of what record.summary says; its history is not part of it."""
    if "fails" in summary:
        return {BUILT: "fails"}
    config = {name: value for name, value in summary["config"].items() if name != "history"}
    return {BUILT: "succeeds", **_fields(summary["tree"], config)}


def _fields(tree: Mapping[str, str], config: Mapping[str, Any]) -> Fields:
    settings = {("config", name): json.dumps(value, sort_keys=True, ensure_ascii=False) for name, value in config.items()}
    return {**{("tree", path): words for path, words in tree.items()}, **settings}


def differences(ours: Fields, theirs: Fields) -> list[Difference]:
    if ours[BUILT] != theirs[BUILT]:
        return [Difference(*BUILT, ours[BUILT], theirs[BUILT])]
    names = sorted(ours.keys() | theirs.keys())
    return [Difference(*name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]
