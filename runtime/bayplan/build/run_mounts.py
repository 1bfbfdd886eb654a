"""RUN --mount: what the words of one mount mean.

    --mount=type=cache,target=/root/.cache,sharing=locked

Source: Dockerfile reference, "RUN --mount"; the defaults that follow from the type are BuildKit's.
"""

from __future__ import annotations

from bayplan.build import flags
from bayplan.build.instructions import RunMount
from bayplan.errors import Invalid
from bayplan.model import units
from bayplan.model.node import Node
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_SYNONYMS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = ("type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "required", "size", "mode", "uid", "gid", "env")
_SWITCHES = ("readonly", "readwrite", "required")
_OWNED = ("cache", "secret", "ssh")  # whose mode, uid and gid can be said
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def origin(text: str) -> str:
    """What a mount is `from`, before its variables are known; raises Invalid where that is itself a variable."""
    found = ""
    for key, value in _pairs(text):
        if key == "from":
            if "$" in value[:-1]:
                raise Invalid("from= takes no variables: name a stage, FROM the variable, and mount from that stage")
            found = value
    return found


def settled(text: str, escape: str) -> bool:
    """Whether nothing in the text would be expanded."""
    return not any(character in text for character in ("$", "'", '"', escape))


def parse_mount(text: str, expand: Callable[[str], str]) -> RunMount:
    """One mount with the defaults of its type; `expand` makes a value of its text. Raises Invalid."""
    given = {key: value if key == "from" else expand(value) for key, value in _pairs(text)}
    kind = given.get("type", "bind").lower()
    if kind not in TYPES:
        raise Invalid(f"unknown mount type {kind!r}{flags.near(kind, TYPES, '')}")
    _check(kind, given)
    mount = RunMount(
        kind, given.get("target", ""), given.get("source", ""), given.get("from", ""), given.get("id", ""), _readonly(kind, given),
        given.get("sharing", "shared").lower(), _boolean("required", given.get("required", "false")), _octal(given.get("mode", "")),
        _number("uid", given), _number("gid", given), _size(given.get("size", "")), given.get("env", ""),
    )  # fmt: skip
    return _complete(mount)


def _pairs(text: str) -> list[tuple[str, str]]:
    import csv

    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise Invalid(f"the mount is not a list separated by commas: {error}") from None
    found = []
    for field in fields:
        written, equals, value = field.partition("=")
        key = _SYNONYMS.get(written.lower(), written.lower())
        if key not in _KEYS:
            raise Invalid(f"unknown option {written!r} of a mount{flags.near(written, [*_KEYS, *_SYNONYMS], '')}")
        if not equals and key not in _SWITCHES:
            raise Invalid(f"the mount's option {written!r} needs a value: {written}=...")
        found.append((key, value if equals else "true"))
    return found


def _check(kind: str, given: dict[str, str]) -> None:
    """Which option belongs to which type."""
    only = {"required": ("secret", "ssh"), "size": ("tmpfs",), "sharing": ("cache",), "env": ("secret",)}
    for key, kinds in {**only, **dict.fromkeys(("mode", "uid", "gid"), _OWNED)}.items():
        if key in given and kind not in kinds:
            raise Invalid(f"{key}= does not apply to a mount of the type {kind}, but to {', '.join(kinds)}")
    if given.get("sharing", "shared").lower() not in _SHARING:
        raise Invalid(f"sharing= is one of {', '.join(_SHARING)}, not {given['sharing']!r}")
    if kind != "secret":
        return
    if given.get("from"):
        raise Invalid("a secret comes from the one who builds, and has no from=")
    if given.get("source") and given.get("id"):
        raise Invalid("a secret has id= or source=, not both: they are the same")
    if not any(given.get(key) for key in ("id", "source", "target")):
        raise Invalid("which secret is missing: id=")


def _readonly(kind: str, given: dict[str, str]) -> bool:
    readonly = kind not in ("cache", "tmpfs")
    for key, value in given.items():
        if key in ("readonly", "readwrite"):
            readonly = _boolean(key, value) == (key == "readonly")
    return readonly


def _boolean(key: str, value: str) -> bool:
    if value not in _BOOLEANS:
        raise Invalid(f"{key}= is true or false, not {value!r}")
    return _BOOLEANS[value]


def _octal(value: str) -> str:
    if value and (len(value) > 11 or value.strip("01234567") or int(value, 8) >= 1 << 32):
        raise Invalid(f"mode= is an octal number, not {value!r}")
    return value


def _number(key: str, given: dict[str, str]) -> str:
    value = given.get(key, "")
    if key in given and not (value.isascii() and value.isdigit() and len(value) < 11 and int(value) < 1 << 32):
        raise Invalid(f"{key}= is a whole number, not {value!r}")
    return value


def _size(value: str) -> int:
    return units.size(Node(value, "the mount's size")) if value else 0


def _complete(mount: RunMount) -> RunMount:
    """What follows from the rest: a cache is known by its target, a secret by its id and lies in /run/secrets."""
    if mount.type == "cache":
        return mount._replace(id=mount.id or _clean(mount.target))
    if mount.type == "ssh":
        return mount._replace(id=mount.id or "default")
    if mount.type == "secret":
        name = mount.source or mount.id or mount.target.rpartition("/")[2]
        target = mount.target if mount.target or mount.environment else f"/run/secrets/{name.rpartition('/')[2]}"
        return mount._replace(id=name, source="", target=target)
    return mount


def _clean(path: str) -> str:
    """The path without what does not change where it leads."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and path.startswith("/")):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts)
