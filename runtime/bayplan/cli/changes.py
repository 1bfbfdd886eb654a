"""`import --change`: a few Dockerfile instructions as members of an image's config."""

from __future__ import annotations

import json

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def run_config(changes: Iterable[str]) -> dict[str, Any]:
    """The config's `config` object (OCI image-spec, config.md) that the instructions make; raises Invalid."""
    config: dict[str, Any] = {}
    for text in changes:
        word, _, rest = text.strip().partition(" ")
        change = _CHANGES.get(word.upper())
        if change is None or not rest.strip():
            raise Invalid(f"--change {text}: it is one of {', '.join(_CHANGES)}, and its value")
        change(config, rest.strip())
    return config


def _command(key: str) -> Callable[[dict[str, Any], str], None]:
    """The exec form is a JSON list, anything else goes to a shell."""

    def change(config: dict[str, Any], text: str) -> None:
        config[key] = ["/bin/sh", "-c", text]
        if text.startswith("["):
            try:
                words = json.loads(text)
            except ValueError:
                return
            if isinstance(words, list) and all(isinstance(word, str) for word in words):
                config[key] = words

    return change


def _text(key: str) -> Callable[[dict[str, Any], str], None]:
    return lambda config, text: config.update({key: text})


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        key, _, value = text.partition(" ")
    return key.strip(), value.strip().strip('"')


def _env(config: dict[str, Any], text: str) -> None:
    key, value = _pair(text)
    config.setdefault("Env", []).append(f"{key}={value}")


def _label(config: dict[str, Any], text: str) -> None:
    key, value = _pair(text)
    config.setdefault("Labels", {})[key] = value


def _expose(config: dict[str, Any], text: str) -> None:
    for port in text.split():
        config.setdefault("ExposedPorts", {})[port if "/" in port else f"{port}/tcp"] = {}


def _volume(config: dict[str, Any], text: str) -> None:
    try:
        paths = json.loads(text) if text.startswith("[") else text.split()
    except ValueError as error:
        raise Invalid(f"--change VOLUME {text}: it is not a JSON list ({error})") from error
    config.setdefault("Volumes", {}).update({str(path): {} for path in paths})


_CHANGES: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _text("StopSignal"),
    "USER": _text("User"),
    "VOLUME": _volume,
    "WORKDIR": _text("WorkingDir"),
}
