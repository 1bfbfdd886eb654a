"""`run`, `create`, `update`: from options to a declaration, and from it to a container."""

from __future__ import annotations

import os

from bayplan.cli.call import Call
from bayplan.cli.output import each, write
from bayplan.cli.service import limits_mapping, service_mapping
from bayplan.errors import BayplanError, Conflict, Invalid
from bayplan.model.container import Container, Mount, Port
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from bayplan.engine.containers import Record
    from bayplan.engine.state import State

_NAME_ATTEMPTS = 5


def run(call: Call) -> int:
    """Create a container and start it; in the foreground its exit status is ours."""
    if call.flag("detach") and call.given("attach"):
        raise Conflict("--detach and --attach contradict each other")
    if not call.flag("detach"):
        from bayplan.cli.streams import check

        check(call)
    state = call.state(create=True, lasting=not call.flag("rm"))
    spec = declared(call)
    record = _create(call, state, spec)
    from bayplan.engine import start, stop

    try:
        if call.flag("detach"):
            start.start(state, record)
            write(record.id)
            return 0
        from bayplan.cli.streams import foreground

        return foreground(call, state, record)
    except BayplanError:
        if spec.auto_remove:
            stop.remove(state, record, force=True, volumes=True)
        raise


def create(call: Call) -> int:
    record = _create(call, call.state(create=True), declared(call))
    write(record.id)
    return 0


def declared(call: Call, *, name: str | None = None) -> Container:
    """The container that the options and arguments declare; raises Invalid, Conflict."""
    from bayplan.model import names
    from bayplan.model.node import Node
    from bayplan.model.service import parse_service

    chosen = name or call.text("name")
    if chosen:
        names.resource(Node(chosen, "--name"))
    mapping = service_mapping(call, variables=os.environ, directory=os.getcwd())
    try:
        return parse_service(chosen, mapping, place="options")
    except Invalid as error:
        raise Invalid(_by_option(str(error))) from error


def _by_option(message: str) -> str:
    """A message that begins with a key's place, with the option's name instead: options.ports[0] is --publish."""
    import re

    from bayplan.cli.service import option_of

    found = re.match(r"options\.((?:x-bayplan\.)?[a-z_]+)[^:]*: ", message)
    option = option_of(found[1]) if found else ""
    return f"{option}: {message[found.end() :]}" if found and option else message


def _create(call: Call, state: State, spec: Container) -> Record:
    """Make the container, its name made up where none was given, and write the --cidfile."""
    from bayplan.engine import containers

    cidfile = _open_cidfile(call.text("cidfile"))
    try:
        complete = _completed(call, state, spec)
        record = containers.create(state, complete) if spec.name else _create_nameless(state, complete)
    except BaseException:
        if cidfile is not None:
            os.close(cidfile)
            os.unlink(call.text("cidfile"))
        raise
    if cidfile is not None:
        os.write(cidfile, record.id.encode())
        os.close(cidfile)
    return record


def _create_nameless(state: State, spec: Container) -> Record:
    from bayplan.cli.names import make_up
    from bayplan.engine import containers

    for attempt in range(_NAME_ATTEMPTS):
        name = make_up(attempt)
        try:
            return containers.create(state, spec._replace(name=name))
        except Conflict:
            if name not in [each.name for each in containers.all_records(state)]:
                raise
    raise Conflict("making up a name: all that were tried are taken; give one with --name")


def _open_cidfile(path: str) -> int | None:
    if not path:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise Conflict(f"--cidfile {path}: it exists already; remove it, or name another file") from error
    except OSError as error:
        raise Invalid(f"--cidfile {path}: {error.strerror}") from error


def _completed(call: Call, state: State, spec: Container) -> Container:
    """What only the image and other containers know: -P, --volumes-from."""
    for text in call.many("volumes-from"):
        spec = _with_volumes_of(state, spec, text)
    if call.flag("quiet"):
        spec = _with_image(call, state, spec)
    if call.flag("publish-all"):
        spec = _with_exposed_ports(call, state, spec)
    return spec


