"""Credentials as Docker and Podman keep them: config.json and auth.json, and the helpers that these name.

Sources: docker(1) "config.json"; containers-auth.json(5); the credential helpers' protocol (`docker-credential-NAME get`).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re

from bayplan.errors import Denied, Invalid, Unavailable
from bayplan.model.document import load_object
from bayplan.model.secret import Secret
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry.protocol import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_FILE_LIMIT = 4 << 20
_HELPER_SECONDS = 60
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_DOCKER_KEY = "https://index.docker.io/v1/"


class AuthFile(NamedTuple):
    """One such file: stored credentials by key, helpers by key, and the helper for everything else ("" is none)."""

    credentials: Mapping[str, Credential]
    helpers: Mapping[str, str]
    store: str


def given(auth: Mapping[str, str]) -> Credential:
    """The credential that a call was given: username and password, or identity_token, or registry_token."""
    unknown = set(auth) - set(Credential._fields)
    if unknown:
        raise Invalid(f"reading the registry's credential: unknown key {sorted(unknown)[0]!r}")
    texts = {key: value for key, value in auth.items() if value}
    if "username" in texts and ":" in texts["username"]:
        raise Invalid("reading the registry's credential: a username has no colon")
    return Credential(texts.pop("username", ""), **{key: Secret(value) for key, value in texts.items()})


def find(registry: str, repository: str, environment: Mapping[str, str]) -> Credential | None:
    """The stored credential for a repository, by the first file that knows it; None if none does.

    Raises Invalid for a file that cannot be read as one, Unavailable or Denied for a helper that is not there or fails.
    """
    for path in auth_files(environment):
        data = read(path)
        if data is None:
            continue
        found = _find_in(parse_auth_file(data, path), registry, repository, environment)
        if found:
            return found
    return None


def stored(path: str) -> tuple[tuple[str, Credential], ...]:
    """The credentials that a file holds itself, with their keys; none where there is no such file."""
    data = read(path)
    return tuple(parse_auth_file(data, path).credentials.items()) if data is not None else ()


def docker_file(environment: Mapping[str, str]) -> str:
    """Where logins are kept: the first place that is looked at."""
    docker = environment.get("DOCKER_CONFIG") or f"{environment.get('HOME') or '/root'}/.docker"
    return environment.get("REGISTRY_AUTH_FILE") or f"{docker}/config.json"


def auth_files(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where credentials may be, in order."""
    home = environment.get("HOME") or "/root"
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    runtime = environment.get("XDG_RUNTIME_DIR")
    chosen = environment.get("REGISTRY_AUTH_FILE")
    paths = (
        chosen,
        f"{docker}/config.json",
        f"{runtime}/containers/auth.json" if runtime else None,
        f"/run/containers/{os.getuid()}/auth.json",
        f"{home}/.config/containers/auth.json",
    )
    return tuple(path for path in paths if path)


def read(path: str) -> bytes | None:
    """A file's content, None where there is none; one byte over the limit where it has more than that."""
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(f"reading the credentials in {path}: {error.strerror}") from error


def parse_auth_file(data: bytes, path: str) -> AuthFile:
    """Read config.json or auth.json; raises Invalid, which never shows the content."""
    fields = load_object(data, _FILE_LIMIT, path)
    auths = fields.member("auths").values
    credentials = {registry_key(key): _credential(value, path) for key, value in auths.items() if value}
    helpers = {registry_key(key): _helper(name, path) for key, name in fields.pairs("credHelpers")}
    store = fields.string("credsStore")
    return AuthFile(credentials, helpers, _helper(store, path) if store else "")


def _helper(name: str, path: str) -> str:
    if not _HELPER_NAME.match(name):
        raise Invalid(f"reading {path}: {name[:64]!r} is no name of a credential helper")
    return name


def registry_key(text: str) -> str:
    """Keys are registries, sometimes as URLs, with a path where they are for a part of a registry."""
    text = re.sub(r"\Ahttps?://", "", text)
    text = re.sub(r"/(v1|v2)?/?\Z", "", text)
    return "docker.io" if text in ("index.docker.io", "registry-1.docker.io") else text


def _credential(value: Any, path: str) -> Credential:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Invalid(f"reading {path}: an entry of auths is not an object of strings")
    username, password = value.get("username", ""), value.get("password", "")
    if value.get("auth"):
        try:
            decoded = base64.b64decode(value["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Invalid(f"reading {path}: an entry's auth is not base64 of NAME:PASSWORD") from None
        username, _, password = decoded.partition(":")
    identity, token = value.get("identitytoken", ""), value.get("registrytoken", "")
    return Credential(username, Secret(password.rstrip("\0")), Secret(identity), Secret(token))


def keys(registry: str, repository: str) -> tuple[str, ...]:
    """What a credential for the repository may be stored under, the most particular first."""
    parts = f"{registry}/{repository}".split("/")
    return tuple("/".join(parts[:count]) for count in range(len(parts), 0, -1))


def _find_in(file: AuthFile, registry: str, repository: str, environment: Mapping[str, str]) -> Credential | None:
    for key in keys(registry, repository):
        if key in file.helpers:
            return _ask(file.helpers[key], registry, environment)
        if any(file.credentials.get(key, ())):
            return file.credentials[key]
    return _ask(file.store, registry, environment) if file.store else None


def _ask(helper: str, registry: str, environment: Mapping[str, str]) -> Credential | None:
    """The helper's credential; None where it answers that it has none."""
    answer = run_helper(helper, "get", server_url(registry), environment, doing=f"getting the credential for {registry}")
    return None if answer is None else _parse_answer(answer, f"docker-credential-{helper}")


def server_url(registry: str) -> str:
    """What a credential is stored under: Docker's own registry has kept its old name there."""
    return _DOCKER_KEY if registry == "docker.io" else registry


def run_helper(helper: str, action: str, text: str, environment: Mapping[str, str], *, doing: str) -> bytes | None:
    """Run a helper with `text` on its standard input; what it answers, None where it knows no such credential.

    Raises Unavailable for one that is not there or does not answer, Denied for one that does not want to; neither shows what was
    said on either side, which may be a password.
    """
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action], input=text.encode(), capture_output=True, timeout=_HELPER_SECONDS, env=dict(environment), check=False
        )
    except FileNotFoundError:
        raise Unavailable(f"{doing}: the helper {program} is not on this host's PATH") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{doing}: the helper {program} did not answer within {_HELPER_SECONDS} seconds") from None
    except OSError as error:
        raise Unavailable(f"{doing}: the helper {program} cannot be run ({error.strerror})") from None
    if done.returncode == 0:
        return done.stdout
    if b"credentials not found" in done.stdout + done.stderr:
        return None
    raise Denied(f"{doing}: the helper {program} ended with status {done.returncode}")


def _parse_answer(answer: bytes, program: str) -> Credential:
    try:
        document = json.loads(answer)
        username, secret = str(document["Username"]), Secret(document["Secret"])
    except (ValueError, KeyError, TypeError):
        raise Invalid(f"reading the answer of {program}: it is not a credential") from None
    if username == "<token>":
        return Credential(identity_token=secret)
    return Credential(username, secret)
