"""How `plan` and `apply` show steps, and what their options ask of a converge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bayplan import verbs
from bayplan.cli.call import Call
from bayplan.cli.declaration import lines, summary, wanted
from bayplan.cli.options import split
from bayplan.model.result import Response, Step


def call(verb: str, *words: str) -> Call:
    entry = verbs.names()[verb]
    read = split(words, (*entry.options, *verbs.GLOBAL))
    return Call(entry, read.values, read.arguments, "/nowhere")


def test_a_step_is_a_line_with_its_sign_and_its_reason() -> None:
    steps = (
        Step("pull", "image", "web:1", ("it is not here",)),
        Step("create", "container", "web"),
        Step("update", "container", "db", ("mem_limit: 1 -> 2",)),
        Step("remove", "network", "old", ("it is not declared",)),
    )
    before = {"container db": {"mem_limit": 1, "same": 0}}
    after = {"container db": {"mem_limit": 2, "same": 0}}
    assert lines(Response(steps, before, after)) == [
        "+ image web:1  pull  (it is not here)",
        "+ container web  create",
        "~ container db  update  (mem_limit: 1 -> 2)",
        "    - mem_limit: 1",
        "    + mem_limit: 2",
        "- network old  remove  (it is not declared)",
        "1 pull, 1 create, 1 update, 1 remove",
    ]


def test_nothing_to_do_says_so() -> None:
    assert lines(Response()) == ["nothing to do"] == [summary(())]


def test_what_is_declared_reaches_no_terminal_raw() -> None:
    step = Step("update", "container", "web", ("labels: \x1b[2J -> x",))
    after = {"container web": {"labels": {"a": "\x1b[31m\n"}}}
    assert all(line.isprintable() for line in lines(Response((step,), {}, after))), "a label may hold what a terminal obeys"


@pytest.mark.parametrize(
    ("words", "extension"),
    [
        ((), {}),
        (("--absent",), {"state": "absent", "remove_volumes": False}),
        (("--absent", "-v"), {"state": "absent", "remove_volumes": True}),
        (("--remove-orphans=false",), {"remove_orphans": False}),
        (("--wait", "--wait-timeout", "30s"), {"wait": True, "wait_timeout": "30s"}),
        (("--profile", "a", "--profile", "b"), {"profiles": ["a", "b"]}),
    ],
)
def test_an_option_of_apply_is_a_key_of_the_request(words: tuple[str, ...], extension: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("name: shop\nservices: {web: {image: 'box:1', volumes: ['./www:/www']}}\n")
    want = wanted(call("apply", *words, str(tmp_path / "compose.yaml")))
    assert want["name"] == "shop" and want["x-bayplan"] == {"project_directory": str(tmp_path), **extension}


def test_names_of_the_project_and_its_directory_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: 'box:1'}}\n")
    want = wanted(call("plan", "-p", "other", "--project-directory", str(tmp_path)))
    assert want["name"] == "other" and want["x-bayplan"]["project_directory"] == str(tmp_path), "its file is found there"
