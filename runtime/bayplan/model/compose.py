"""A Compose mapping, interpolated and with its files, as the Declaration of a host.

With `name` it is a project, named by Compose's rules; without, a document of single resources, where a key is the name.
Beside the Compose Specification's keys, `x-bayplan` says how the document is to be taken:

    state (present, absent), remove_volumes, remove_orphans, wait, wait_timeout, project_directory, profiles, yaml11,
    files: {path as written: base64 of its content}; "environment:NAME" is the content of a secret from a variable,
    images: {reference: {state, pull, platform, archive, tags, force}}
"""

from __future__ import annotations

from bayplan.model import files, names, units
from bayplan.model.container import Container
from bayplan.model.declaration import Declaration, WantedContainer, WantedImage, WantedNetwork, WantedVolume
from bayplan.model.network import parse_network
from bayplan.model.node import Node
from bayplan.model.scope import Content, Scope
from bayplan.model.service import COMPOSE_KEYS, parse_service
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.model.volume import Volume, parse_volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_TOP = ("name", "version", "services", "networks", "volumes", "secrets", "configs", "include", "x-bayplan")
_EXTENSION = (
    "state", "remove_volumes", "remove_orphans", "wait", "wait_timeout", "project_directory", "files", "profiles", "images",
    "yaml11", "auth",
)  # fmt: skip
_IMAGE = ("state", "pull", "platform", "archive", "tags", "force")
_RESERVED = ("bridge", "host", "none")
_WAIT_SECONDS = 120


class _Service(NamedTuple):
    """A service's key, the name that its container has, and its mapping."""

    key: str
    name: str
    node: Node


def parse_declaration(want: Mapping[str, Any]) -> Declaration:
    """What `want` declares; raises Invalid, which names the place of what is wrong in it."""
    top = Node(want, "").members(_TOP)
    if "include" in top:
        raise top["include"].wrong("it is resolved where the document is read from a file")
    options = top["x-bayplan"].members(_EXTENSION) if "x-bayplan" in top else {}
    project = names.project(top["name"]) if "name" in top else ""
    absent = "state" in options and options["state"].choice("present", "absent") == "absent"
    services = _services(top.get("services"), project, _active(options.get("profiles"), absent))
    declaration = Declaration(
        project=project,
        images=_images(options.get("images")),
        networks=_networks(top.get("networks"), project, services),
        volumes=_volumes(top.get("volumes"), project),
        remove_orphans=_flag(options, "remove_orphans", default=True),
        wait=_flag(options, "wait", default=False),
        wait_timeout=units.seconds(options["wait_timeout"]) if "wait_timeout" in options else _WAIT_SECONDS * units.SECOND,
    )
    if absent:
        return _absent(declaration, services, remove_volumes=_flag(options, "remove_volumes", default=False))
    scope = _scope(top, options, declaration, services)
    containers = tuple(_wanted_container(service, scope) for service in services)
    return _with_implied_volumes(declaration._replace(containers=containers))


def _flag(members: Mapping[str, Node], key: str, *, default: bool) -> bool:
    return members[key].boolean() if key in members else default


def _active(profiles: Node | None, absent: bool) -> frozenset[str]:
    """The profiles that are switched on; "*" is all of them, as for what is taken away."""
    if absent:
        return frozenset({"*"})
    return frozenset(element.word() for element in profiles.elements()) if profiles else frozenset()


def _services(node: Node | None, project: str, active: frozenset[str]) -> tuple[_Service, ...]:
    found: dict[str, _Service] = {}
    for key, each in node.entries() if node else ():
        members = each.members(COMPOSE_KEYS)
        profiles = [profile.word() for profile in members["profiles"].elements()] if "profiles" in members else []
        if profiles and not active & {"*", *profiles}:
            continue
        service = _Service(key, _container_name(key, each, members.get("container_name"), project), each)
        if service.name in found:
            raise each.wrong(f"service {found[service.name].key} has the container name {service.name} as well")
        found[service.name] = service
    return tuple(found.values())


def _container_name(key: str, node: Node, given: Node | None, project: str) -> str:
    if project:
        names.service(Node(key, node.place))
        return names.resource(given or Node(f"{project}-{key}-1", node.place))
    if given and given.value != key:
        raise given.wrong(f"without a project, the container is called {key}")
    return names.resource(Node(key, node.place))


