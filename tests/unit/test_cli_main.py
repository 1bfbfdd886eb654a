"""From a command line to an exit status: verbs, help, errors."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bayplan import verbs
from bayplan.cli import main as door
from bayplan.cli.call import bounds
from bayplan.cli.help import overview, reference, usage
from bayplan.cli.names import make_up
from bayplan.cli.version import VERSION
from bayplan.errors import BayplanError

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "runtime/bayplan/__main__.py"


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", str(MAIN), *words], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_every_verb_has_its_handler() -> None:
    for verb in verbs.VERBS:
        module, _, function = verb.handler.partition(":")
        handler = getattr(importlib.import_module(f"bayplan.cli.{module}"), function)
        assert callable(handler), f"{verb.name} leads somewhere"


def test_no_two_verbs_share_a_name_and_no_two_options_of_a_verb_share_one() -> None:
    named = [name for verb in verbs.VERBS for name in (verb.name, *verb.aliases)]
    assert len(named) == len(set(named)), "a name leads to one verb"
    for verb in verbs.VERBS:
        long = [option.name for option in verb.options]
        short = [option.short for option in verb.options if option.short]
        assert len(long) == len(set(long)), f"the options of {verb.name} have a name each"
        assert len(short) == len(set(short)), f"the short options of {verb.name} have a letter each"
        assert not set(long) & {option.name for option in verbs.GLOBAL}, f"{verb.name} leaves the global options alone"


def test_every_verb_of_docker_that_is_there_is_there_under_its_noun_too() -> None:
    known = verbs.names()
    for name in "run create start stop restart kill rm ls logs exec attach wait inspect port update prune".split():
        assert f"container {name}" in known
    for name in "ls rm pull tag load save import inspect prune".split():
        assert f"image {name}" in known


def test_the_manual_is_what_the_table_says() -> None:
    assert (ROOT / "docs/commands.md").read_text() == reference(), "make it anew: python3 -m bayplan _manual > docs/commands.md"


def test_the_version_is_that_of_the_distribution() -> None:
    found = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is None or found[1] == VERSION, "one version, everywhere"


@pytest.mark.parametrize(
    ("arguments", "least", "most"), [("", 0, 0), ("NAME", 1, 1), ("IMAGE [COMMAND] [ARG...]", 1, -1), ("A B", 2, 2), ("[FILE...]", 0, -1)]
)
def test_a_usage_text_says_how_many_arguments_there_are(arguments: str, least: int, most: int) -> None:
    assert bounds(arguments) == (least, most)


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help_of_its_own(verb: verbs.Verb) -> None:
    shown = usage(verb)
    assert shown.startswith(f"Usage: bayplan {verb.name}"), "the first line is the usage"
    assert all(f"--{option.name}" in shown for option in verb.options), "and every option is named"
    assert verb.help and not verb.help.endswith("."), "help is a phrase"


def test_the_overview_names_every_verb_that_people_type() -> None:
    shown = overview()
    assert all(f"  {verb.name} " in shown for verb in verbs.VERBS if not verb.hidden)
    assert "_exited" not in shown, "what only monitors call is not shown"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rnu"], 1, "bayplan: there is no verb 'rnu'; did you mean run?; `bayplan --help` lists them"),
        (["network", "creat"], 1, "bayplan: 'network' has no verb 'creat'; did you mean create?; it has connect, create,"),
        (["network"], 1, "bayplan: 'network' needs a verb: "),
        (["--rot", "x", "ps"], 1, "bayplan: unknown option --rot; did you mean --root?"),
        (["ps", "--al"], 1, "bayplan: unknown option --al; did you mean --all?"),
        (["run", "--pubish", "80", "x"], 125, "bayplan: unknown option --pubish; did you mean --publish?"),
        (["run"], 125, "bayplan: `bayplan run` takes IMAGE [COMMAND] [ARG...]; see `bayplan run --help`"),
        (["ps", "x"], 1, "bayplan: `bayplan ps` takes no argument; see `bayplan ps --help`"),
        (["ps", "--filter", "nmae=x"], 1, "bayplan: --filter nmae=x: there is no filter 'nmae'; did you mean name?"),
        (["run", "-v", "../../x/y:z", "--name", "\x1b[31m", "x"], 125, "bayplan: --name: a name of at least two letters"),
    ],
)
def test_an_error_is_one_line_on_stderr(words: list[str], code: int, message: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, ""), "an error has its exit status, and nothing on stdout"
    assert done.stderr.startswith(message), "it says what is wrong and what was meant"
    assert done.stderr.count("\n") == 1 and "\x1b" not in done.stderr, "in one line, without control characters"


@pytest.mark.parametrize(
    "words", [["--help"], ["help"], ["run", "--help"], ["help", "run"], ["network", "--help"], ["--version"], ["version"]]
)
def test_help_and_version_need_no_state_and_no_root(words: list[str], tmp_path: Path) -> None:
    done = run(*words, "--root", str(tmp_path / "none")) if words == ["version"] else run(*words)
    assert done.returncode == 0 and done.stdout and not done.stderr
    assert not (tmp_path / "none").exists(), "asking makes nothing"


def test_the_exit_status_of_an_error_is_its_own_where_it_has_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    error = BayplanError("starting it: there is no such command")
    error.exit_code = 127  # type: ignore[attr-defined]

    def fails(_: object) -> int:
        raise error

    monkeypatch.setattr("bayplan.cli.run.run", fails)
    assert door.run(["run", "image"]) == 127
    assert capfd.readouterr().err == "bayplan: starting it: there is no such command\n"


def test_a_bug_is_one_line_and_debug_shows_its_trace(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fails(_: object) -> int:
        raise KeyError("x")

    monkeypatch.setattr("bayplan.cli.containers.ps", fails)
    assert door.run(["ps"]) == 1
    assert capfd.readouterr().err == "bayplan: this is a bug: KeyError: 'x' (--debug shows the trace)\n"
    assert door.run(["--debug", "ps"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_module_that_python_lacks_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fails(_: object) -> int:
        raise ModuleNotFoundError("No module named '_sqlite3'", name="_sqlite3")

    monkeypatch.setattr("bayplan.cli.containers.ps", fails)
    assert door.run(["ps"]) == 1
    assert "has no module 'sqlite3'" in capfd.readouterr().err


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["ps"], ["run", "image"], ["apply", str(tmp_path / "x.yaml")]):
        assert door.run([*words, "--root", str(tmp_path)] if words[0] == "ps" else words) in (1, 125)
        assert "needs root" in capfd.readouterr().err


def test_a_full_disk_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fails(_: object) -> int:
        raise OSError(28, "No space left on device", "/var/lib/bayplan/x")

    monkeypatch.setattr("bayplan.cli.containers.ps", fails)
    assert door.run(["ps"]) == 1
    assert capfd.readouterr().err == "bayplan: /var/lib/bayplan/x: no space left on device; free some space and try again\n"


def test_an_old_python_is_told_so() -> None:
    source = MAIN.read_text()
    head = source[: source.index("if not __package__")]
    assert "__future__" not in head and "f'" not in head and 'f"' not in head, "an old Python has to be able to read this much"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.version_info = (3, 6, 15, 'final', 0)\n{head}"], capture_output=True, text=True
    )
    assert done.returncode == 125 and "needs Python 3.9 or newer" in done.stderr and "is 3.6" in done.stderr


def test_made_up_names_are_names_and_rarely_the_same() -> None:
    made = [make_up() for _ in range(50)]
    assert all(re.fullmatch(r"[a-z]+_[a-z]+", name) for name in made)
    assert len(set(made)) > 40
    assert re.fullmatch(r"[a-z]+_[a-z]+\d", make_up(1))


def test_the_root_comes_from_the_option_the_environment_or_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("bayplan.cli.containers.ps", lambda call: seen.append(call.root) or 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BAYPLAN_ROOT", raising=False)
    door.run(["ps"])
    door.run(["--root", "relative", "ps"])
    door.run(["ps", "--root", "/a/../b"])
    monkeypatch.setenv("BAYPLAN_ROOT", "/c")
    door.run(["ps"])
    assert seen == ["/var/lib/bayplan", str(tmp_path / "relative"), "/b", "/c"]
