"""How several Compose files become one (Compose Specification, "Merge"). Pure."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Override(NamedTuple):
    """A value tagged `!override` replaces what it meets; one tagged `!reset` makes its key as if nobody had written it."""

    value: Any
    reset: bool = False


RESET = Override(None, reset=True)
_REPLACED = frozenset({"command", "entrypoint", "test"})
_PAIRS = frozenset({"environment", "labels", "annotations", "sysctls"})
_NAMED = frozenset({"depends_on", "networks"})
_DEEPEST = 100


def merge(base: Any, over: Any, place: str = "") -> Any:
    """`base` with `over` laid upon it. Mappings merge, lists append once each, what is keyed inside a list is replaced there.

    Raises Invalid where a mapping meets a list and the key has no form that takes both.
    """
    if isinstance(over, Override) or base is None or isinstance(base, Override):
        return over
    if over is None:
        return base
    key = place.rpartition(".")[2]
    if key in _REPLACED:
        return over
    if key in _PAIRS:
        return {**_pairs(base), **_pairs(over)}
    if key in _NAMED:
        base, over = _named(base), _named(over)
    if key == "extra_hosts":
        base, over = _hosts(base), _hosts(over)
    if isinstance(base, dict) and isinstance(over, dict):
        return _mappings(base, over, place)
    if isinstance(base, (list, str)) and isinstance(over, (list, str)) and (isinstance(base, list) or isinstance(over, list)):
        return _lists(base if isinstance(base, list) else [base], over if isinstance(over, list) else [over], key)
    if isinstance(base, (dict, list)) != isinstance(over, (dict, list)):
        raise Invalid(f"merging {place}: one file has a {_kind(base)} there, another a {_kind(over)}")
    return over


def settled(value: Any) -> Any:
    """`value` without its tags: `!reset` keys are gone, `!override` values are plain."""
    if isinstance(value, Override):
        value = value.value
    if isinstance(value, dict):
        return {key: settled(each) for key, each in value.items() if not _is_reset(each)}
    if isinstance(value, list):
        return [settled(each) for each in value if not _is_reset(each)]
    return value


def _is_reset(value: Any) -> bool:
    return isinstance(value, Override) and value.reset


def _mappings(base: dict[str, Any], over: dict[str, Any], place: str) -> dict[str, Any]:
    if place.count(".") > _DEEPEST:
        raise Invalid(f"merging {place[:60]}...: it is nested too deep")
    found = dict(base)
    for key, value in over.items():
        found[key] = merge(base.get(key), value, f"{place}.{key}" if place else key)
    return found


def _lists(base: list[Any], over: list[Any], key: str) -> list[Any]:
    identity = _IDENTITIES.get(key, _itself)
    found = {identity(element): element for element in base}
    for element in over:
        found[identity(element)] = element
    return list(found.values())


def _itself(element: Any) -> str:
    return repr(element)


def _target(element: Any) -> str:
    """A volume, device, secret or config is the one at its path inside."""
    if isinstance(element, dict):
        return str(element.get("target") or element.get("source"))
    parts = str(element).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _device(element: Any) -> str:
    """As `_target`; in a device's CDI name (vendor.com/class=name) colons may be."""
    named = isinstance(element, str) and "=" in element and not element.startswith("/")
    return element if named else _target(element)


_IDENTITIES: dict[str, Callable[[Any], str]] = {"volumes": _target, "devices": _device, "secrets": _target, "configs": _target}


def _pairs(value: Any) -> dict[str, Any]:
    if not isinstance(value, list):
        return dict(value) if isinstance(value, dict) else {}
    found: dict[str, Any] = {}
    for element in value:
        name, separator, text = str(element).partition("=")
        found[name] = text if separator else None
    return found


def _named(value: Any) -> Any:
    return {str(name): None for name in value} if isinstance(value, list) else value


def _hosts(value: Any) -> Any:
    """Both forms as a list of NAME=ADDRESS."""
    if not isinstance(value, dict):
        return [str(each).replace(":", "=", 1) if "=" not in str(each) else str(each) for each in value]
    return [
        f"{name}={address}" for name, given in value.items() for address in (given if isinstance(given, list) else [given])
    ]


def _kind(value: Any) -> str:
    return "mapping" if isinstance(value, dict) else "list" if isinstance(value, list) else "value"
