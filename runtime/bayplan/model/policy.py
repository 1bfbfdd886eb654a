"""The host's policy: which images may come and go. Its file is read strictly: what it does not say clearly, it does not say.

    {"rules": {PATTERN: {"pull": "allow"|"deny", "push": "allow"|"deny", "pinned": ..., "signed_by": ...}}}

docs/policy.md is its reference.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.document import load_object
from bayplan.model.reference import DEFAULT_REGISTRY, Reference, parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

LIMIT = 1 << 20
_RULES_LIMIT = 1000
_KEYS_LIMIT = 16
_DIGESTS_LIMIT = 1000
_EXAMPLE = "docker.io/library/nginx, registry.example/team/*, registry.example/*, *.example.com/* or *"
_HUB = ("index.docker.io", "registry-1.docker.io")


class Pattern(NamedTuple):
    """Which images a rule is for: those of `host` ("*" any, "*.X" any below X), on `port` ("" any), whose repository is `path`,
    or lies below it where `below` (below "" are all)."""

    text: str
    host: str
    port: str
    path: str
    below: bool


class Pins(NamedTuple):
    """Only by digest; where `tags` has any, only the digests that it lists, which their tags then stand for."""

    required: bool
    tags: tuple[tuple[str, tuple[Digest, ...]], ...] = ()


class Signers(NamedTuple):
    """Whose signatures an image needs: one of `keys`, or `all`. A key is PEM text, or the absolute path of a file of it.

    `repository` asks that the signature names the repository that the image comes from. Without keys, none is needed.
    """

    keys: tuple[str, ...]
    all: bool = False
    repository: bool = False


class Rule(NamedTuple):
    """What is said of a pattern's images; "" and None are what is left to less specific rules."""

    pattern: Pattern
    pull: str = ""
    push: str = ""
    pinned: Pins | None = None
    signed_by: Signers | None = None


class Policy(NamedTuple):
    """A policy and the path that messages name it by."""

    path: str
    rules: tuple[Rule, ...]


def parse_policy(data: bytes, path: str) -> Policy:
    """Read a policy file's content. Raises Invalid for whatever is unknown, of the wrong kind, or said twice."""
    reading = f"the policy {path}"
    document = load_object(data, LIMIT, reading).values
    _only(document, ("rules",), reading)
    rules = _object(document.get("rules"), "rules", reading)
    if len(rules) > _RULES_LIMIT:
        raise Invalid(f"reading {reading}: it has over {_RULES_LIMIT} rules")
    found = tuple(_rule(text, value, reading) for text, value in rules.items())
    known: dict[tuple[str, str, str, bool], str] = {}
    for each in found:
        other = known.setdefault(each.pattern[1:], each.pattern.text)
        if other != each.pattern.text:
            raise Invalid(f"reading {reading}: {other!r} and {each.pattern.text!r} mean the same images; make one rule of them")
    return Policy(path, found)


def _rule(text: str, value: Any, reading: str) -> Rule:
    pattern = parse_pattern(text, reading)
    where = f"rules[{text!r}]"
    said = _object(value, where, reading)
    _only(said, Rule._fields[1:], reading, where)
    return Rule(
        pattern,
        _choice(said, "pull", ("allow", "deny"), where, reading),
        _choice(said, "push", ("allow", "deny"), where, reading),
        _pins(said["pinned"], f"{where}.pinned", reading) if "pinned" in said else None,
        _signers(said["signed_by"], f"{where}.signed_by", reading) if "signed_by" in said else None,
    )


def parse_pattern(text: str, reading: str = "a policy") -> Pattern:
    """Read a rule's pattern. Without `/*` at its end it is one repository's name, with its registry. Raises Invalid."""
    if text == "*":
        return Pattern(text, "*", "", "", True)
    named, below = (text[:-2], True) if text.endswith("/*") else (text, False)
    registry, _, path = named.partition("/")
    wild = registry.startswith("*.")
    is_registry = registry == "localhost" or "." in registry or ":" in registry
    if not is_registry or not (path or below) or (wild and (path or ":" in registry)):
        raise Invalid(f"reading {reading}: {text[:200]!r} does not begin with a registry, or ends at it: write {_EXAMPLE}")
    try:
        host = f"x{registry[1:]}" if wild else registry
        parsed = parse_reference("/".join(each for each in (host, path, "x" if below else "") if each))
    except Invalid as error:
        raise Invalid(f"reading {reading}: {text[:200]!r} is no pattern: {error}") from None
    if parsed.digest or parsed.tag != "latest" or named.endswith(":latest"):
        raise Invalid(f"reading {reading}: {text[:200]!r} has a tag or a digest: a rule is for a repository, and `pinned` names tags")
    host, port = host_and_port(parsed.registry)
    return Pattern(text, f"*{host[1:]}" if wild else host, port, path if below else repository_of(parsed), below)


