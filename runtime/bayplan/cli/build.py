"""`build`: an image from a Dockerfile and its context."""

from __future__ import annotations

import os

from bayplan.cli.call import Call
from bayplan.cli.output import write
from bayplan.errors import Invalid, NotFound
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from bayplan.engine.building import Request

_NETWORKS = ("default", "none", "host")
_ENTITLEMENTS = ("security.insecure", "network.host")
_SECRET_LIMIT = 500 << 10  # BuildKit's


def build(call: Call) -> int:
    wanted = request(call)
    state = call.state(create=True)
    from bayplan.engine import building

    row = building.build(state, wanted)
    if call.text("iidfile"):
        with open(call.text("iidfile"), "w", encoding="utf-8") as file:
            file.write(row.id)
    if call.flag("quiet"):
        write(row.id)
    else:
        for tag in wanted.tags or ("",):
            os.write(2, f"built {row.id[7:19]}{' as ' + tag if tag else ''}\n".encode())
    return 0


def request(call: Call) -> Request:
    """What the options ask for. Raises NotFound, Invalid."""
    from bayplan.engine.building import Request

    network = call.text("network", "default")
    if network not in _NETWORKS:
        raise Invalid(f"--network {network}: it is none of {', '.join(_NETWORKS)}")
    unknown = set(call.many("allow")) - set(_ENTITLEMENTS)
    if unknown:
        raise Invalid(f"--allow {', '.join(sorted(unknown))}: what can be allowed is {' and '.join(_ENTITLEMENTS)}")
    return Request(
        context=call.arguments[0],
        dockerfile=call.text("file"),
        tags=call.many("tag"),
        target=call.text("target"),
        build_args=_arguments(call.many("build-arg")),
        labels=dict(each.partition("=")[::2] for each in call.many("label")),
        platform=call.text("platform"),
        secrets=dict(map(_secret, call.many("secret"))),
        agents=dict(map(_agent, call.many("ssh"))),
        contexts=dict(map(_context, call.many("build-context"))),
        allowed=frozenset(call.many("allow")) | ({"network.host"} if network == "host" else set()),
        network=network,
        hosts=tuple(map(_host, call.many("add-host"))),
        cached=not call.flag("no-cache"),
        pull=call.flag("pull"),
        quiet=call.flag("quiet") or call.text("progress") == "quiet",
        epoch=_epoch(call),
    )


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_SECRET_LIMIT + 1)
    except OSError as error:
        raise NotFound(f"reading {path}: {error.strerror}") from error
    if len(data) > _SECRET_LIMIT:
        raise Invalid(f"--secret: {path} is larger than {_SECRET_LIMIT} bytes")
    return data


def _context(text: str) -> tuple[str, str]:
    """NAME=DIRECTORY, NAME=docker-image://IMAGE."""
    name, _, value = text.partition("=")
    if not name or not value or ("://" in value and not value.startswith("docker-image://")):
        raise Invalid(f"--build-context {text}: it is not NAME=DIRECTORY or NAME=docker-image://IMAGE")
    return name.lower(), value


def _host(text: str) -> tuple[str, str]:
    """HOST:ADDRESS or HOST=ADDRESS; (address, host)."""
    import ipaddress

    name, _, address = text.partition("=") if "=" in text else text.partition(":")
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        raise Invalid(f"--add-host {text}: it is not HOST:ADDRESS") from None
    return address.strip("[]"), name


def _arguments(given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE; NAME alone takes the value that the environment has."""
    found = {}
    for each in given:
        name, sign, value = each.partition("=")
        if sign:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def _secret(text: str) -> tuple[str, bytes]:
    """id=ID[,src=FILE|,env=NAME][,type=file|env]."""
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    unknown = fields.keys() - {"id", "src", "source", "env", "type"}
    path, variable = fields.get("src", fields.get("source", "")), fields.get("env", "")
    name = fields.get("id", "") or os.path.basename(path)
    if unknown or not name:
        raise Invalid(f"--secret {text}: it is not id=ID[,src=FILE|,env=NAME]")
    if not path and not variable and fields.get("type") != "file":
        variable = name if name in os.environ or fields.get("type") == "env" else ""
    if variable or fields.get("type") == "env":
        value = os.environ.get(variable or path or name)
        if value is None:
            raise NotFound(f"--secret {text}: the environment has no {variable or path or name}")
        return name, value.encode("utf-8", "surrogateescape")
    return name, _content(path or name)


def _agent(text: str) -> tuple[str, str]:
    """default, ID=SOCKET."""
    name, _, path = text.partition("=")
    socket = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not socket or not os.path.exists(socket):
        raise NotFound(f"--ssh {text}: there is no socket of an agent: {socket or 'SSH_AUTH_SOCK is not set'}")
    return name or "default", os.path.abspath(socket)


def _epoch(call: Call) -> int | None:
    """SOURCE_DATE_EPOCH, as a build argument or in the environment (reproducible-builds.org/docs/source-date-epoch)."""
    text = _arguments(call.many("build-arg")).get("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return None
    if not text.isdigit():
        raise Invalid(f"SOURCE_DATE_EPOCH is {text!r}, and no number of seconds since 1970")
    return int(text)
