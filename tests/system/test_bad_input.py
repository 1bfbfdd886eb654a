"""What users get wrong: one clear message that names the remedy, exit status not 0, nothing half done, nothing lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_lab import RUNTIME, Lab, service


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    yield found
    found.close()


# What is declared, the words that the message holds, its kind.
WRONG = [
    ({"services": {"app": {"image": "lab:1", "comand": "true"}}}, ("comand", "command"), "invalid"),
    ({"services": {"app": {"image": "Not A Reference"}}}, ("Not A Reference",), "invalid"),
    ({"services": {"app": {"image": "lab:1", "mem_limit": "lots"}}}, ("mem_limit", "lots"), "invalid"),
    ({"services": {"app": {"image": "lab:1", "volumes": ["./data:/data"]}}}, ("./data", "project_directory"), "invalid"),
    ({"services": {"app": {"image": "lab:1", "cap_add": ["NET_ADMEN"]}}}, ("NET_ADMEN",), "invalid"),
    ({"services": {"app": {"image": "localhost:9/none:1"}}}, ("localhost:9",), "unavailable"),
    ({"services": {"app": {"image": "none:1", "pull_policy": "never"}}}, ("none:1", "pull"), "not_found"),
    ({"services": {"app": {"image": "lab:1", "networks": ["nowhere"]}}}, ("nowhere", "create"), "not_found"),
    ({"services": {"app": service(volumes=["/no/such/../x:/x"], devices=["/dev/nothing"])}}, ("/dev/nothing",), "not_found"),
    ({"services": {"app": service(sysctls={"kernel.panic": "1"})}}, ("kernel.panic",), "invalid"),
    ({"services": {"app": service(ports=["70000:80"])}}, ("70000",), "invalid"),
    ({"services": {"app": {"image": "lab:1", "command": ["nonsense"]}}}, ("nonsense", "not found"), ""),
    ({"services": {"app": service(user="nobody-here")}}, ("nobody-here",), ""),
    ({"name": "p", "services": {"a": service(depends_on=["b"]), "b": service(depends_on=["a"])}}, ("cycle",), ""),
]


@pytest.mark.parametrize(("want", "words", "kind"), WRONG, ids=[words[0] for _, words, _ in WRONG])
def test_a_wrong_declaration_says_so_and_leaves_nothing(lab: Lab, want: dict[str, object], words: tuple[str, ...], kind: str) -> None:
    response = lab.converge(want)
    assert response.error is not None, "it cannot succeed"
    assert response.error[0] != "bug", response.error
    assert not kind or response.error[0] == kind, response.error
    for word in words:
        assert word in response.error[1], f"the message names {word}: {response.error[1]}"
    assert "Traceback" not in response.error[1]
    assert lab.command("ps", "-aq") == "", "no container is left"
    assert list(Path(lab.path, "containers").iterdir()) == [], "nor its directory"


def test_a_full_disk_is_said_and_what_was_there_stays(lab: Lab, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=2m tmpfs {small} && exec {sys.executable} -I -S {RUNTIME}/bayplan/__main__.py"
        f" --root {small}/state import {lab.archive} lab:1"
    )
    ran = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True)
    assert ran.returncode != 0
    assert "disk is full" in ran.stderr or "No space left" in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_truncated_archive_is_refused(lab: Lab, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(Path(lab.archive).read_bytes()[:700_000])
    message = lab.command("import", str(broken), "broken:1", status=1)
    assert "broken.tar" in message or "archive" in message, message
    assert "broken" not in lab.command("images"), "nothing of it is known"
    message = lab.command("load", "-i", str(broken), status=1)
    assert "Traceback" not in message and message.count("\n") == 1, message


def test_another_user_than_root_is_told_what_to_do(lab: Lab) -> None:
    interpreter = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    argv = [interpreter, "-I", "-S", str(RUNTIME / "bayplan/__main__.py"), "ps"]
    script = f"import os; os.setgid(65534); os.setuid(65534); os.execv({interpreter!r}, {argv!r})"
    ran = subprocess.run([interpreter, "-c", script], capture_output=True, text=True)
    assert ran.returncode != 0
    assert "root" in ran.stderr and "Traceback" not in ran.stderr, ran.stderr


def test_a_newer_state_is_refused(lab: Lab) -> None:
    with lab.state().records as db:
        db.execute("PRAGMA user_version = 99")
    message = lab.command("ps", status=1)
    with sqlite3.connect(f"{lab.path}/db.sqlite") as db:
        db.execute("PRAGMA user_version = 1")
    assert "newer" in message, message


def test_records_that_are_no_database_are_said(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite").write_bytes(b"not a database" * 100)
    argv = [sys.executable, "-I", "-S", str(RUNTIME / "bayplan/__main__.py"), "--root", str(tmp_path), "ps"]
    ran = subprocess.run(argv, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "db.sqlite" in ran.stderr and "Traceback" not in ran.stderr, ran.stderr
