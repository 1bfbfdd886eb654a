"""What a task reads on the controller: Compose documents with the files that they name, and an image archive's identity."""

from __future__ import annotations

import json
import os

from bayplan import documents
from bayplan.errors import Invalid
from bayplan.model.task import Document, auth_want, container_want
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, Any

LARGEST_MANIFEST = 10 << 20


def stack_want(options: Mapping[str, Any], *, base: str) -> Document:
    """What `converge` wants for the options of `stack`; paths in a `definition` start at the directory `base`.

    Raises Invalid where the options or the document are wrong, and NotFound for a file that is not there.
    """
    files, definition = options.get("files") or [], options.get("definition")
    if bool(files) == (definition is not None):
        raise Invalid("stack: give either definition or files")
    given = {key: str(value) for key, value in (options.get("environment") or {}).items()}
    name, directory = options.get("project_name"), options.get("project_directory")
    environment = {**os.environ, **given}
    if definition is None:
        project = documents.read_project(files, project_name=name, project_directory=directory, environment=environment)
    elif not (name or definition.get("name")):
        raise Invalid("stack: the definition has no name; give project_name")
    else:
        project = documents.read_definition(
            definition, base=base, yaml11=True, project_name=name, project_directory=directory, environment=environment
        )
    keys = ("state", "remove_volumes", "remove_orphans", "wait", "wait_timeout", "profiles")
    door = {key: options[key] for key in keys if options.get(key) is not None}
    return {**project, "x-bayplan": {**project.get("x-bayplan", {}), **door, **auth_want(options.get("registry_auth"))}}


def container_with_files(options: Mapping[str, Any], *, base: str) -> Document:
    """What `converge` wants for the options of `container`, with the content of its env files, secrets and configs."""
    return documents.with_files(container_want(options), base=base, environment=os.environ)


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
    return json.loads(file.read(LARGEST_MANIFEST))
