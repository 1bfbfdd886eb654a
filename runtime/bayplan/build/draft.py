"""An image in the making: its layers so far, its config document, its history; and what instructions that touch no file make of it. Pure.

Sources: OCI image-spec 1.1 config.md; Dockerfile reference for each instruction.
"""

from __future__ import annotations

from bayplan.build import instructions as dockerfile
from bayplan.errors import Invalid
from bayplan.model import signals
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bayplan.build.instructions import Instruction

_DEFAULT_SHELL = ("/bin/sh", "-c")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORTS_LIMIT = 65535


class Draft(NamedTuple):
    """`layers` are diff_ids, lowest first; `run` is the config's `config` object; `history` its list, with `empty_layer` where there is
    none. `platform` holds os, architecture and variant. `has_command`: this stage has a CMD of its own."""

    layers: tuple[str, ...] = ()
    run: Mapping[str, Any] = {}
    history: tuple[Mapping[str, Any], ...] = ()
    platform: Mapping[str, str] = {}
    author: str = ""
    has_command: bool = False

    @property
    def environment(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self.run.get("Env") or ())

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.run.get("Shell") or _DEFAULT_SHELL)

    @property
    def directory(self) -> str:
        return str(self.run.get("WorkingDir") or "/")

    @property
    def user(self) -> str:
        return str(self.run.get("User") or "")


def of_image(document: Mapping[str, Any]) -> Draft:
    """What FROM makes of an image's config document, which was parsed before. What it keeps as ONBUILD is carried out now, and gone."""
    platform = {name: str(document[name]) for name in ("os", "architecture", "variant") if document.get(name)}
    history = tuple(document.get("history") or ())
    layers = tuple((document.get("rootfs") or {}).get("diff_ids") or ())
    run = {name: value for name, value in (document.get("config") or {}).items() if name != "OnBuild"}
    return Draft(layers, run, history, platform, str(document.get("author") or ""))


def of_nothing(platform: Mapping[str, str]) -> Draft:
    """FROM scratch."""
    return Draft(run={"Env": [f"PATH={_PATH}"], "WorkingDir": "/"}, platform=platform)


def document(draft: Draft, *, created: str) -> dict[str, Any]:
    """The image's config, whole."""
    about = {"created": created, **({"author": draft.author} if draft.author else {})}
    run = {name: value for name, value in sorted(draft.run.items()) if value not in (None, "", [], {})}
    rootfs = {"type": "layers", "diff_ids": list(draft.layers)}
    return {**about, **draft.platform, "config": run, "rootfs": rootfs, "history": [dict(each) for each in draft.history]}


def with_layer(draft: Draft, layer: str | None, *, created_by: str, created: str) -> Draft:
    """One instruction further: with the layer that it made, or None where it changed no file."""
    entry: dict[str, Any] = {"created": created, "created_by": created_by}
    if layer is None:
        entry["empty_layer"] = True
    return draft._replace(layers=(*draft.layers, layer) if layer else draft.layers, history=(*draft.history, entry))


def working_directory(draft: Draft, path: str) -> str:
    """Where WORKDIR leads from the directory before it; `..` is taken out, as Docker does it, whatever is a link there."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{draft.directory}/{path}").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def apply(draft: Draft, instruction: Instruction) -> Draft:
    """What an expanded instruction that makes no layer says of the image's config; raises Invalid. Others leave it as it is."""
    change = _CHANGES.get(type(instruction))
    return change(draft, instruction) if change else draft


def command_words(draft: Draft, command: dockerfile.Command) -> tuple[str, ...]:
    """What is executed: the shell form is for the shell."""
    return (*draft.shell, *command.words) if command.shell else command.words


def _set(draft: Draft, **values: Any) -> Draft:
    return draft._replace(run={**draft.run, **values})


def _env(draft: Draft, wanted: dockerfile.Env) -> Draft:
    return _set(draft, Env=[f"{name}={value}" for name, value in {**draft.environment, **dict(wanted.variables)}.items()])


def _label(draft: Draft, wanted: dockerfile.Label) -> Draft:
    return _set(draft, Labels={**(draft.run.get("Labels") or {}), **dict(wanted.labels)})


def _cmd(draft: Draft, wanted: dockerfile.Cmd) -> Draft:
    return _set(draft, Cmd=list(command_words(draft, wanted.command)) or None)._replace(has_command=True)


def _entrypoint(draft: Draft, wanted: dockerfile.Entrypoint) -> Draft:
    """The command of the image below was for its own entry point."""
    words = list(command_words(draft, wanted.command)) or None
    return _set(draft, Entrypoint=words) if draft.has_command else _set(draft, Entrypoint=words, Cmd=None)


def _shell(draft: Draft, wanted: dockerfile.Shell) -> Draft:
    return _set(draft, Shell=list(wanted.words))


def _workdir(draft: Draft, wanted: dockerfile.Workdir) -> Draft:
    return _set(draft, WorkingDir=working_directory(draft, wanted.path))


def _user(draft: Draft, wanted: dockerfile.User) -> Draft:
    return _set(draft, User=wanted.user)


def _expose(draft: Draft, wanted: dockerfile.Expose) -> Draft:
    ports: dict[str, Any] = {f"{port}/{protocol}": {} for text in wanted.ports for port, protocol in _ports(text)}
    return _set(draft, ExposedPorts={**(draft.run.get("ExposedPorts") or {}), **ports})


def _ports(text: str) -> list[tuple[int, str]]:
    ports, _, protocol = text.partition("/")
    ports = ports.rpartition(":")[2]  # a port of the host is allowed there, and means nothing
    protocol = protocol.lower() or "tcp"
    first, dash, last = ports.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()) or protocol not in ("tcp", "udp", "sctp"):
        raise Invalid(f"EXPOSE {text}: it is not PORT[-PORT][/tcp|udp|sctp]")
    begin, end = int(first), int(last or first)
    if not 1 <= begin <= end <= _PORTS_LIMIT:
        raise Invalid(f"EXPOSE {text}: ports are from 1 to {_PORTS_LIMIT}, the lower one first")
    return [(port, protocol) for port in range(begin, end + 1)]


def _volume(draft: Draft, wanted: dockerfile.Volume) -> Draft:
    return _set(draft, Volumes={**(draft.run.get("Volumes") or {}), **{path: {} for path in wanted.paths}})


def _stop_signal(draft: Draft, wanted: dockerfile.StopSignal) -> Draft:
    signals.parse_signal(wanted.signal)
    return _set(draft, StopSignal=wanted.signal)


def _health(draft: Draft, wanted: dockerfile.Health) -> Draft:
    check, default = wanted.healthcheck, type(wanted.healthcheck)()
    document: dict[str, Any] = {"Test": list(check.test)}
    for name, field in _HEALTH.items():
        if getattr(check, field) != getattr(default, field):
            document[name] = getattr(check, field)
    return _set(draft, Healthcheck=document)


_HEALTH = {
    "Interval": "interval",
    "Timeout": "timeout",
    "StartPeriod": "start_period",
    "StartInterval": "start_interval",
    "Retries": "retries",
}


def _on_build(draft: Draft, wanted: dockerfile.OnBuild) -> Draft:
    return _set(draft, OnBuild=[*(draft.run.get("OnBuild") or ()), wanted.instruction])


def _maintainer(draft: Draft, wanted: dockerfile.Maintainer) -> Draft:
    return draft._replace(author=wanted.author)


_CHANGES: dict[type, Any] = {
    dockerfile.Env: _env,
    dockerfile.Label: _label,
    dockerfile.Cmd: _cmd,
    dockerfile.Entrypoint: _entrypoint,
    dockerfile.Shell: _shell,
    dockerfile.Workdir: _workdir,
    dockerfile.User: _user,
    dockerfile.Expose: _expose,
    dockerfile.Volume: _volume,
    dockerfile.StopSignal: _stop_signal,
    dockerfile.Health: _health,
    dockerfile.OnBuild: _on_build,
    dockerfile.Maintainer: _maintainer,
}