def host_and_port(registry: str) -> tuple[str, str]:
    """A registry's HOST[:PORT] as rules compare it: names in lower case, Docker's registry under its one name."""
    host, colon, port = registry.lower().rpartition(":")
    if not colon or registry.endswith("]"):
        host, port = registry.lower(), ""
    return (DEFAULT_REGISTRY if host in _HUB else host), (str(int(port)) if port else "")


def repository_of(reference: Reference) -> str:
    """The repository as rules compare it: `DOCKER.IO:443/nginx` is nobody else's image than `docker.io/library/nginx`."""
    if host_and_port(reference.registry)[0] == DEFAULT_REGISTRY and "/" not in reference.repository:
        return f"library/{reference.repository}"
    return reference.repository


def _pins(value: Any, where: str, reading: str) -> Pins:
    if isinstance(value, bool):
        return Pins(value)
    tags = _object(value, where, reading, "true, false, or an object of tags and lists of digests")
    found = []
    for tag, digests in tags.items():
        if not isinstance(digests, list) or not 0 < len(digests) <= _DIGESTS_LIMIT:
            raise Invalid(f"reading {reading}: {where}[{tag!r}] is not a list of 1 to {_DIGESTS_LIMIT} digests")
        try:
            is_tag = parse_reference(f"x:{tag}")[2:] == (tag, None)
            found.append((tag, tuple(parse_digest(each) for each in digests)))
        except Invalid as error:
            raise Invalid(f"reading {reading}: {where}[{tag!r}]: {error}") from None
        if not is_tag:
            raise Invalid(f"reading {reading}: {where}: {tag!r} is no tag")
    if not found:
        raise Invalid(f"reading {reading}: {where} lists no tag: write true to allow any digest, or deny pulls")
    return Pins(True, tuple(found))


def _signers(value: Any, where: str, reading: str) -> Signers:
    if value is False:
        return Signers(())
    said = _object(value, where, reading, "false or an object")
    _only(said, ("keys", "need", "identity"), reading, where)
    keys = said.get("keys")
    if not isinstance(keys, list) or not 0 < len(keys) <= _KEYS_LIMIT:
        raise Invalid(f"reading {reading}: {where}.keys is not a list of 1 to {_KEYS_LIMIT} public keys")
    for key in keys:
        if not isinstance(key, str) or "\0" in key or not key.startswith(("/", "-----BEGIN PUBLIC KEY-----")):
            raise Invalid(f"reading {reading}: {where}.keys has what is neither an absolute path nor a PEM text of a PUBLIC KEY")
    need = _choice(said, "need", ("one", "all"), where, reading)
    identity = _choice(said, "identity", ("any", "repository"), where, reading)
    return Signers(tuple(dict.fromkeys(keys)), need == "all", identity == "repository")


def _object(value: Any, where: str, reading: str, expected: str = "an object") -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"reading {reading}: {where} is not {expected}")
    return value


def _only(said: Mapping[str, Any], known: Collection[str], reading: str, where: str = "") -> None:
    unknown = sorted(set(said) - set(known))
    if unknown:
        place = f"{where} has" if where else "it has"
        raise Invalid(f"reading {reading}: {place} the unknown key {unknown[0][:80]!r}; there are {', '.join(known)}")


def _choice(said: Mapping[str, Any], key: str, choices: tuple[str, ...], where: str, reading: str) -> str:
    """One of the choices, "" where the key is not there; null is a choice that nobody made."""
    if key not in said:
        return ""
    value = said[key]
    if not isinstance(value, str) or value not in choices:
        raise Invalid(f"reading {reading}: {where}.{key} is not {' or '.join(choices)}")
    return value
