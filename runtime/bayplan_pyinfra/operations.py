"""Operations for pyinfra: the same resources, options and requests as the modules for Ansible.

    from bayplan_pyinfra import operations as bayplan

    bayplan.container(name="The web server runs", container="web", image="docker.io/library/nginx:1.27", ports=["8080:80"])

pyinfra keeps `name` for itself, so a resource's name is the argument called like the operation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

from pyinfra.api.command import FunctionCommand
from pyinfra.api.exceptions import OperationError, OperationValueError
from pyinfra.api.operation import operation
from pyinfra.context import host

from bayplan import controller
from bayplan.errors import BayplanError
from bayplan.model import options as tables
from bayplan.model import task as tasks
from bayplan_pyinfra import transport

T = TypeVar("T")
Commands = Generator[FunctionCommand, None, None]


@operation()
def image(image: str, **options: Any) -> Commands:
    """Have an image on the host, or not; `archive` is a path on this machine."""
    given = _options("image", {"name": image, **options})
    archive = given.pop("archive", None)
    known = _call("info", tasks.info_want("image", [image]), given, check=True)["result"] if archive else []
    if archive and given["state"] == "present" and not any(controller.archive_holds(archive, each["Id"]) for each in known):
        yield FunctionCommand(_load, (given, archive), {})
        return
    given["archive"] = given.pop("remote_archive", None)
    yield from _converge("image", tasks.image_want(given), given)


@operation()
def image_build(image: str, **options: Any) -> Commands:
    """Build an image; `context` is a directory on this machine, `remote_context` one on the host."""
    given = _options("image_build", {"name": image, **options})
    with tempfile.TemporaryDirectory() as directory:
        packed = Path(directory) / "context.tar.gz"
        want = _translated(lambda: controller.build_want(given, base=".", packed=str(packed)))
        if given["context"] is not None:
            planned = _carrying(packed, lambda sent: _call("build", {**want, "remote_context": sent}, given, check=True))
    if given["context"] is None:
        yield from _act("image_build", want, given)
    elif planned["changed"]:
        yield FunctionCommand(_build, (given,), {})
    else:
        host.noop(f"image {image} is as it should be")


@operation()
def image_push(image: str, **options: Any) -> Commands:
    """Push an image to the registry that its name begins with."""
    yield from _acting("image_push", {"name": image, **options})


@operation()
def image_tag(image: str, **options: Any) -> Commands:
    """Give an image further names."""
    yield from _acting("image_tag", {"name": image, **options})


@operation()
def image_save(images: list[str], **options: Any) -> Commands:
    """Write images to an archive on the host."""
    yield from _acting("image_save", {"names": images, **options})


@operation()
def image_load(**options: Any) -> Commands:
    """Take in the images of an archive; `archive` is a path on this machine, `remote_archive` one on the host."""
    given = _options("image_load", options)
    archive = given["archive"]
    if archive is None:
        yield from _act("image_load", tasks.action_want(given), given)
        return
    want = _translated(lambda: controller.load_want(archive))
    if want and not _call("load", want, given, check=True)["changed"]:
        host.noop(f"the images of {archive} are there")
        return
    yield FunctionCommand(_load_all, (given, archive), {})


@operation()
def image_copy(**options: Any) -> Commands:
    """Copy an image between registries, layouts, archives and the host's images."""
    yield from _acting("image_copy", options)


@operation()
def image_prune(**options: Any) -> Commands:
    """Remove images that nothing uses."""
    yield from _acting("image_prune", options)


@operation()
def registry_login(**options: Any) -> Commands:
    """Keep the host logged in to a registry, or not."""
    yield from _acting("registry_login", options)


@operation()
def container(container: str, **options: Any) -> Commands:
    """Have a container on the host, created, running, stopped or gone."""
    given = _options("container", {"name": container, **options})
    yield from _converge("container", _translated(lambda: controller.container_with_files(given, base=".")), given)


