"""What a task reads on the controller: Compose documents with the files that they name, builds' contexts, and what image archives hold."""

from __future__ import annotations

import json
import os

from bayplan import contexts, documents
from bayplan.errors import Invalid
from bayplan.model.task import Document, action_want, auth_want, container_want
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


def build_want(options: Mapping[str, Any], *, base: str, packed: str) -> Document:
    """What `build` wants; a context on the controller is written to `packed` as an archive, whose place on the host the caller fills in as
    remote_context. Relative paths start at `base`. Raises NotFound, Invalid."""
    want = action_want(options)
    local, inline = want.pop("context", None), want.get("dockerfile_inline")
    if local is None:
        return want
    if want.get("remote_context"):
        raise Invalid("image_build: context and remote_context say the same, give one of them")
    directory = os.path.abspath(os.path.join(base, local))
    dockerfile = contexts.Dockerfile("", inline)
    if inline is None:
        dockerfile = contexts.find_dockerfile(directory, want.pop("dockerfile", ""), base=base)
    contexts.pack(directory, packed, dockerfile)
    found = {"dockerfile": dockerfile.path, "dockerfile_inline": dockerfile.text, "dockerignore": dockerfile.ignore}
    return {**want, **{key: text for key, text in found.items() if text}}


def archive_holds(path: str, image_id: str) -> bool:
    """Whether an archive of images holds the image with this id (its config's digest), so that it need not be sent again."""
    return image_id.rpartition(":")[2] in {digits for digits, _ in _archive_images(path)}


def load_want(path: str) -> Document:
    """What `load` wants to know of an archive on the controller to say whether it has to be sent; {} where only the host can tell, because
    it chooses of an index. Raises Invalid."""
    found = _archive_images(path)
    if not all(digits for digits, _ in found):
        return {}
    return {"holds": [{"id": f"sha256:{digits}", "names": names} for digits, names in found]}


def _archive_images(path: str) -> list[tuple[str, list[str]]]:
    import tarfile

    try:
        with tarfile.open(path) as archive:
            return list(_images(archive))
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"reading the image archive {path}: {error}") from error


def _images(archive: Any) -> Iterator[tuple[str, list[str]]]:
    """Digits ("" for an index) and names of the images in an archive. Raises KeyError, ValueError, TypeError where it is none."""
    names = set(archive.getnames())
    if "manifest.json" in names:
        for entry in _document(archive, "manifest.json"):
            yield _digits(entry["Config"]), [name for name in entry.get("RepoTags") or () if not name.startswith("<")]
        return
    for entry in _document(archive, "index.json")["manifests"]:
        path = "blobs/" + entry["digest"].replace(":", "/")
        if path in names:
            annotations = entry.get("annotations") or {}
            called = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name") or ""
            config = _document(archive, path).get("config")
            yield _digits(config["digest"]) if config else "", [called] if "/" in called or ":" in called else []


def _digits(name: str) -> str:
    return name.rpartition("/")[2].rpartition(":")[2].partition(".")[0]


def _document(archive: Any, name: str) -> Any:
    file: IO[bytes] | None = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return json.loads(file.read(LARGEST_MANIFEST))
