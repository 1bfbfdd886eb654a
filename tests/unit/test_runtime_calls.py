"""Calling another runtime: where it is looked for, how long it may take, what its words mean."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bayplan.engine import runtime_calls as calls
from bayplan.errors import BayplanError, Denied, NotFound, Unavailable

WORDS = [
    ('exec: "nothing": executable file not found in $PATH', NotFound),
    ('exec: "/x/nothing": stat /x/nothing: no such file or directory', NotFound),
    ("executable file `nothing` not found in $PATH: No such file or directory", NotFound),
    ('exec: "/x/nothing": permission denied', Denied),
    ('exec: "/x/nothing": is a directory', Denied),
    ("open executable: Operation not permitted", Denied),
    ("mount /nothing: no such file or directory", Unavailable),
    ("open /proc/sys/net/no: no such file or directory", Unavailable),
    ("write cgroup.procs: permission denied", Unavailable),
]


def program(tmp_path: Path, script: str) -> calls.Runtime:
    path = tmp_path / "runtime.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return calls.Runtime("theirs", str(path), "id", str(tmp_path))


def called(runtime: calls.Runtime) -> None:
    calls.expect(runtime, calls.spawn(runtime.argv("create")), "create", program="nothing")


@pytest.mark.parametrize(("words", "kind"), WORDS)
def test_what_a_runtime_says_last_is_the_error(tmp_path: Path, words: str, kind: type[BayplanError]) -> None:
    lines = [{"level": "error", "msg": "an earlier one"}, {"level": "error", "msg": words}, {"level": "info", "msg": "bye"}]
    (tmp_path / "lines").write_text("".join(json.dumps(line) + "\n" for line in lines))
    runtime = program(tmp_path, f"cat {tmp_path}/lines >>{tmp_path}/{calls.LOG}; exit 1")
    with pytest.raises(kind) as raised:
        called(runtime)
    assert words in str(raised.value) and str(raised.value).startswith("theirs create: "), "in its own words"
    assert "nothing" in str(raised.value) or kind is Unavailable, "with the program that it is about"


@pytest.mark.parametrize("log", ["", "no object\n", '{"level": "error"', '["error"]\n', '{"level": 7}\n', "\xff\x00\n"])
def test_a_log_that_says_nothing_is_no_reason_to_fall(tmp_path: Path, log: str) -> None:
    (tmp_path / "lines").write_text(log)
    with pytest.raises(Unavailable, match="theirs create: "):
        called(program(tmp_path, f"cat {tmp_path}/lines >>{tmp_path}/{calls.LOG}; exit 9"))


def test_one_that_is_killed_or_hangs_is_told_from_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="it was killed by signal 9"):
        called(program(tmp_path, "kill -9 $$"))
    monkeypatch.setattr(calls, "_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="it has not ended within 0 s, and was killed"):
        called(program(tmp_path, "exec sleep 600"))
    assert calls.wait(os.posix_spawn("/bin/true", ["true"], {}), 60) == 0, "one that ends well has ended well"


def test_a_call_has_no_descriptor_or_variable_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "value")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    called(program(tmp_path, f"ls -l /proc/self/fd >{tmp_path}/seen; env >>{tmp_path}/seen"))
    os.close(reader)
    os.close(writer)
    seen = (tmp_path / "seen").read_text()
    assert "pipe:" not in seen and "SECRET" not in seen, "what it was not given it could not hand on"


def test_a_name_is_looked_for_in_fixed_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "exit 0").program and (tmp_path / "runtime.sh").rename(tmp_path / "theirs")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="looking for the runtime theirs"):
        calls.find("theirs")
    assert calls.find(str(tmp_path / "theirs")) == str(tmp_path / "theirs"), "or by its path"
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(Unavailable, match="there is no such program"):
            calls.find(str(path))
