"""Reading Compose files, on a controller or on the host: files in, the mapping that `parse_declaration` takes out.

What a document names (env_file, secrets, configs) is read here and carried inside it: the host that converges has no such files.
"""

from __future__ import annotations

import os
import stat

from bayplan.errors import Invalid, NotFound
from bayplan.model import dotenv
from bayplan.model.environment import env_file_paths
from bayplan.model.interpolation import interpolate_tree
from bayplan.model.merging import Override, merge, settled
from bayplan.model.node import Node
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
LARGEST_FILE = 10 << 20
_DEEPEST_INCLUDE = 10
_KINDS = ("services", "networks", "volumes", "secrets", "configs")


class Reading(NamedTuple):
    """Where relative paths start, and what variables are: the environment's over those of `.env`."""

    base: str
    variables: Mapping[str, str]


def read_project(
    paths: Sequence[str],
    *,
    project_directory: str | None = None,
    project_name: str | None = None,
    environment: Mapping[str, str] | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """One project from its Compose files, merged in order, interpolated, with the content of every file that it names.

    Relative paths to read start at `base` (default: the first file's directory), relative bind sources on the host at
    `project_directory`. The name is `project_name`, COMPOSE_PROJECT_NAME, the document's, or the base directory's.
    Raises NotFound for a missing file, Invalid for what is wrong in one.
    """
    if not paths:
        raise Invalid("reading a project: no Compose file is named")
    directory = os.path.abspath(base or os.path.dirname(os.path.abspath(paths[0])))
    reading = _reading(directory, environment)
    document: Any = {}
    for path in paths:
        document = merge(document, _file(os.path.abspath(path), reading, ()))
    return _completed(settled(document), reading, project_directory, project_name)


def read_definition(
    definition: Mapping[str, Any],
    *,
    project_directory: str | None = None,
    project_name: str | None = None,
    environment: Mapping[str, str] | None = None,
    base: str | None = None,
    yaml11: bool = False,
) -> dict[str, Any]:
    """The same for a document that somebody else has already read; `yaml11` says that it was read by YAML 1.1's rules."""
    reading = _reading(os.path.abspath(base or "."), environment)
    document = interpolate(definition, reading.variables)
    document = settled(_resolved(document, reading.base, reading, ()))
    completed = _completed(document, reading, project_directory, project_name)
    if yaml11:
        completed["x-bayplan"]["yaml11"] = True
    return completed


def with_files(document: Mapping[str, Any], *, base: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`document` with what it names read from `base`: env files become variables, secrets and configs are carried."""
    reading = Reading(os.path.abspath(base), environment or {})
    found = dict(document)
    services = {key: _with_variables(each, reading) for key, each in Node(document.get("services"), "services").entries()}
    if services:
        found["services"] = services
    carried = {path: _content(path, reading) for path in _carried_paths(document)}
    if carried:
        extension = found.get("x-bayplan") or {}
        found["x-bayplan"] = {**extension, "files": {**carried, **(extension.get("files") or {})}}
    return found


def interpolate(document: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """`document` with the variables in every text value replaced; Invalid where one is malformed or demanded."""
    found: dict[str, Any] = interpolate_tree(Node(document, ""), variables.get)
    return found


def referenced_files(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Every path, as it is written, that `with_files` reads; "environment:NAME" is a variable that a secret is made of."""
    paths = [
        path
        for _, service in Node(document.get("services"), "services").entries()
        for key, each in service.entries()
        if key == "env_file" and each.value is not None
        for path, _ in env_file_paths(each)
    ]
    return tuple(dict.fromkeys([*paths, *_carried_paths(document)]))


def find_files(directory: str) -> tuple[str, ...]:
    """The default file and its override, in `directory` or the nearest one above; NotFound where there is none."""
    current = os.path.abspath(directory)
    while True:
        for name in FILE_NAMES:
            path = os.path.join(current, name)
            if os.path.isfile(path):
                stem, suffix = os.path.splitext(path)
                overrides = (f"{stem}.override{suffix}", f"{stem}.override{'.yml' if suffix == '.yaml' else '.yaml'}")
                return (path, *[each for each in overrides if os.path.isfile(each)][:1])
        if current == os.path.dirname(current):
            raise NotFound(f"looking for a Compose file in {directory}: there is none of {', '.join(FILE_NAMES)}")
        current = os.path.dirname(current)


def _reading(base: str, environment: Mapping[str, str] | None) -> Reading:
    """The environment wins over `.env`, which may use it."""
    given = dict(os.environ) if environment is None else dict(environment)
    path = os.path.join(base, ".env")
    if not os.path.isfile(path):
        return Reading(base, given)
    try:
        found = dotenv.parse(_text(path), given)
    except Invalid as error:
        raise Invalid(f"reading {path}: {error}") from error
    return Reading(base, {**{name: value for name, value in found.items() if value is not None}, **given})


# Files, and files that they lead to


def _file(path: str, reading: Reading, chain: tuple[str, ...]) -> dict[str, Any]:
    """One Compose file: read, interpolated, its includes and extensions resolved.

    Paths in an included or extended file start at that file; in the project's own files, wherever they lie, at `reading.base`.
    """
    from bayplan.model import yaml12  # ruamel.yaml takes 100 ms: only where a file is read

    if path in chain or len(chain) > _DEEPEST_INCLUDE:
        raise Invalid(f"reading {path}: files include or extend each other in a circle: {' -> '.join([*chain, path])}")
    document = yaml12.load(_text(path), path)
    if not isinstance(document, dict):
        raise Invalid(f"reading {path}: a Compose file is a mapping with services")
    try:
        document = interpolate(document, reading.variables)
        document = _rebased(document, os.path.dirname(path), reading.base) if chain else document
        return _resolved(document, os.path.dirname(path), reading, (*chain, path))
    except Invalid as error:
        raise error if str(error).startswith("reading ") else Invalid(f"reading {path}: {error}") from error


def _resolved(document: dict[str, Any], directory: str, reading: Reading, chain: tuple[str, ...]) -> dict[str, Any]:
    """The document without `include` and `extends`."""
    included = document.pop("include", None) or []
    services = Node(document.get("services"), "services").entries()
    if services:
        document["services"] = {key: _extended(key, document["services"], directory, reading, chain, ()) for key, _ in services}
    for element in Node(included, "include").elements():
        members = element.members(("path",)) if isinstance(element.value, dict) else {"path": element}
        if "path" not in members:
            raise element.wrong("path is missing")
        for path in members["path"].one_or_many():
            document = _joined(document, _file(_inside(path, directory, reading), reading, chain), path)
    return document


def _joined(document: dict[str, Any], included: dict[str, Any], node: Node) -> dict[str, Any]:
    """Both, where they do not declare the same thing: an included file cannot quietly change another."""
    found = dict(document)
    for kind in _KINDS:
        own, other = dict(document.get(kind) or {}), dict(included.get(kind) or {})
        for key in own.keys() & other.keys():
            if own[key] != other[key]:
                raise node.wrong(f"{kind}.{key} is declared in the including file as well")
        if own or other:
            found[kind] = {**other, **own}
    return found


def _extended(
    key: str, services: Mapping[str, Any], directory: str, reading: Reading, chain: tuple[str, ...], seen: tuple[str, ...]
) -> Any:
    """The service `key` laid upon the one that it extends."""
    service = services[key]
    if not isinstance(service, dict) or not service.get("extends"):
        return service
    node = Node(service["extends"], f"services.{key}.extends")
    members = node.members(("service", "file")) if isinstance(node.value, dict) else {"service": node}
    if "service" not in members or key in seen:
        raise node.wrong("services extend each other in a circle" if key in seen else "service is missing")
    name = members["service"].word()
    if "file" in members:
        document = _file(_inside(members["file"], directory, reading), reading, chain)
        base = (document.get("services") or {}).get(name)
    else:
        base = _extended(name, services, directory, reading, chain, (*seen, key)) if name in services else None
    if base is None:
        raise node.wrong(f"there is no service {name!r} to extend")
    own = {word: value for word, value in service.items() if word != "extends"}
    return merge(base, own, f"services.{key}")


def _inside(node: Node, directory: str, reading: Reading) -> str:
    """The path of another Compose file: local, and below the project's directory, links resolved."""
    text = node.line()
    if "://" in text or text.startswith(("git@", "oci:", "github.com")):
        raise node.wrong(f"{text[:80]!r} is not a local file; remote documents are not read")
    path = os.path.realpath(os.path.join(directory, text))
    if not path.startswith(os.path.realpath(reading.base).rstrip("/") + "/"):
        raise node.wrong(f"{text[:80]!r} leads out of {reading.base}")
    return path


def _rebased(document: dict[str, Any], directory: str, base: str) -> dict[str, Any]:
    """Relative paths of a file in a subdirectory as paths relative to the project's."""
    prefix = os.path.relpath(directory, base)
    if prefix == ".":
        return document
    found = dict(document)
    for kind in ("secrets", "configs"):
        entries = found.get(kind)
        if isinstance(entries, dict):
            found[kind] = {key: _moved(each, "file", prefix) for key, each in entries.items()}
    if isinstance(found.get("services"), dict):
        found["services"] = {key: _rebased_service(each, prefix) for key, each in found["services"].items()}
    return found


def _rebased_service(service: Any, prefix: str) -> Any:
    if not isinstance(service, dict):
        return service
    found = dict(service)
    for key, change in (("env_file", _rebased_env_file), ("volumes", _rebased_volume)):
        if key in found:
            found[key] = _each(found[key], change, prefix)
    return found


def _each(value: Any, change: Callable[[Any, str], Any], prefix: str) -> Any:
    """`change` of every element of a list, of what stands in its place, or of what is tagged."""
    if isinstance(value, Override):
        return value._replace(value=_each(value.value, change, prefix))
    return [change(each, prefix) for each in value] if isinstance(value, list) else change(value, prefix)


def _rebased_env_file(file: Any, prefix: str) -> Any:
    return _moved(file, "path", prefix) if isinstance(file, dict) else _relative(file, prefix)


def _rebased_volume(volume: Any, prefix: str) -> Any:
    if isinstance(volume, dict):
        return _moved(volume, "source", prefix) if volume.get("type") == "bind" else volume
    return _relative(volume, prefix) if isinstance(volume, str) and volume.startswith(".") else volume


def _moved(value: Any, key: str, prefix: str) -> Any:
    return {**value, key: _relative(value[key], prefix)} if isinstance(value, dict) and value.get(key) else value


def _relative(path: Any, prefix: str) -> Any:
    return f"./{prefix}/{path}" if isinstance(path, str) and not path.startswith(("/", "~")) else path


# What completes a document


def _completed(
    document: dict[str, Any], reading: Reading, project_directory: str | None, project_name: str | None
) -> dict[str, Any]:
    found = with_files(document, base=reading.base, environment=reading.variables)
    found["name"] = project_name or reading.variables.get("COMPOSE_PROJECT_NAME") or found.get("name") or _directory_name(reading.base)
    extension = dict(found.get("x-bayplan") or {})
    if project_directory:
        extension["project_directory"] = project_directory
    profiles = reading.variables.get("COMPOSE_PROFILES", "")
    if profiles and "profiles" not in extension:
        extension["profiles"] = [each.strip() for each in profiles.split(",") if each.strip()]
    return {**found, "x-bayplan": extension}


def _directory_name(base: str) -> str:
    """The directory's name as Compose makes a project's name of it."""
    letters = (letter for letter in os.path.basename(base).lower() if letter.isascii() and (letter.isalnum() or letter in "_-"))
    name = "".join(letters).lstrip("_-")
    if not name:
        raise Invalid(f"naming the project: no name can be made of the directory {base}; give project_name, or name: in the document")
    return name


def _with_variables(node: Node, reading: Reading) -> Any:
    """A service whose env files and valueless variables are resolved."""
    service = dict(node.entries())
    if not {"env_file", "environment"} & set(service):
        return node.value
    variables: dict[str, str | None] = {}
    if "env_file" in service and service["env_file"].value is not None:
        for path, each in env_file_paths(service["env_file"]):
            variables.update(_env_file(path, each, reading))
    variables.update(_declared(service.get("environment"), reading.variables))
    kept = {key: value for key, value in node.value.items() if key != "env_file"}
    return {**kept, "environment": {name: value for name, value in variables.items() if value is not None}}


def _declared(node: Node | None, variables: Mapping[str, str]) -> dict[str, Any]:
    if node is None or node.value is None:
        return {}
    if not isinstance(node.value, list):
        return {name: variables.get(name) if each.value is None else each.value for name, each in node.entries()}
    found: dict[str, Any] = {}
    for element in node.elements():
        name, separator, value = element.scalar().partition("=")
        found[name] = value if separator else variables.get(name)
    return found


def _env_file(path: str, node: Node, reading: Reading) -> Mapping[str, str | None]:
    options = node.value if isinstance(node.value, dict) else {}
    full = os.path.join(reading.base, path)
    if options.get("required") is False and not os.path.exists(full):
        return {}
    try:
        return dotenv.parse(_text(full), reading.variables, raw=options.get("format") == "raw")
    except Invalid as error:
        raise node.wrong(f"{path}: {error}") from error


def _carried_paths(document: Mapping[str, Any]) -> list[str]:
    found = []
    for kind in ("secrets", "configs"):
        for _, each in Node(document.get(kind), kind).entries():
            members = dict(each.entries())
            if "file" in members and members["file"].value is not None:
                found.append(members["file"].line())
            if "environment" in members and members["environment"].value is not None:
                found.append(f"environment:{members['environment'].line()}")
    return list(dict.fromkeys(found))


def _content(path: str, reading: Reading) -> str:
    """Base64 of a file, or of a variable's value."""
    from base64 import b64encode

    kind, _, name = path.partition(":")
    if kind == "environment" and name:
        if name not in reading.variables:
            raise NotFound(f"reading a secret from the environment: variable {name} is not set")
        return b64encode(reading.variables[name].encode()).decode()
    return b64encode(_bytes(os.path.join(reading.base, path))).decode()


def _text(path: str) -> str:
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"reading {path}: it is not UTF-8 text") from error


def _bytes(path: str) -> bytes:
    """A regular file's content, bounded; a fifo or a device would make the reader wait for ever."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"reading {path}: there is no such file") from None
    except OSError as error:
        raise Invalid(f"reading {path}: {error.strerror}") from error
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Invalid(f"reading {path}: it is not a regular file")
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise Invalid(f"reading {path}: it is larger than {LARGEST_FILE >> 20} MiB")
    return data
