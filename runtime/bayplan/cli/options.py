"""The parser of the command line: Docker's conventions (those of pflag), driven by the tables in verbs.py.

--name VALUE  --name=VALUE  -n VALUE  -nVALUE  -n=VALUE  -abc  --flag  --flag=false  --
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

Values: TypeAlias = "Mapping[str, tuple[str, ...]]"

_TRUE = ("1", "t", "T", "true", "True", "TRUE")
_FALSE = ("0", "f", "F", "false", "False", "FALSE")


class Option(NamedTuple):
    """One option. kind: flag, text, number (whole), list (may be repeated). metavar stands for its value in the help."""

    name: str
    kind: str
    help: str
    short: str = ""
    metavar: str = ""


class Split(NamedTuple):
    """A command line that was read: each option's values in the order given, and what is not an option."""

    values: Values
    arguments: tuple[str, ...]


def flag(names: str, help_text: str) -> Option:
    """names: "detach -d", the long name and perhaps the short one."""
    name, _, short = names.partition(" -")
    return Option(name, "flag", help_text, short)


def text(names: str, metavar: str, help_text: str) -> Option:
    name, _, short = names.partition(" -")
    return Option(name, "text", help_text, short, metavar)


def number(names: str, help_text: str) -> Option:
    name, _, short = names.partition(" -")
    return Option(name, "number", help_text, short, "N")


def many(names: str, metavar: str, help_text: str) -> Option:
    name, _, short = names.partition(" -")
    return Option(name, "list", help_text, short, metavar)


def split(argv: Sequence[str], options: Sequence[Option], *, interspersed: bool = True) -> Split:
    """Read `argv`. Where not `interspersed`, the first argument that is no option ends the options (`run`, `exec`).

    Raises Invalid for an unknown option, naming the nearest, and for a value that is missing or of the wrong kind.
    """
    by_name = {option.name: option for option in options}
    by_short = {option.short: option for option in options if option.short}
    values: dict[str, tuple[str, ...]] = {}
    arguments: list[str] = []
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if word == "--":
            arguments.extend(reversed(rest))
            break
        if word.startswith("--"):
            _take_long(word, by_name, rest, values)
        elif word.startswith("-") and word != "-":
            _take_short(word, by_short, rest, values)
        else:
            arguments.append(word)
            if not interspersed:
                arguments.extend(reversed(rest))
                break
    return Split(values, tuple(arguments))


def _take_long(word: str, options: Mapping[str, Option], rest: list[str], values: dict[str, tuple[str, ...]]) -> None:
    name, equals, value = word[2:].partition("=")
    option = options.get(name)
    if option is None:
        raise Invalid(f"unknown option --{name}{nearest(name, options, prefix='--')}")
    if option.kind == "flag":
        _store(option, f"--{name}", value if equals else "true", values)
    else:
        _store(option, f"--{name}", value if equals else _next(f"--{name}", rest), values)


def _take_short(word: str, options: Mapping[str, Option], rest: list[str], values: dict[str, tuple[str, ...]]) -> None:
    """Read a cluster: flags, and at its end perhaps one option with its value attached."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = options.get(letter)
        if option is None:
            raise Invalid(f"unknown option -{letter}" + (f" (in {word})" if len(word) > 2 else ""))
        if option.kind != "flag":
            value = letters[1:] if letters.startswith("=") else letters
            _store(option, f"-{letter}", value if letters else _next(f"-{letter}", rest), values)
            return
        given, letters = (letters[1:], "") if letters.startswith("=") else ("true", letters)
        _store(option, f"-{letter}", given, values)


def _next(shown: str, rest: list[str]) -> str:
    if not rest:
        raise Invalid(f"the option {shown} needs a value")
    return rest.pop()


def _store(option: Option, shown: str, value: str, values: dict[str, tuple[str, ...]]) -> None:
    if option.kind == "flag":
        if value not in _TRUE + _FALSE:
            raise Invalid(f"the option {shown} is true or false, not {value!r}")
        value = "true" if value in _TRUE else "false"
    elif option.kind == "number":
        _whole(shown, value)
    kept = values.get(option.name, ()) if option.kind == "list" else ()
    values[option.name] = (*kept, value)


def _whole(shown: str, value: str) -> None:
    digits = value[1:] if value.startswith("-") else value
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise Invalid(f"the option {shown} takes a whole number, not {value!r}")


def nearest(word: str, known: Mapping[str, object], *, prefix: str = "") -> str:
    """The end of an error message: "; did you mean X?", or nothing where nothing is near."""
    import difflib  # only on the way to an error

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {prefix}{found[0]}?" if found else ""
