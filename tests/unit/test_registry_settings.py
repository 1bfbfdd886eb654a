"""What a host says about registries: credentials, registries.conf, proxies."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from bayplan.errors import BayplanError, Denied, Invalid, Unavailable
from bayplan.model.reference import parse_reference
from bayplan.registry import credentials
from bayplan.registry.http import Settings, is_loopback, proxy_for
from bayplan.registry.mirrors import Endpoint, endpoints, parse_registries
from bayplan.registry.remote import read_registries


def auth(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def find(tmp_path: Path, document: object, registry: str = "reg.io", repository: str = "a/b", path: str = "") -> str | None:
    (tmp_path / "config.json").write_text(json.dumps(document))
    environment = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path), "PATH": path}
    found = credentials.find(registry, repository, environment)
    return f"{found.username}:{found.password.reveal()}{found.identity_token.reveal()}" if found else None


@pytest.mark.parametrize("key", ["reg.io", "https://reg.io", "https://reg.io/v1/", "http://reg.io/v2/"])
def test_a_login_is_found_under_every_way_to_write_the_registry(tmp_path: Path, key: str) -> None:
    assert find(tmp_path, {"auths": {key: auth("u:p:q")}}) == "u:p:q"


def test_docker_hub_s_login_is_found_under_its_old_name(tmp_path: Path) -> None:
    assert find(tmp_path, {"auths": {"https://index.docker.io/v1/": auth("u:p")}}, "docker.io") == "u:p"


def test_the_most_particular_login_wins(tmp_path: Path) -> None:
    assert find(tmp_path, {"auths": {"reg.io": auth("all:x"), "reg.io/a": auth("part:y"), "reg.io/ab": auth("no:z")}}) == "part:y"


def test_an_entry_without_content_is_no_login(tmp_path: Path) -> None:
    assert find(tmp_path, {"auths": {"reg.io": {}}}) is None


@pytest.mark.parametrize(
    "document",
    [[], {"auths": {"reg.io": {"auth": "%%%"}}}, {"auths": {"reg.io": 5}}, {"credsStore": "../../bin/sh"}, {"credHelpers": {"x": "a b"}}],
)
def test_a_broken_file_is_named_and_its_content_is_not(tmp_path: Path, document: object) -> None:
    with pytest.raises(Invalid) as raised:
        find(tmp_path, document)
    assert "config.json" in str(raised.value) and "%%%" not in str(raised.value)


def helper(directory: Path, script: str) -> str:
    program = directory / "docker-credential-fake"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{directory}:{os.environ['PATH']}"


def test_a_helper_is_asked_for_its_registry_on_standard_input(tmp_path: Path) -> None:
    path = helper(tmp_path, 'read name; echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$name$1\\"}"')
    assert find(tmp_path, {"credHelpers": {"reg.io": "fake"}, "auths": {"reg.io": auth("no:no")}}, path=path) == "u:reg.ioget"
    assert find(tmp_path, {"credsStore": "fake"}, "docker.io", path=path) == "u:https://index.docker.io/v1/get"


def test_a_helper_s_token_is_an_identity_token(tmp_path: Path) -> None:
    path = helper(tmp_path, 'echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"t\\"}"')
    assert find(tmp_path, {"credsStore": "fake"}, path=path) == ":t"


def test_a_helper_that_knows_nothing_is_no_error(tmp_path: Path) -> None:
    path = helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert find(tmp_path, {"credsStore": "fake"}, path=path) is None


@pytest.mark.parametrize(("script", "error"), [("exit 3", Denied), ("echo nonsense", Invalid)])
def test_a_helper_that_does_not_do_is_an_error(tmp_path: Path, script: str, error: type[BayplanError]) -> None:
    with pytest.raises(error, match="docker-credential-fake"):
        find(tmp_path, {"credsStore": "fake"}, path=helper(tmp_path, script))


def test_a_helper_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="docker-credential-fake"):
        find(tmp_path, {"credsStore": "fake"}, path=str(tmp_path))


def test_a_given_credential_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(Invalid, match="'pass'"):
        credentials.given({"username": "u", "pass": "p"})


CONF = """
unqualified-search-registries = ["docker.io",
    'quay.io'] # several lines

[[registry]]
prefix = "docker.io"   # with a comment
location = "docker.io"
[[registry.mirror]]
location = "mirror.local:5000/hub"
insecure = true
[[registry.mirror]]
location = "digests.local"
pull-from-mirror = "digest-only"

[[registry]]
location = "plain.local:5000"
insecure = true

[[registry]]
prefix = "bad.io"
location = "bad.io"
blocked = true

