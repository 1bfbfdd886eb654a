"""Reading the cases: one YAML file each; its name says what it shows.

about        what a Dockerfile's reader learns from it
dockerfile   its text
context      {PATH: what is there}: text, or {content, base64, mode, owner, xattrs: {NAME: TEXT}}, {link: TARGET}, {hardlink: PATH},
             {fifo: true}, {char: "1:3"}, {tar: {PATH: as here}}; content and tar may have a compression: gz, xz, bz2, zst; a path that
             ends with a slash is a directory
beside       the same, for files beside the context: those of secrets, of --file; the build is started there, its context is `context`
served       the same, for what a server offers at http://127.0.0.1:8000/ while it is built; {git: {PATH: as here}} is a repository
images       {NAME: Dockerfile}, built first with the same context, in this order
options      words of the command line, before the context
environment  variables of the builder's own process
expect       tree: {PATH: as images.described says}, all that differs from the base; config: {NAME: value}, some of it, null being nothing
fails        a part of the error's text: the build is refused
says         a part of what is said by a build that succeeds: a warning, or a command's output
not_for      {ENGINE: why it cannot build this, or means something else by it}
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "runtime"))

from contents import TIME, write_files  # noqa: E402

from bayplan.model.yaml12 import load  # noqa: E402

Json = dict[str, Any]
KEYS = {"about", "dockerfile", "context", "beside", "served", "images", "options", "environment", "expect", "fails", "says", "not_for"}


class Case(NamedTuple):
    """`key` changes when what is built does; not when only the expectation does."""

    name: str
    about: str
    dockerfile: str
    context: Json
    beside: Json
    served: Json
    images: Mapping[str, str]
    options: tuple[str, ...]
    environment: Mapping[str, str]
    tree: Mapping[str, str] | None
    config: Json
    fails: str
    says: str
    not_for: Mapping[str, str]
    key: str


def all_cases() -> list[Case]:
    return [read_case(path) for path in sorted((HERE / "cases").glob("*.yaml"))]


def read_case(path: Path) -> Case:
    document = load(path.read_text(), path.name)
    unknown = set(document) - KEYS
    assert not unknown, f"{path.name} has keys that mean nothing: {unknown}"
    expected = document.get("expect") or {}
    assert set(expected) <= {"tree", "config"}, f"{path.name} expects more than a tree and a config"
    built = {name: value for name, value in document.items() if name in KEYS - {"about", "expect", "fails", "says", "not_for"}}
    return Case(
        path.stem,
        document["about"],
        document["dockerfile"],
        document.get("context") or {},
        document.get("beside") or {},
        document.get("served") or {},
        document.get("images") or {},
        tuple(document.get("options") or ()),
        document.get("environment") or {},
        expected.get("tree"),
        expected.get("config") or {},
        document.get("fails", ""),
        document.get("says", ""),
        document.get("not_for") or {},
        hashlib.sha256(json.dumps(built, sort_keys=True).encode()).hexdigest()[:16],
    )


def lay_out(case: Case, directory: Path) -> None:
    """The case's directories: `context`, with its Dockerfile unless the context has one, `served`, and what is beside them."""
    time = TIME + int(case.key[:6], 16)  # a file of the same name, size and time as another case's is not sent again by BuildKit
    (directory / "context").mkdir(parents=True)
    for place, files in ((directory, case.beside), (directory / "context", case.context), (directory / "served", case.served)):
        write_files(place, files, time=time)
    if case.dockerfile and "Dockerfile" not in case.context:
        (directory / "context" / "Dockerfile").write_bytes(case.dockerfile.encode("utf-8", "surrogateescape"))