def _scope(
    top: Mapping[str, Node], options: Mapping[str, Node], declaration: Declaration, services: tuple[_Service, ...]
) -> Scope:
    carried = {path: each.text() for path, each in options["files"].entries()} if "files" in options else {}
    in_project = bool(declaration.project)
    return Scope(
        project=declaration.project,
        directory=_directory(options.get("project_directory")),
        networks=_keys(top.get("networks"), declaration.project, ("default",)) if in_project else None,
        volumes=_keys(top.get("volumes"), declaration.project, ()) if in_project else None,
        containers={service.key: service.name for service in services} if in_project else None,
        contents={**_contents("secret", top.get("secrets"), carried), **_contents("config", top.get("configs"), carried)},
        carried=carried,
        yaml11=_flag(options, "yaml11", default=False),
    )


def _directory(node: Node | None) -> str:
    if node is None:
        return ""
    if not node.text().startswith("/") or "\n" in node.value:
        raise node.expected("an absolute path on the host")
    return names.clean(node.value)


# Networks and volumes


def _keys(node: Node | None, project: str, implied: tuple[str, ...]) -> dict[str, str]:
    """The names behind the keys of a project's networks or volumes."""
    found = {key: f"{project}_{key}" for key in implied}
    found.update((key, _name(key, each, project)) for key, each in (node.entries() if node else ()))
    return found


def _name(key: str, node: Node, project: str) -> str:
    """`name:`, the key itself where it is external or there is no project, else PROJECT_KEY."""
    value = node.value if isinstance(node.value, dict) else {}
    external = value.get("external")
    legacy = external.get("name") if isinstance(external, dict) else None
    prefix = f"{project}_" if project and not external else ""
    return names.resource(Node(value.get("name") or legacy or f"{prefix}{key}", f"{node.place}.name"))


def _is_external(node: Node) -> bool:
    external = dict(node.entries()).get("external")
    if external is None or isinstance(external.value, dict):
        return external is not None
    if not external.boolean():
        return False
    others = {key for key, value in node.value.items() if value is not None} - {"external", "name"}
    if any(not key.startswith("x-") for key in others):
        raise node.wrong(f"it is external, so {min(others)!r} cannot be declared here")
    return True


def _state(node: Node) -> str:
    extension = node.value.get("x-bayplan") if isinstance(node.value, dict) else None
    members = Node(extension, f"{node.place}.x-bayplan").members(("state",))
    return members["state"].choice("present", "absent") if "state" in members else "present"


def _networks(node: Node | None, project: str, services: tuple[_Service, ...]) -> tuple[WantedNetwork, ...]:
    entries = dict(node.entries() if node else ())
    if project and "default" not in entries and any(_uses_default(service.node) for service in services):
        entries["default"] = Node(None, "networks.default")
    found: dict[str, WantedNetwork] = {}
    for key, each in entries.items():
        name, external = _name(key, each, project), _is_external(each)
        if name in _RESERVED and not external:
            raise each.wrong(f"{name!r} is built in; declare another name")
        if name in found:
            raise each.wrong(f"two networks are called {name}")
        document = {} if external else each.value
        found[name] = WantedNetwork(parse_network(name, document, project=project, place=each.place), _state(each), external)
    return tuple(found[name] for name in sorted(found))


def _uses_default(service: Node) -> bool:
    networks = service.value.get("networks")
    return "default" in networks if networks else not service.value.get("network_mode")


def _volumes(node: Node | None, project: str) -> tuple[WantedVolume, ...]:
    found: dict[str, WantedVolume] = {}
    for key, each in node.entries() if node else ():
        name, external = _name(key, each, project), _is_external(each)
        if name in found:
            raise each.wrong(f"two volumes are called {name}")
        document = {} if external else each.value
        found[name] = WantedVolume(parse_volume(name, document, project=project, place=each.place), _state(each), external)
    return tuple(found[name] for name in sorted(found))


