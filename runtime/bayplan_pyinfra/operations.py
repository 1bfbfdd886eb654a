"""Operations for pyinfra: the same resources, options and requests as the modules for Ansible.

    from bayplan_pyinfra import operations as bayplan

    bayplan.container(name="The web server runs", container="web", image="docker.io/library/nginx:1.27", ports=["8080:80"])

pyinfra keeps `name` for itself, so a resource's name is the argument called like the operation.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra.api.command import FunctionCommand
from pyinfra.api.exceptions import OperationError, OperationValueError
from pyinfra.api.operation import operation
from pyinfra.context import host

from bayplan import controller
from bayplan.errors import BayplanError
from bayplan.model import options as tables
from bayplan.model import task as tasks
from bayplan_pyinfra import transport

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


def _call(verb: str, want: dict[str, Any], options: dict[str, Any], *, check: bool) -> dict[str, Any]:
    return transport.call(host, {"verb": verb, "want": want, "check": check, "root": options["root"]})


def _apply(want: dict[str, Any], options: dict[str, Any]) -> None:
    for warning in _call("converge", want, options, check=False).get("warnings", ()):
        host.log(warning)


def _load(options: dict[str, Any], archive: str) -> None:
    from pathlib import Path

    sent = transport.put_archive(host, Path(archive))
    try:
        _apply(tasks.image_want({**options, "archive": sent}), options)
    finally:
        status, _ = host.run_shell_command(f"rm -rf {sent.rpartition('/')[0]}")
        if not status:
            raise OperationError(f"{sent} is still on {host.name}")
