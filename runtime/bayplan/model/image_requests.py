"""What requests about making and moving images want: their documents, read once."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.location import Location, parse_location
from bayplan.model.node import Node
from bayplan.model.reference import parse_reference
from bayplan.model.secret import Secret
from bayplan.model.units import duration
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_FORMATS = ("docker", "oci")
_COMPRESSIONS = ("gzip", "zstd")
_ARCHIVES = ("docker-archive", "oci-archive")


class Build(NamedTuple):
    """`names` are canonical. `context` is a directory or an archive of the host's, or an address; "" is an empty one. `dockerfile` is a
    path in it; where there is a `text`, that is the Dockerfile, and `ignore` what lies beside it."""

    names: tuple[str, ...]
    context: str = ""
    dockerfile: str = ""
    text: str | None = None
    ignore: str = ""
    args: Mapping[str, str] = {}
    target: str = ""
    labels: Mapping[str, str] = {}
    platform: str = ""
    secrets: Mapping[str, Secret] = {}
    pull: bool = False
    nocache: bool = False
    epoch: int | None = None


class Push(NamedTuple):
    name: str
    every_tag: bool = False
    compression: str = ""
    format: str = ""
    auth: Mapping[str, str] | None = None


class Tag(NamedTuple):
    """`tags` are canonical."""

    name: str
    tags: tuple[str, ...]


class Save(NamedTuple):
    names: tuple[str, ...]
    path: str
    format: str = "docker-archive"


class Holding(NamedTuple):
    """An image that an archive is known to have: its id, and its canonical names."""

    id: str
    names: tuple[str, ...]


class Load(NamedTuple):
    """An archive on the host, or "" where only what it holds is known."""

    archive: str = ""
    holds: tuple[Holding, ...] | None = None


class Copy(NamedTuple):
    source: Location
    target: Location
    every: bool = False
    platform: str = ""
    format: str = ""


class Prune(NamedTuple):
    """`older` is in nanoseconds, 0 for whatever age; labels are pairs, "" is whatever value."""

    every: bool = False
    build_cache: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    without: tuple[tuple[str, str], ...] = ()
    older: int = 0


class Login(NamedTuple):
    registry: str
    present: bool
    username: str = ""
    password: Secret = Secret("")
    auth_file: str = ""


def parse_build(want: Mapping[str, Any]) -> Build:
    """Raises Invalid."""
    given = _members(want, "name tags context remote_context dockerfile dockerfile_inline dockerignore args target labels platform secrets"
                           " pull nocache source_date_epoch", needed=("name",))  # fmt: skip
    names = [given["name"], *_elements(given, "tags")]
    found = Build(
        names=tuple(dict.fromkeys(_name_to_give(each) for each in names)),
        context=_text(given, "remote_context"),
        dockerfile=_text(given, "dockerfile"),
        text=given["dockerfile_inline"].text() if "dockerfile_inline" in given else None,
        ignore=_text(given, "dockerignore"),
        args=_texts(given, "args"),
        target=_text(given, "target"),
        labels=_texts(given, "labels"),
        platform=_text(given, "platform"),
        secrets={name: _secret(node) for name, node in given["secrets"].entries()} if "secrets" in given else {},
        pull=_flag(given, "pull"),
        nocache=_flag(given, "nocache"),
        epoch=given["source_date_epoch"].integer(high=1 << 36) if "source_date_epoch" in given else None,
    )
    if not found.context and found.text is None:
        raise Invalid("image_build: there is nothing to build from; give context, remote_context or dockerfile_inline")
    return found


def parse_push(want: Mapping[str, Any]) -> Push:
    """Raises Invalid."""
    given = _members(want, "name all_tags compression format auth", needed=("name",))
    auth = {key: node.word() for key, node in given["auth"].entries() if key != "registry"} if "auth" in given else None
    every = _flag(given, "all_tags")
    return Push(given["name"].word(), every, _choice(given, "compression", _COMPRESSIONS), _choice(given, "format", _FORMATS), auth)


def parse_tag(want: Mapping[str, Any]) -> Tag:
    """Raises Invalid."""
    given = _members(want, "name tags", needed=("name", "tags"))
    return Tag(given["name"].word(), tuple(map(_name_to_give, _elements(given, "tags"))))


def parse_save(want: Mapping[str, Any]) -> Save:
    """Raises Invalid."""
    given = _members(want, "names path format", needed=("names", "path"))
    names = tuple(each.word() for each in _elements(given, "names"))
    if not names:
        raise given["names"].wrong("it names no image")
    if not given["path"].word().startswith("/"):
        raise given["path"].expected("an absolute path of the host's")
    return Save(names, given["path"].word(), _choice(given, "format", _ARCHIVES) or _ARCHIVES[0])


def parse_load(want: Mapping[str, Any]) -> Load:
    """Raises Invalid."""
    given = _members(want, "remote_archive holds")
    if not given:
        raise Invalid("image_load: give either archive or remote_archive")
    return Load(_text(given, "remote_archive"), tuple(map(_holding, given["holds"].elements())) if "holds" in given else None)


def _holding(node: Node) -> Holding:
    members = node.members(("id", "names"))
    return Holding(members["id"].word(), tuple(parse_reference(each.word()).canonical for each in _elements(members, "names")))


def parse_copy(want: Mapping[str, Any]) -> Copy:
    """Raises Invalid."""
    given = _members(want, "source target all platform format", needed=("source", "target"))
    source, target = parse_location(given["source"].word()), parse_location(given["target"].word())
    return Copy(source, target, _flag(given, "all"), _text(given, "platform"), _choice(given, "format", _FORMATS))


def parse_prune(want: Mapping[str, Any]) -> Prune:
    """Raises Invalid."""
    given = _members(want, "all build_cache labels without_labels until")
    older = duration(given["until"]) if "until" in given else 0
    labels, without = (tuple(each.word().partition("=")[::2] for each in _elements(given, key)) for key in ("labels", "without_labels"))
    return Prune(_flag(given, "all"), _flag(given, "build_cache"), labels, without, older)


def parse_login(want: Mapping[str, Any]) -> Login:
    """Raises Invalid, which shows no password."""
    given = _members(want, "registry state username password auth_file")
    present = (_choice(given, "state", ("present", "absent")) or "present") == "present"
    username, password = _text(given, "username"), _secret(given["password"]) if "password" in given else Secret("")
    if present and not (username and password):
        raise Invalid("registry_login: logging in takes a username and a password")
    if ":" in username:
        raise given["username"].wrong("a username has no colon")
    return Login(_text(given, "registry"), present, username, password, _text(given, "auth_file"))


def _members(want: Mapping[str, Any], known: str, *, needed: Iterable[str] = ()) -> dict[str, Node]:
    members = Node(dict(want), "").members(known.split())
    for key in needed:
        if key not in members:
            raise Invalid(f"reading the request: {key} is missing")
    return members


def _elements(given: Mapping[str, Node], key: str) -> list[Node]:
    return given[key].elements() if key in given else []


def _name_to_give(node: Node) -> str:
    reference = parse_reference(node.word())
    if reference.digest:
        raise node.wrong("a name to give has a tag, not a digest")
    return reference.canonical


def _text(given: Mapping[str, Node], key: str) -> str:
    return given[key].text() if key in given else ""


def _texts(given: Mapping[str, Node], key: str) -> dict[str, str]:
    return {name: node.scalar() for name, node in given[key].entries()} if key in given else {}


def _secret(node: Node) -> Secret:
    """A text, or a number's digits; the error does not show what it is."""
    if not isinstance(node.value, (str, int, float)):
        raise node.wrong("a secret is a string")
    return Secret(node.scalar())


def _flag(given: Mapping[str, Node], key: str) -> bool:
    return given[key].boolean() if key in given else False


def _choice(given: Mapping[str, Node], key: str, choices: tuple[str, ...]) -> str:
    return given[key].choice(*choices) if key in given else ""