def _with_implied_volumes(declaration: Declaration) -> Declaration:
    """Without a project, a volume that a container names and nobody declares is made on demand."""
    declared = {volume.spec.name for volume in declaration.volumes}
    used = {mount.source for each in declaration.containers for mount in each.spec.mounts if mount.kind == "volume"}
    implied = tuple(WantedVolume(Volume(name), implied=True) for name in sorted(used - declared - {""}))
    return declaration._replace(volumes=declaration.volumes + implied)


# Secrets, configs, images


def _contents(kind: str, node: Node | None, carried: Mapping[str, str]) -> dict[tuple[str, str], Content]:
    found = {}
    for key, each in node.entries() if node else ():
        members = each.members(("file", "environment", "content", "external", "name", "labels"))
        if "external" in members and members["external"].value is not False:
            raise members["external"].wrong(f"no {kind}s are kept on the host; declare its file")
        sources = [source for source in ("file", "environment", "content") if source in members]
        if len(sources) != 1 or (kind == "secret" and sources == ["content"]):
            # without the value, which may be a secret that was declared wrongly
            raise each.wrong("it needs exactly one of file and environment" + (" and content" if kind == "config" else ""))
        found[kind, key] = files.content(kind, _bytes(sources[0], members[sources[0]], carried))
    return found


def _bytes(source: str, node: Node, carried: Mapping[str, str]) -> bytes:
    from base64 import b64decode

    if source == "content":
        return node.text().encode()
    path = f"environment:{node.line()}" if source == "environment" else node.line()
    if path not in carried:
        raise node.wrong(f"the content of {path!r} was not carried with the document")
    try:
        return b64decode(carried[path], validate=True)
    except ValueError:
        raise node.wrong(f"the content of {path!r} is not base64") from None


def _images(node: Node | None) -> tuple[WantedImage, ...]:
    return tuple(_image(reference, each) for reference, each in sorted(node.entries() if node else ()))


def _image(reference: str, node: Node) -> WantedImage:
    members = node.members(_IMAGE)
    state = members["state"].choice("present", "absent") if "state" in members else "present"
    return WantedImage(
        names.image(Node(reference, node.place)),
        state,
        pull=members["pull"].choice("missing", "always", "never") if "pull" in members else "missing",
        platform=members["platform"].line() if "platform" in members else "",
        archive=_directory(members["archive"]) if "archive" in members else "",
        tags=tuple(names.image(tag) for tag in members["tags"].one_or_many()) if "tags" in members else (),
        force=_flag(members, "force", default=False),
    )


# Containers


def _wanted_container(service: _Service, scope: Scope) -> WantedContainer:
    place = service.node.place
    extension = service.node.value.get("x-bayplan") if isinstance(service.node.value, dict) else None
    options = dict(Node(extension, f"{place}.x-bayplan").entries())
    state = options["state"].choice("present", "started", "stopped", "absent") if "state" in options else "started"
    alias = service.key if scope.project else ""
    spec = parse_service(service.name, service.node.value or {}, scope, alias=alias, place=place)
    known = _flag(options, "known", default=bool(spec.image)) and state != "absent"
    if not spec.image and (known or state == "present" or "state" not in options):
        raise service.node.wrong("image is missing")
    if not known:
        spec = Container(service.name, "", project=scope.project, service=alias)
    return WantedContainer(
        spec,
        state,
        known,
        ignore=_ignored(options["ignore"]) if "ignore" in options else (),
        recreate=options["recreate"].choice("auto", "always", "never") if "recreate" in options else "auto",
        restart=_flag(options, "restart", default=False),
        force=_flag(options, "force", default=False),
    )


def _ignored(node: Node) -> tuple[str, ...]:
    return tuple(sorted(node.members_of(COMPOSE_KEYS)))


def _absent(declaration: Declaration, services: tuple[_Service, ...], *, remove_volumes: bool) -> Declaration:
    """The same, taken away: containers, networks that are the project's own, and volumes where it is asked for."""
    gone = tuple(
        WantedContainer(
            Container(service.name, "", project=declaration.project, service=service.key if declaration.project else ""),
            "absent",
            known=False,
        )
        for service in services
    )
    return declaration._replace(
        images=(),
        networks=tuple(each._replace(state="absent") for each in declaration.networks if not each.external),
        volumes=tuple(each._replace(state="absent") for each in declaration.volumes if remove_volumes and not each.external),
        containers=gone,
    )
