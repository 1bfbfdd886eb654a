"""Logins are tried, kept where Docker keeps them, and forgotten.

Sources: docker(1), "config.json"; docker-credential-helpers, "Development" (store, get, erase: JSON or a server's address on
standard input). A helper that config.json names keeps the password; without one it lies in config.json, which is clear text.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os

from bayplan.errors import Denied, Invalid, NotFound, Unavailable
from bayplan.model.reference import Reference, parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry import credentials, protocol
from bayplan.registry.http import Client, Settings
from bayplan.registry.mirrors import endpoints
from bayplan.registry.protocol import Credential, Request
from bayplan.registry.remote import open_remote, read_registries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


class Keeper(NamedTuple):
    """Who keeps a registry's login: the helper, or where that is "", the file at `path`, which names the helper otherwise."""

    path: str
    helper: str


def parse_registry(text: str) -> str:
    """The registry that somebody wants to log in to: HOST[:PORT], perhaps as a URL; "" is Docker's own. Raises Invalid."""
    registry = credentials.registry_key(text.strip()) or "docker.io"
    try:
        parsed = parse_reference(f"{registry}/x")
    except Invalid:
        parsed = None
    if "/" in registry or parsed is None or parsed.registry != registry:
        raise Invalid(f"reading the registry {text[:200]!r}: it is not HOST or HOST:PORT, such as registry.example:5000")
    return registry


def try_login(registry: str, credential: Credential, settings: Settings) -> bool:
    """Ask the registry whether a credential is right; says whether it wanted to know at all.

    Raises Denied where it is wrong, NotFound where there is no registry, Unavailable where it does not answer.
    """
    reference = Reference(registry, "", None)
    place = endpoints(reference, read_registries(settings))[-1].location
    if place != registry:
        raise Invalid(f"logging in to {registry}: registries.conf sends it to {place}: log in there")
    auth = {name: secret.reveal() for name, secret in zip(Credential._fields[1:], credential[1:]) if secret}
    remote = open_remote(reference, settings=settings, actions="", auth={"username": credential.username, **auth})
    client = Client(remote.settings)
    try:
        return client.converse(_enter(remote.access, registry))
    finally:
        client.close()
        remote.close()


def _enter(access: protocol.Access, registry: str) -> protocol.Conversation[bool]:
    response, access = yield from protocol.ask(access, Request("GET", f"{access.base}/v2/"))
    if response.status == 200:
        return bool(access.authorization)
    if response.status in (401, 403):
        raise Denied(f"logging in to {registry}: it refuses the name or the password")
    if response.status == 404:
        raise NotFound(f"logging in to {registry}: it is no registry, or of an old kind (there is no /v2/)")
    raise protocol.refusal(access, response, f"logging in to {registry}")


def keeper(registry: str, environment: Mapping[str, str]) -> Keeper:
    """Who will keep the registry's login, by the first file that credentials are looked for in. Raises as reading it does."""
    path = credentials.docker_file(environment)
    data = credentials.read(path)
    if data is None:
        return Keeper(path, "")
    file = credentials.parse_auth_file(data, path)
    return Keeper(path, file.helpers.get(registry, file.store))


def keep(registry: str, credential: Credential, environment: Mapping[str, str]) -> None:
    """Store a login; one in clear text that it follows is gone then. Raises Unavailable, Denied; the file is as it was, then."""
    found = keeper(registry, environment)
    url, username, password = credentials.server_url(registry), credential.username, credential.password.reveal()
    entry: dict[str, str] = {}
    if found.helper:
        _run(found, "store", json.dumps({"ServerURL": url, "Username": username, "Secret": password}), registry, environment)
    else:
        entry = {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}
    with _changed(found.path) as document:
        document["auths"] = {**_without(document, registry), url: entry}


def forget(registry: str, environment: Mapping[str, str]) -> bool:
    """Remove a login from where `keep` puts it; says whether there was one. Raises Unavailable, Denied."""
    found, url = keeper(registry, environment), credentials.server_url(registry)
    known = False
    if found.helper:
        known = _run(found, "get", url, registry, environment) is not None
        _run(found, "erase", url, registry, environment)
    if credentials.read(found.path) is None:
        return known
    with _changed(found.path) as document:
        kept = _without(document, registry)
        known = known or len(kept) < len(document.get("auths") or {})
        if "auths" in document:
            document["auths"] = kept
    return known


def _run(found: Keeper, action: str, text: str, registry: str, environment: Mapping[str, str]) -> bytes | None:
    doing = f"{'storing' if action == 'store' else 'removing'} the credential for {registry}"
    return credentials.run_helper(found.helper, action, text, environment, doing=doing)


def _without(document: Mapping[str, Any], registry: str) -> dict[str, Any]:
    """The file's logins but those of the registry, however it is spelled."""
    return {key: value for key, value in (document.get("auths") or {}).items() if credentials.registry_key(key) != registry}


@contextlib.contextmanager
def _changed(path: str) -> Iterator[dict[str, Any]]:
    """The file's document, to be changed: what is not touched stays as it is. It is replaced at once, or not at all.

    A link is followed, as Docker does: people keep this file elsewhere. Others who log in meanwhile wait.
    """
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with _locked(directory):
            data = credentials.read(path)
            if data is not None:
                credentials.parse_auth_file(data, path)  # what is not understood is not written again
            document = json.loads(data) if data is not None else {}
            before = json.dumps(document)
            yield document
            if json.dumps(document) != before:
                _replace(path, (json.dumps(document, indent="\t", ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise Unavailable(f"writing the credentials in {path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    import fcntl

    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: str, data: bytes) -> None:
    """Give the file other content, for its owner's eyes alone from the first byte on."""
    part = f"{path}.{os.urandom(8).hex()}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(path)
                os.fchown(fd, there.st_uid, there.st_gid)  # root may be changing somebody else's
            os.fsync(fd)
        os.rename(part, path)
    except BaseException:
        os.unlink(part)
        raise
