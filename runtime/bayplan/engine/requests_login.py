"""The verb `login`: the host's login at a registry, which is tried before it is kept."""

from __future__ import annotations

import os

from bayplan.model.image_requests import Login, parse_login
from bayplan.model.result import Request, Response, Step
from bayplan.model.value import TYPE_CHECKING
from bayplan.registry import credentials, logins
from bayplan.registry.http import Settings
from bayplan.registry.protocol import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping


def login(request: Request) -> Response:
    """Keep a login, or forget it, where what is stored differs. Raises Denied where the registry does not take it, Unavailable, Invalid.

    No password is in the response. A check asks no registry: whether a new password is right, the run finds out.
    """
    want = parse_login(request.want)
    registry, environment = logins.parse_registry(want.registry), _environment(want)
    stored = _kept(registry, environment)
    same = stored is None if not want.present else _is(stored, want)
    if not same and not request.check:
        if want.present:
            _store(registry, want, environment)
        else:
            logins.forget(registry, environment)
    place = logins.keeper(registry, environment)
    result = {"Registry": registry, "Username": want.username, "Path": place.path, "Helper": place.helper} if want.present else None
    if same:
        return Response(result=None if request.check else result)
    action = "login" if want.present else "logout"
    key, before = f"registry {registry}", {"Username": stored.username} if stored else {}
    after = {"Username": want.username, "Password": "changed"} if want.present else {}
    step = Step(action, "registry", registry, (_why(stored, want),))
    return Response((step,), {key: before}, {key: after}, None if request.check else result)


def _environment(want: Login) -> dict[str, str]:
    return {**os.environ, **({"REGISTRY_AUTH_FILE": want.auth_file} if want.auth_file else {})}


def _kept(registry: str, environment: Mapping[str, str]) -> Credential | None:
    """The login in the place where one is kept: another that is found elsewhere is not ours to change."""
    only = {**environment, "REGISTRY_AUTH_FILE": credentials.docker_file(environment)}
    found = logins.keeper(registry, only)
    if found.helper:
        return credentials.find(registry, "", only)
    return dict(credentials.stored(found.path)).get(registry)


def _is(stored: Credential | None, want: Login) -> bool:
    if stored is None:
        return False
    return (stored.username, stored.password.reveal()) == (want.username, want.password.reveal())


def _why(stored: Credential | None, want: Login) -> str:
    if stored is None:
        return "there is no login"
    if not want.present:
        return f"there is a login of {stored.username}"
    return "the password differs" if stored.username == want.username else f"there is a login of {stored.username}"


def _store(registry: str, want: Login, environment: Mapping[str, str]) -> None:
    credential = Credential(want.username, want.password)
    logins.try_login(registry, credential, Settings(dict(environment)))
    logins.keep(registry, credential, environment)