@operation()
def network(network: str, **options: Any) -> Commands:
    """Have a network on the host, or not."""
    given = _options("network", {"name": network, **options})
    yield from _converge("network", _translated(lambda: tasks.network_want(given)), given)


@operation()
def volume(volume: str, **options: Any) -> Commands:
    """Have a volume on the host, or not."""
    given = _options("volume", {"name": volume, **options})
    yield from _converge("volume", tasks.volume_want(given), given)


@operation()
def stack(**options: Any) -> Commands:
    """Converge the host to a Compose document, in `definition` or in `files` on this machine."""
    given = _options("stack", options)
    yield from _converge("stack", _translated(lambda: controller.stack_want(given, base=".")), given)


def _options(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options with the table's defaults; raises OperationValueError for one that is not in it, or has a value that is not."""
    table = tables.module_options(kind)
    names = {alias: option for option in table for alias in (option.name, *option.aliases)}
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise OperationValueError(f"{kind}: unknown option {unknown[0]!r}")
    values = {option.name: option.default for option in table}
    for key, value in given.items():
        option = names[key]
        if option.choices and value is not None and value not in option.choices:
            raise OperationValueError(f"{kind}: {key} is one of {', '.join(option.choices)}, not {value!r}")
        values[option.name] = value
    return values


def _translated(translate: Any) -> dict[str, Any]:
    try:
        want: dict[str, Any] = translate()
    except BayplanError as error:
        raise OperationValueError(str(error)) from error
    return want


def _converge(kind: str, want: dict[str, Any], options: dict[str, Any]) -> Commands:
    """Ask what would be done, and do it only where there is something to do: so pyinfra tells truly what changes."""
    planned = _call("converge", want, options, check=True)
    if not planned["changed"]:
        host.noop(f"{kind} {options.get('name') or options.get('project_name')} is as it should be")
        return
    yield FunctionCommand(_apply, (want, options), {})


def _acting(kind: str, options: dict[str, Any]) -> Commands:
    given = _options(kind, options)
    yield from _act(kind, tasks.action_want(given), given)


def _act(kind: str, want: dict[str, Any], options: dict[str, Any]) -> Commands:
    """The same as `_converge` for what is done by one verb of its own."""
    verb = tables.ACTIONS[kind].verb
    if _call(verb, want, options, check=True)["changed"]:
        yield FunctionCommand(_do, (verb, want, options), {})
    else:
        host.noop(f"{kind}: there is nothing to do")


def _do(verb: str, want: dict[str, Any], options: dict[str, Any]) -> None:
    _call(verb, want, options, check=False)


def _build(options: dict[str, Any]) -> None:
    """The context is read anew: it may have changed since it was asked about."""
    with tempfile.TemporaryDirectory() as directory:
        packed = Path(directory) / "context.tar.gz"
        want = controller.build_want(options, base=".", packed=str(packed))
        _carrying(packed, lambda sent: _call("build", {**want, "remote_context": sent}, options, check=False))


def _load_all(options: dict[str, Any], archive: str) -> None:
    _carrying(Path(archive), lambda sent: _call("load", {"remote_archive": sent}, options, check=False))


def _call(verb: str, want: dict[str, Any], options: dict[str, Any], *, check: bool) -> dict[str, Any]:
    return transport.call(host, {"verb": verb, "want": want, "check": check, "root": options["root"]})


def _apply(want: dict[str, Any], options: dict[str, Any]) -> None:
    for warning in _call("converge", want, options, check=False).get("warnings", ()):
        host.log(warning)


def _load(options: dict[str, Any], archive: str) -> None:
    _carrying(Path(archive), lambda sent: _apply(tasks.image_want({**options, "archive": sent}), options))


def _carrying(path: Path, use: Callable[[str], T]) -> T:
    """What `use` makes of a file of this machine's that is on the host meanwhile."""
    sent = transport.put_archive(host, path)
    try:
        return use(sent)
    finally:
        status, _ = host.run_shell_command(f"rm -rf {sent.rpartition('/')[0]}")
        if not status:
            raise OperationError(f"{sent} is still on {host.name}")
