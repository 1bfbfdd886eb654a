"""Logging in to a real registry and out again: what is tried, what is stored, and where a password is never seen."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cli_lab import Typist
from registry_lab import RUNTIME, Front, Handler, TokenServer, front, registry

MAIN = [sys.executable, "-I", "-S", f"{RUNTIME}/bayplan/__main__.py"]
PASSWORD = "s3cret-päss:w0rd"

# A helper as docker-credential-helpers wants one; it keeps what it is told beside itself, and how it was called.
HELPER = """#!{python}
import json, os, sys
place = os.path.dirname(os.path.abspath(__file__)) + "/kept.json"
kept = json.load(open(place)) if os.path.exists(place) else {{}}
action, text = sys.argv[1], sys.stdin.read()
with open(place + ".calls", "a") as calls:
    calls.write(json.dumps({{"argv": sys.argv[1:], "environment": dict(os.environ)}}) + "\\n")
if os.path.exists(place + ".broken"):
    sys.exit("it is locked: " + text)
if action == "store":
    document = json.loads(text)
    kept[document["ServerURL"]] = document
elif text not in kept:
    print("credentials not found in native keychain")
    sys.exit(1)
elif action == "get":
    print(json.dumps(kept[text]))
elif action == "erase":
    del kept[text]
json.dump(kept, open(place, "w"))
"""


class Lab(NamedTuple):
    """A registry that knows alice, and a home of our own."""

    server: str
    home: Path

    @property
    def config(self) -> Path:
        return self.home / ".docker/config.json"

    def environment(self, **more: str) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ['PATH']}", "LANG": "C.UTF-8", **more}

    def run(self, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*MAIN, *words], input=stdin.encode(), capture_output=True, timeout=60, env=self.environment(**environment))
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def login(self, password: str = PASSWORD, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("login", "-u", "alice", "--password-stdin", self.server, stdin=f"{password}\n", **environment)

    def entry(self) -> Any:
        return json.loads(self.config.read_text())["auths"].get(self.server)

    def write(self, document: object) -> None:
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(json.dumps(document))

    def helper(self, name: str = "fake") -> Path:
        program = self.home / f"bin/docker-credential-{name}"
        program.parent.mkdir(exist_ok=True)
        program.write_text(HELPER.format(python=sys.executable))
        program.chmod(0o755)
        return program.parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("registry")
    subprocess.run(["htpasswd", "-Bbc", str(directory / "htpasswd"), "alice", PASSWORD], check=True, capture_output=True)
    with registry(directory, auth=f"auth:\n  htpasswd: {{realm: test, path: {directory}/htpasswd}}\n") as name:
        yield name


@pytest.fixture
def lab(server: str, tmp_path: Path) -> Lab:
    return Lab(server, tmp_path)


def decoded(entry: Any) -> str:
    return base64.b64decode(entry["auth"]).decode()


def test_a_right_login_is_stored_for_its_owner_alone_and_with_a_warning_before(lab: Lab) -> None:
    done = lab.login()
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n"), done
    assert "clear text" in done.stderr and str(lab.config) in done.stderr
    assert decoded(lab.entry()) == f"alice:{PASSWORD}"
    assert stat.S_IMODE(lab.config.stat().st_mode) == 0o600
    assert os.listdir(lab.config.parent) == ["config.json"], "nothing else is left there"


def test_what_was_stored_is_used_by_a_pull(lab: Lab) -> None:
    lab.login()
    done = lab.run("--root", str(lab.home / "state"), "pull", f"{lab.server}/nothing:1")
    assert "does not exist" in done.stderr or "does not have it" in done.stderr, done


@pytest.mark.parametrize("password", ["wrong", PASSWORD.upper(), ""])
def test_a_wrong_login_is_not_stored_and_not_shown(lab: Lab, password: str) -> None:
    done = lab.login(password)
    assert done.returncode == 1 and not lab.config.exists(), done
    assert not password or password not in done.stdout + done.stderr, "no message has the password"


def test_a_stored_login_stays_where_a_new_one_is_wrong(lab: Lab) -> None:
    lab.login()
    before = lab.config.read_bytes()
    assert lab.login("wrong").returncode == 1
    assert lab.config.read_bytes() == before


def test_whatever_else_the_file_has_stays(lab: Lab) -> None:
    other = {"auth": base64.b64encode(b"bob:x").decode(), "email": "b@x"}
    document = {
        "HttpHeaders": {"X": "ü"},
        "auths": {"reg.example": other},
        "psFormat": "a\tb",
        "n": 12.5,
        "credHelpers": {"else.example": "x"},
    }
    lab.write(document)
    os.chmod(lab.config, 0o644)
    assert lab.login().returncode == 0
    found = json.loads(lab.config.read_text())
    assert found["auths"].pop(lab.server) and found == document and list(found) == list(document)
    assert stat.S_IMODE(lab.config.stat().st_mode) == 0o600, "there is a password in it now"


def test_a_link_is_followed_and_stays_a_link(lab: Lab) -> None:
    lab.write({"x": 1})
    elsewhere = lab.home / "dotfiles.json"
    lab.config.rename(elsewhere)
    lab.config.symlink_to(elsewhere)
    assert lab.login().returncode == 0
    assert lab.config.is_symlink() and json.loads(elsewhere.read_text())["x"] == 1 and lab.entry()


@pytest.mark.parametrize("content", ["{", '{"auths": {"x": 5}}', '{"auths": {}, "auths": {}}', "[]"])
def test_a_file_that_is_not_understood_is_not_touched(lab: Lab, content: str) -> None:
    lab.config.parent.mkdir()
    lab.config.write_text(content)
    done = lab.login()
    assert done.returncode == 1 and str(lab.config) in done.stderr, done
    assert lab.config.read_text() == content


@pytest.mark.parametrize("variable", ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE"])
def test_the_file_is_where_docker_and_podman_say(lab: Lab, variable: str) -> None:
    value = lab.home / "other" / ("auth.json" if variable == "REGISTRY_AUTH_FILE" else "")
    assert lab.login(**{variable: str(value)}).returncode == 0
    path = value if variable == "REGISTRY_AUTH_FILE" else value / "config.json"
    assert decoded(json.loads(path.read_text())["auths"][lab.server]) == f"alice:{PASSWORD}" and not lab.config.exists()


def test_another_spelling_of_the_registry_is_replaced(lab: Lab) -> None:
    old = {"auth": base64.b64encode(b"alice:old").decode()}
    lab.write({"auths": {f"http://{lab.server}/v2/": old, f"https://{lab.server}": old}})
    assert lab.login().returncode == 0
    assert list(json.loads(lab.config.read_text())["auths"]) == [lab.server]


# Helpers


@pytest.mark.parametrize("kind", ["credsStore", "credHelpers"])
def test_a_helper_keeps_the_password_and_the_file_does_not(lab: Lab, kind: str) -> None:
    old = {"auth": base64.b64encode(b"alice:old").decode()}
    bin = lab.helper()
    lab.write({kind: "fake" if kind == "credsStore" else {lab.server: "fake"}, "auths": {lab.server: old}})
    done = lab.login()
    assert (done.returncode, done.stderr) == (0, ""), "there is nothing to warn of"
    assert json.loads((bin / "kept.json").read_text())[lab.server] == {"ServerURL": lab.server, "Username": "alice", "Secret": PASSWORD}
    assert lab.entry() == {}, "what lay there in clear text is gone"
    calls = (bin / "kept.json.calls").read_text()
    assert json.dumps(PASSWORD) not in calls and PASSWORD not in calls, "neither its arguments nor its environment have the password"
    again = lab.run("login", lab.server)
    assert "existing credentials" in again.stdout and again.returncode == 0, again
    done = lab.run("logout", lab.server)
    assert done.stdout == f"Removing login credentials for {lab.server}\n" and json.loads((bin / "kept.json").read_text()) == {}
    assert lab.server not in json.loads(lab.config.read_text())["auths"]


def test_a_helper_that_fails_stores_nothing_and_its_words_are_not_shown(lab: Lab) -> None:
    bin = lab.helper()
    lab.write({"credHelpers": {lab.server: "fake"}})
    before = lab.config.read_bytes()
    (bin / "kept.json.broken").touch()
    done = lab.login()
    assert done.returncode == 1 and "docker-credential-fake" in done.stderr and PASSWORD not in done.stderr, done
    assert lab.config.read_bytes() == before


def test_a_helper_that_is_not_there_is_named(lab: Lab) -> None:
    lab.write({"credsStore": "nowhere"})
    done = lab.login()
    assert done.returncode == 1 and "docker-credential-nowhere" in done.stderr and "auths" not in lab.config.read_text()


# Logout


def test_a_logout_removes_that_login_alone(lab: Lab) -> None:
    lab.login()
    document = json.loads(lab.config.read_text())
    document["auths"]["reg.example"] = {"auth": base64.b64encode(b"bob:x").decode()}
    lab.write(document)
    assert lab.run("logout", lab.server).stdout == f"Removing login credentials for {lab.server}\n"
    assert list(json.loads(lab.config.read_text())["auths"]) == ["reg.example"]
    assert lab.run("logout", lab.server).stdout == f"Not logged in to {lab.server}\n"


def test_a_logout_without_a_file_makes_none(lab: Lab) -> None:
    done = lab.run("logout")
    assert (done.returncode, done.stdout) == (0, "Not logged in to docker.io\n") and not lab.config.parent.exists()


def test_a_login_that_stays_elsewhere_is_told(lab: Lab) -> None:
    lab.login()
    elsewhere = lab.home / ".config/containers/auth.json"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(lab.config.read_text())
    assert str(elsewhere) in lab.run("logout", lab.server).stderr


# How it is given


def test_a_password_on_the_command_line_is_taken_with_a_warning(lab: Lab) -> None:
    done = lab.run("login", "-u", "alice", "-p", PASSWORD, lab.server)
    assert done.returncode == 0 and "--password-stdin" in done.stderr and PASSWORD not in done.stderr, done


@pytest.mark.parametrize("stdin", [PASSWORD, f"{PASSWORD}\n", f"{PASSWORD}\r\n"])
def test_one_line_end_on_standard_input_is_not_the_password_s(lab: Lab, stdin: str) -> None:
    assert lab.run("login", "-u", "alice", "--password-stdin", lab.server, stdin=stdin).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--password-stdin"], "needs --username"),
        (["-u", "a", "-p", "b", "--password-stdin"], "one too many"),
        (["-u", "a:b", "-p", "x"], "no colon"),
        ([], "terminal"),
        (["-u", "a"], "terminal"),
    ],
)
def test_what_cannot_be_asked_is_said_and_nobody_waits(lab: Lab, words: list[str], said: str) -> None:
    done = lab.run("login", *words, lab.server)
    assert done.returncode == 1 and said in done.stderr, done


@pytest.mark.parametrize("name", ["reg.example/team", "a b", "reg.example:x", "-", "user@reg.example", "nothing"])
def test_what_is_no_registry_is_refused_before_anything_is_asked(lab: Lab, name: str) -> None:
    done = lab.run("login", "-u", "a", "--password-stdin", "--", name, stdin="x")
    assert done.returncode == 1 and "HOST" in done.stderr, done


def test_name_and_password_are_asked_for_at_a_terminal_and_the_password_is_not_shown(lab: Lab) -> None:
    command = ["/usr/bin/env", "-i", *(f"{key}={value}" for key, value in lab.environment().items()), *MAIN, "login", lab.server]
    typist = Typist(command)
    typist.expect(b"Username: ")
    typist.type(b"alice\n")
    typist.expect(b"Password: ")
    typist.type(PASSWORD.encode() + b"\n")
    typist.expect(b"Login Succeeded")
    assert typist.end() == 0 and PASSWORD.encode() not in typist.seen
    again = Typist([*command[:-1], "-u", "alice", lab.server])
    again.expect(b"Password: ")
    again.type(PASSWORD.encode() + b"\n")
    again.expect(b"\n")
    assert PASSWORD.encode() not in again.seen
    again.expect(b"Login Succeeded")
    assert again.end() == 0


# What the registry is like


def test_a_registry_that_asks_nobody_is_told_apart(tmp_path: Path) -> None:
    with registry(tmp_path) as open_one:
        done = Lab(open_one, tmp_path).login("anything")
    assert done.returncode == 0 and "asks nobody for a login" in done.stderr, done


@pytest.mark.parametrize("users", [{"alice": PASSWORD}, {"alice": "another"}], ids=["right", "wrong"])
def test_a_token_server_is_asked_for_no_repository(tmp_path: Path, users: dict[str, str]) -> None:
    tokens = TokenServer(tmp_path, users)

    def answer(handler: Handler) -> bool:
        """A token for nothing in particular, as Docker's own server gives it."""
        if not handler.path.startswith("/token"):
            return False
        asked.append(handler.path)
        pair = base64.b64decode((handler.headers.get("Authorization") or "").partition(" ")[2]).decode()
        user, _, password = pair.partition(":")
        if users.get(user) == password:
            access = [{"type": "registry", "name": "catalog", "actions": ["*"]}]
            handler.answer(200, {}, json.dumps({"token": tokens.sign(access)}).encode())
        else:
            handler.answer(401, {}, b"{}")
        return True

    asked: list[str] = []
    with front("127.0.0.1:1", answer) as server, registry(tmp_path, auth=tokens.registry_auth(f"http://{server.name}/token")) as behind:
        done = Lab(behind, tmp_path).login()
    assert (done.returncode == 0) == (users["alice"] == PASSWORD), done
    assert len(asked) == 1 and "scope" not in asked[0]
    assert (tmp_path / ".docker/config.json").exists() == (done.returncode == 0) and PASSWORD not in done.stderr


def test_nothing_that_runs_shows_the_password_meanwhile(lab: Lab) -> None:
    seen: list[bytes] = []
    stop = threading.Event()

    def slow(handler: Handler) -> bool:
        time.sleep(0.3)
        return False

    def look() -> None:
        while not stop.is_set():
            for directory in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        data = (directory / name).read_bytes()
                    except OSError:
                        continue
                    if PASSWORD.encode() in data:
                        seen.append(data)
            time.sleep(0.02)

    watcher = threading.Thread(target=look)
    lab.helper()
    lab.write({"credsStore": "fake"})
    with front(lab.server, slow) as before:
        watcher.start()
        try:
            done = lab._replace(server=before.name).login()
        finally:
            stop.set()
            watcher.join()
    assert done.returncode == 0 and not seen, done


def test_many_logins_at_once_are_all_kept(lab: Lab) -> None:
    with front(lab.server) as one, front(lab.server) as two, front(lab.server) as three:
        servers: list[Front] = [one, two, three]
        labs = [lab._replace(server=each.name) for each in servers]
        threads = [threading.Thread(target=each.login) for each in labs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(json.loads(lab.config.read_text())["auths"]) == sorted(each.name for each in servers)