[[registry]]
prefix = "old.io/team"
location = "new.io/group"

[[registry]]
prefix = "*.wild.io"
insecure = true

[aliases]
"x" = "docker.io/library/x"
"""

PLACES = [
    ("nginx", [Endpoint("mirror.local:5000", "hub/library/nginx", True), Endpoint("docker.io", "library/nginx")]),
    ("nginx@sha256:" + "ab" * 32, [Endpoint("mirror.local:5000", "hub/library/nginx", True), Endpoint("digests.local", "library/nginx"),
                                  Endpoint("docker.io", "library/nginx")]),
    ("plain.local:5000/x", [Endpoint("plain.local:5000", "x", True)]),
    ("old.io/team/app", [Endpoint("new.io", "group/app")]),
    ("old.io/teams/app", [Endpoint("old.io", "teams/app")]),
    ("a.wild.io/x", [Endpoint("a.wild.io", "x", True)]),
    ("wild.io/x", [Endpoint("wild.io", "x")]),
    ("other.io/x", [Endpoint("other.io", "x")]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), PLACES, ids=[each[0] for each in PLACES])
def test_registries_conf_says_where_to_ask(name: str, expected: list[Endpoint]) -> None:
    found = endpoints(parse_reference(name), parse_registries(CONF, path="registries.conf"))
    assert list(found) == expected, "mirrors first, in order, then the place itself"


def test_a_blocked_registry_is_refused() -> None:
    with pytest.raises(Denied, match=r"blocks bad\.io"):
        endpoints(parse_reference("bad.io/x"), parse_registries(CONF, path="registries.conf"))


@pytest.mark.parametrize(
    "text",
    ["[[registry]", "x", "[registries.search]", "[[registry]]\nlocation = 5", "[[registry]]\nlocation = \"a\"\ninsecure = \"yes\"",
     "[[registry]]", "[[registry.mirror]]\nlocation='x'", "a = [1, ", "a = \"\\u0041\"", "a = 'x' y", "[[registry]]\nlocation = 'a b'",
     "a = [[[[[[[1]]]]]]]"],
)  # fmt: skip
def test_a_registries_conf_that_cannot_be_read_names_its_line(text: str) -> None:
    with pytest.raises(Invalid, match=r"registries\.conf"):
        parse_registries(text, path="registries.conf")


def test_files_beside_registries_conf_override_it(tmp_path: Path) -> None:
    main = tmp_path / "registries.conf"
    main.write_text('[[registry]]\nlocation = "a.io"\nblocked = true\n')
    (tmp_path / "registries.conf.d").mkdir()
    (tmp_path / "registries.conf.d" / "1.conf").write_text('[[registry]]\nlocation = "a.io"\ninsecure = true\n')
    found = read_registries(Settings({}, registries_conf=str(main)))
    assert [(each.location, each.blocked, each.insecure) for each in found] == [("a.io", False, True)]
    assert read_registries(Settings({"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "none")}, registries_conf=str(main))) == ()


PROXY = {"HTTPS_PROXY": "http://u:p%40w@proxy:3128", "NO_PROXY": "local.io, .sub.io,10.0.0.0/8,*.star.io,port.io:443, [fd00::1]"}


@pytest.mark.parametrize(
    ("url", "used"),
    [("https://reg.io/v2/", True), ("http://reg.io/", False), ("https://local.io/", False), ("https://a.local.io/", False),
     ("https://a.sub.io/", False), ("https://xsub.io/", True), ("https://10.1.2.3/", False), ("https://11.1.2.3/", True),
     ("https://a.star.io/", False), ("https://port.io:443/", False), ("https://port.io:444/", True), ("https://127.0.0.1/", False),
     ("https://localhost:5000/", False), ("https://[::1]:5000/", False)],
)  # fmt: skip
def test_no_proxy_is_read_as_go_reads_it(url: str, used: bool) -> None:
    found = proxy_for(url, PROXY)
    assert bool(found) == used
    assert not found or (found.host, found.port) == ("proxy", 3128)
    assert not found or found.authorization == f"Basic {base64.b64encode(b'u:p@w').decode()}"


@pytest.mark.parametrize("value", ["https://proxy", "socks5://proxy", "http://", "http://x:y:z"])
def test_a_proxy_that_cannot_be_used_is_an_error(value: str) -> None:
    with pytest.raises(Invalid, match="HTTPS_PROXY"):
        proxy_for("https://reg.io/", {"https_proxy": value})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("localhost.evil.net", False),
        ("127.0.0.1.evil.net", False),
        ("10.0.0.1", False),
    ],
)
def test_only_what_is_loopback_by_its_form_counts_as_such(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected
