"""The flags of an instruction: `--name=value` and `--name`."""

from __future__ import annotations

from bayplan.build.instructions import Place
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEXT, BOOLEAN, MANY = "text", "boolean", "many"


class Flags(NamedTuple):
    """The values that were given, by name; what was not given is empty, and not in `given`."""

    given: dict[str, tuple[str, ...]]

    def text(self, name: str) -> str:
        return self.given.get(name, ("",))[0]

    def true(self, name: str) -> bool:
        return self.text(name) == "true"

    def all(self, name: str) -> tuple[str, ...]:
        return self.given.get(name, ())


def parse_flags(words: Sequence[str], known: Mapping[str, str], *, place: Place, name: str) -> Flags:
    """Read the flags of the instruction `name`, of which `known` says the kinds; raises Invalid for what is unknown, given twice or lacks
    its value."""
    given: dict[str, tuple[str, ...]] = {}
    for word in words:
        flag, equals, value = word[2:].partition("=")
        kind = known.get(flag)
        if kind is None:
            raise place.wrong(f"{name}: unknown flag --{flag}{near(flag, known)}")
        if flag in given and kind != MANY:
            raise place.wrong(f"{name}: the flag --{flag} is given twice")
        if kind == BOOLEAN:
            value = value.lower() if equals else "true"
            if value not in ("true", "false"):
                raise place.wrong(f"{name}: --{flag} is true or false, not {value!r}")
        elif not equals:
            raise place.wrong(f"{name}: the flag --{flag} needs a value: --{flag}=...")
        given[flag] = (*given.get(flag, ()), value)
    return Flags(given)


def near(word: str, known: Mapping[str, object] | Sequence[str], mark: str = "--") -> str:
    """What may have been meant, as the end of a message."""
    from difflib import get_close_matches  # on the way to an error only: it costs 5 ms

    found = get_close_matches(word[:40], list(known), n=1, cutoff=0.6)
    if found:
        return f"; did you mean {mark}{found[0]}?"
    return f"; known are {', '.join(mark + one for one in known)}" if known else "; it takes none"
