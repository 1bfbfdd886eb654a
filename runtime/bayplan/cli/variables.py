"""Reading KEY=VALUE options and the files of them, with Docker's rules."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FILE_LIMIT = 10 << 20


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE, each with its equals sign; raises Invalid, which names the option."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise Invalid(f"{option} {text}: it is not KEY=VALUE")
        found[key] = value
    return found


def environment(given: Sequence[str], files: Sequence[str], variables: Mapping[str, str]) -> dict[str, str]:
    """Files first, then options. A KEY without a value takes that of `variables`, and is left out where that has none."""
    found: dict[str, str] = {}
    for where, text in (*_lines(files), *(("--env", text) for text in given)):
        key, equals, value = text.partition("=")
        if not key or any(char.isspace() for char in key):
            raise Invalid(f"{where}: {text!r} does not begin with a variable's name")
        if equals:
            found[key] = value
        elif key in variables:
            found[key] = variables[key]
        else:
            found.pop(key, None)
    return found


def labels(given: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """Files first, then options; a label without a value has the empty one."""
    found: dict[str, str] = {}
    for where, text in (*_lines(files), *(("--label", text) for text in given)):
        key, _, value = text.partition("=")
        if not key:
            raise Invalid(f"{where}: {text!r} has no name")
        found[key] = value
    return found


def _lines(files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The lines of files, without empty ones and comments, each with the place that it is at."""
    for path in files:
        for count, line in enumerate(_read(path).split("\n"), 1):
            line = line.rstrip("\r")
            if line.strip() and not line.lstrip().startswith("#"):
                yield f"{path}:{count}", line.lstrip()


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise Invalid(f"reading {path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > _FILE_LIMIT:
        raise Invalid(f"reading {path}: it has over {_FILE_LIMIT} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"reading {path}: it is not UTF-8 text") from error
    if "\0" in text:
        raise Invalid(f"reading {path}: it holds a NUL byte")
    return text
