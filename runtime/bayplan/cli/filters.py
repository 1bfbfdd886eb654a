"""`--filter KEY=VALUE`, as lists and `prune` take it."""

from __future__ import annotations

from bayplan.cli.options import nearest
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def parse_filters(given: Iterable[str], known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """All values of each key; raises Invalid for a key that is not `known`."""
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise Invalid(f"--filter {text}: it is not KEY=VALUE")
        if key not in known:
            hint = nearest(key, dict.fromkeys(known)) or f"; known are {', '.join(known)}"
            raise Invalid(f"--filter {text}: there is no filter {key!r}{hint}")
        found[key] = (*found.get(key, ()), value)
    return found


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether all of `wanted`, each KEY or KEY=VALUE, are among `labels`."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def matches_name(name: str, pattern: str) -> bool:
    """Docker's rule: a regular expression that is found somewhere in the name; raises Invalid for what is none."""
    import re

    try:
        return re.search(pattern.lstrip("/"), name) is not None
    except re.error as error:
        raise Invalid(f"--filter name={pattern}: it is not a regular expression ({error})") from error


def truth(key: str, values: Iterable[str]) -> bool | None:
    """The one truth that a filter such as dangling=true asks for; None where it was not given."""
    last = None
    for value in values:
        if value not in ("true", "1", "false", "0"):
            raise Invalid(f"--filter {key}={value}: it is true or false")
        last = value in ("true", "1")
    return last
