"""Verbs about who we are to registries."""

from __future__ import annotations

import os
import sys

from bayplan.cli.call import Call
from bayplan.cli.output import printable, write
from bayplan.errors import Denied, Invalid
from bayplan.model.secret import Secret
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from bayplan.registry.protocol import Credential

_LONGEST = 64 << 10


def login(call: Call) -> int:
    """Try a login, and store it where it is right. With nothing given, one that is stored is tried first, as Docker does."""
    from bayplan.registry import credentials, logins
    from bayplan.registry.http import Settings

    registry, settings = logins.parse_registry("".join(call.arguments)), Settings(dict(os.environ))
    stored = credentials.find(registry, "", settings.environment)
    if not (call.given("username") or call.given("password") or call.flag("password-stdin")) and stored and _is_right(registry, stored):
        write("Login Succeeded")
        return 0
    credential = _given(call, stored.username if stored else "")
    if not logins.try_login(registry, credential, settings):
        _warn(f"{registry} asks nobody for a login: whether this one is right is not known")
    place = logins.keeper(registry, settings.environment)
    if not place.helper:
        _warn(
            f"the password is stored in clear text (base64 hides nothing) in {place.path}; "
            "name a credential helper there (credsStore, credHelpers) to have it kept better"
        )
    logins.keep(registry, credential, settings.environment)
    write("Login Succeeded")
    return 0


def _is_right(registry: str, stored: Credential) -> bool:
    from bayplan.registry import logins
    from bayplan.registry.http import Settings

    write(f"Authenticating with existing credentials... [Username: {printable(stored.username)}]")
    try:
        logins.try_login(registry, stored, Settings(dict(os.environ)))
    except Denied as error:
        _warn(f"{error}; the stored login is not right any more")
        return False
    return True


def _given(call: Call, stored_name: str) -> Credential:
    """The credential by the options, and for what they lack by asking at the terminal."""
    from bayplan.registry.protocol import Credential

    if call.given("password") and call.flag("password-stdin"):
        raise Invalid("login: --password and --password-stdin are one too many")
    if call.given("password"):
        _warn("a password on the command line is seen by everybody on this host, and kept by the shell; use --password-stdin")
    if call.flag("password-stdin") and not call.text("username"):
        raise Invalid("login: --password-stdin needs --username")
    username = call.text("username") or _asked_name(stored_name)
    if ":" in username:
        raise Invalid("login: a username has no colon")
    password = Secret(call.text("password"))
    if not call.given("password"):
        password = _piped() if call.flag("password-stdin") else _asked_password()
    if not username or not password:
        raise Invalid(f"login: there is no {'password' if username else 'username'}")
    return Credential(username, password)


def _piped() -> Secret:
    """All of standard input but the line's end that `echo` and editors leave."""
    data = sys.stdin.buffer.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise Invalid(f"login: the password on standard input is over {_LONGEST} bytes long")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Invalid("login: the password on standard input is not UTF-8") from None
    return Secret(text[: -len("\n")].removesuffix("\r") if text.endswith("\n") else text)


def _asked_name(stored_name: str) -> str:
    _require_terminal()
    sys.stderr.write(f"Username ({printable(stored_name)}): " if stored_name else "Username: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() or stored_name


def _asked_password() -> Secret:
    _require_terminal()
    import getpass

    try:
        return Secret(getpass.getpass("Password: "))
    except EOFError:
        return Secret("")


def _require_terminal() -> None:
    if not os.isatty(0):
        raise Invalid("login: standard input is no terminal to ask at; give --username and --password-stdin")


def logout(call: Call) -> int:
    from bayplan.registry import credentials, logins

    registry, environment = logins.parse_registry("".join(call.arguments)), dict(os.environ)
    known = logins.forget(registry, environment)
    write(f"Removing login credentials for {registry}" if known else f"Not logged in to {registry}")
    if credentials.find(registry, "", environment):
        _warn(f"there is another login for {registry} in one of {', '.join(credentials.auth_files(environment)[1:])}")
    return 0


def _warn(text: str) -> None:
    sys.stderr.write(f"bayplan: warning: {printable(text)}\n")