def _with_volumes_of(state: State, spec: Container, text: str) -> Container:
    from bayplan.engine import containers

    name, _, mode = text.partition(":")
    if mode not in ("", "ro", "rw"):
        raise Invalid(f"--volumes-from {text}: {mode!r} is neither ro nor rw")
    other = containers.find(state, name)
    taken = {mount.target for mount in spec.mounts}
    more = [mount for mount in _mounts_of(state, other) if mount.target not in taken]
    more = [mount._replace(read_only=mount.read_only or mode == "ro") for mount in more]
    return spec._replace(mounts=tuple(sorted((*spec.mounts, *more), key=lambda mount: mount.target)))


def _mounts_of(state: State, record: Record) -> list[Mount]:
    """The container's mounts, anonymous volumes and those of its image by their names."""
    from bayplan.store import records

    uses = {use.target: use.volume for use in records.volume_uses(state.records, container=record.id)}
    named = [mount._replace(source=uses.pop(mount.target, mount.source)) for mount in record.spec.mounts]
    return [*named, *(Mount("volume", target, volume) for target, volume in uses.items())]


def _with_image(call: Call, state: State, spec: Container) -> Container:
    """Make sure of the image now; the registry need not be asked a second time."""
    from bayplan.engine import images

    images.ensure(state, spec.image, pull=spec.pull, platform=spec.platform, quiet=call.flag("quiet"))
    return spec._replace(pull="missing" if spec.pull == "always" else spec.pull)


def _with_exposed_ports(call: Call, state: State, spec: Container) -> Container:
    from bayplan.engine import images
    from bayplan.model.node import Node
    from bayplan.model.ports import parse_expose
    from bayplan.model.scope import Scope

    spec = _with_image(call, state, spec)
    row = images.find(state, spec.image)
    exposed = Node([*images.config(state, row.id).exposed_ports, *spec.expose], f"--publish-all: what {spec.image} exposes")
    pairs = [(int(digits), protocol) for digits, _, protocol in (text.partition("/") for text in parse_expose(exposed, Scope()))]
    published = {(port.target, port.protocol) for port in spec.ports}
    return spec._replace(ports=(*spec.ports, *(Port(port, 0, protocol) for port, protocol in pairs if (port, protocol) not in published)))


_LIMIT_FIELDS = {
    "memory": "memory",
    "memory-swap": "memory_swap",
    "memory-reservation": "memory_reservation",
    "cpus": "cpus",
    "cpu-quota": "cpus",
    "cpu-period": "cpus",
    "cpu-shares": "cpu_shares",
    "cpuset-cpus": "cpuset",
    "cpuset-mems": "cpuset_mems",
    "pids-limit": "pids",
}


def update(call: Call) -> int:
    """Change limits and the restart policy of containers in place; what was not given stays."""
    if not any(call.given(option.name) for option in call.verb.options):
        raise Invalid("`bayplan update` needs at least one option; see `bayplan update --help`")
    state = call.state()
    from bayplan.engine import adjust, containers

    def one(name: str) -> None:
        record = containers.find(state, name)
        adjust.adjust(state, record, changed(call, record.spec))

    return each(call.arguments, one)


def changed(call: Call, spec: Container) -> Container:
    """`spec` with those limits and that restart policy that the options name; raises Invalid."""
    from bayplan.model.service import parse_service

    mapping: dict[str, Any] = {"image": spec.image, **limits_mapping(call)}
    if call.given("cpuset-mems"):
        mapping["x-bayplan"] = {"cpuset_mems": call.text("cpuset-mems")}
    try:
        given = parse_service(spec.name, mapping, place="options")
    except Invalid as error:
        raise Invalid(_by_option(str(error))) from error
    fields = {field: getattr(given.limits, field) for name, field in _LIMIT_FIELDS.items() if call.given(name)}
    limits = spec.limits._replace(**fields)
    if 0 < limits.memory_swap < limits.memory:
        raise Invalid("update: --memory-swap counts memory and swap together, so it cannot be under --memory")
    return spec._replace(limits=limits, restart=given.restart if call.given("restart") else spec.restart)
