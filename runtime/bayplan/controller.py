"""What a task reads on the controller: Compose files, the files that a document names, an image archive's identity."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from bayplan.errors import Invalid, NotFound
from bayplan.model.task import Document, auth_want

FILE_LIMIT = 10 * 1024 * 1024

Find = Callable[[str], str]


def stack_want(options: Mapping[str, Any], *, find: Find) -> Document:
    """What `converge` wants for the options of `stack`; `find` turns a path as it is written into one that can be opened.

    Raises Invalid where the options or the document are wrong, and NotFound for a file that is not there.
    """
    files, definition = options.get("files") or [], options.get("definition")
    if bool(files) == (definition is not None):
        raise Invalid("stack: give either definition or files")
    project = _read(files, definition, options, find=find)
    door = dict(project.pop("x-bayplan", {}))
    keys = ("state", "remove_volumes", "remove_orphans", "wait", "wait_timeout", "project_directory", "profiles")
    door.update({key: options[key] for key in keys if options.get(key) is not None})
    door.update(auth_want(options.get("registry_auth")))
    return {**project, "x-bayplan": door}


def _read(files: list[str], definition: Mapping[str, Any] | None, options: Mapping[str, Any], *, find: Find) -> Document:
    from bayplan import documents

    environment = {**os.environ, **{key: str(value) for key, value in (options.get("environment") or {}).items()}}
    name = options.get("project_name")
    if definition is None:
        paths = [find(path) for path in files]
        return documents.read_project(paths, project_name=name, environment=environment)
    project: Document = documents.interpolate(dict(definition), environment)
    project["name"] = name or project.get("name")
    if not project["name"]:
        raise Invalid("stack: the definition has no name; give project_name")
    return with_files({**project, "x-bayplan": {"yaml11": True}}, find=find)


def with_files(want: Document, *, find: Find) -> Document:
    """`want` with the content of every file that it names, in base64, under the path as it is written."""
    found = {path: _content(find(path)) for path, required in named_files(want) if required or os.path.exists(path)}
    if not found:
        return want
    return {**want, "x-bayplan": {**want.get("x-bayplan", {}), "files": found}}


def named_files(want: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """(path, whether it must exist) of each file that a document names: env_file, and `file` of secrets and configs."""
    named = [(path, required) for service in _entries(want, "services") for path, required in _env_files(service.get("env_file"))]
    for section in ("secrets", "configs"):
        named += [(entry["file"], True) for entry in _entries(want, section) if isinstance(entry.get("file"), str)]
    return named


def _entries(want: Mapping[str, Any], section: str) -> Iterable[Mapping[str, Any]]:
    entries = want.get(section)
    return [entry for entry in entries.values() if isinstance(entry, Mapping)] if isinstance(entries, Mapping) else []


def _env_files(value: object) -> list[tuple[str, bool]]:
    entries = value if isinstance(value, list) else [value]
    paths = [(entry, True) for entry in entries if isinstance(entry, str)]
    long_forms = [entry for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("path"), str)]
    return paths + [(entry["path"], bool(entry.get("required", True))) for entry in long_forms]


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise NotFound(f"reading {path} on the controller: {error.strerror}") from error
    if len(content) > FILE_LIMIT:
        raise Invalid(f"reading {path} on the controller: it has more than {FILE_LIMIT >> 20} MiB; mount such a file instead")
    return base64.b64encode(content).decode()


def archive_holds(path: str, image_id: str) -> bool:
    """Whether an archive of images holds the image with this id (its config's digest), so that it need not be sent again."""
    import tarfile

    try:
        with tarfile.open(path) as archive:
            return image_id.rpartition(":")[2] in _archive_ids(archive)
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"reading the image archive {path}: {error}") from error


def _archive_ids(archive: Any) -> set[str]:
    """Hexadecimal digits of the configs in a docker-archive or oci-archive. Raises KeyError, ValueError, TypeError where it is neither."""
    names = set(archive.getnames())
    if "manifest.json" in names:
        return {_digits(entry["Config"]) for entry in _document(archive, "manifest.json")}
    manifests = _document(archive, "index.json")["manifests"]
    paths = ["blobs/" + entry["digest"].replace(":", "/") for entry in manifests]
    return {_digits(_document(archive, path)["config"]["digest"]) for path in paths if path in names}


def _digits(name: str) -> str:
    return name.rpartition("/")[2].rpartition(":")[2].partition(".")[0]


def _document(archive: Any, name: str) -> Any:
    file: IO[bytes] | None = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return json.loads(file.read(FILE_LIMIT))
