"""Names of images, as people write them and as registries know them.

    [REGISTRY[:PORT]/]PATH[/PATH...][:TAG][@DIGEST]

The grammar is that of the distribution specification (OCI distribution-spec 1.1, "Pulling manifests"); which first
component is a registry, and what an absent one means, is Docker's convention.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.value import NamedTuple

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

# Checked by str's methods: `re` would be a fifth of the time that `run` takes (model/regular.py).
_DIGITS = "0123456789"
_LOWER = _DIGITS + "abcdefghijklmnopqrstuvwxyz"
_LETTERS = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NO_SEPARATOR = ("..", "._", ".-", "_.", "_-", "-.", "-_", "___")  # one is '.', '_', '__' or any number of '-'
_LONGEST = 255


class Reference(NamedTuple):
    """Where an image is: tag and digest may both be there (then the digest decides), at least one is."""

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None = None

    @property
    def canonical(self) -> str:
        """Everything spelled out: `docker.io/library/nginx:latest`."""
        return f"{self.registry}/{self.repository}{self._suffix()}"

    @property
    def familiar(self) -> str:
        """As people write it: `nginx:latest`, `localhost:5000/app@sha256:...`."""
        return f"{self.name}{self._suffix()}"

    @property
    def name(self) -> str:
        """The familiar form without tag and digest, Docker's REPOSITORY column: `nginx`, `localhost:5000/app`."""
        if self.registry != DEFAULT_REGISTRY:
            return f"{self.registry}/{self.repository}"
        official = self.repository.startswith("library/") and self.repository.count("/") == 1
        return self.repository[len("library/") :] if official else self.repository

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository at exactly this manifest, as in RepoDigests."""
        return self._replace(tag=None, digest=digest)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.familiar


def parse_reference(text: str) -> Reference:
    """Read an image's name; without tag and digest it is `:latest`. Raises Invalid and says which part is wrong."""
    if not text or len(text) > 2 * _LONGEST:
        raise Invalid(f"reading an image's name: it has {len(text)} characters, and 1 to {_LONGEST} are allowed")
    rest, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text) if at else None
    rest, tag = _split_tag(rest)
    registry, repository = _split_registry(rest)
    _check(text, registry, repository, tag)
    return Reference(registry, repository, tag or (None if digest else DEFAULT_TAG), digest)


def _split_tag(rest: str) -> tuple[str, str | None]:
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # the colon of localhost:5000/app is the port's
        return rest, None
    return name, tag


def _split_registry(rest: str) -> tuple[str, str]:
    first, slash, remainder = rest.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry, repository = DEFAULT_REGISTRY, rest
    else:
        registry, repository = first, remainder
    if registry in ("index.docker.io", "registry-1.docker.io", DEFAULT_REGISTRY):
        registry = DEFAULT_REGISTRY
        repository = repository if "/" in repository else f"library/{repository}"
    return registry, repository


def _check(text: str, registry: str, repository: str, tag: str | None) -> None:
    if len(registry) + len(repository) + 1 > _LONGEST:
        raise Invalid(
            f"reading the image's name {text[:80]!r}...: registry and repository have over {_LONGEST} characters"
        )
    if not _is_registry(registry):
        raise Invalid(f"reading the image's name {text!r}: {registry!r} is not a registry's HOST or HOST:PORT")
    if not all(map(_is_component, repository.split("/"))):
        raise Invalid(
            f"reading the image's name {text!r}: the repository {repository!r} is not lower-case letters and digits, "
            "separated by '/', '.', '_', '__' or '-'"
        )
    if tag is not None and (not 0 < len(tag) <= 128 or tag.strip(_LETTERS + "._-") or tag[0] in ".-"):
        raise Invalid(
            f"reading the image's name {text!r}: the tag {tag!r} is not 1 to 128 of letters, digits, '_', '.', '-'"
        )


def _is_registry(text: str) -> bool:
    """HOST or HOST:PORT; a host is a name of labels (RFC 1123) or a bracketed IPv6 address."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host = text
    elif not 0 < len(port) <= 5 or port.strip(_DIGITS):
        return False
    if host[:1] == "[" and host[-1:] == "]":
        return len(host) > 2 and not host[1:-1].strip(_DIGITS + "abcdefABCDEF:")
    return all(map(_is_label, host.split(".")))


def _is_label(text: str) -> bool:
    return 0 < len(text) <= 63 and not text.strip(_LETTERS + "-") and text[0] != "-" and text[-1] != "-"


def _is_component(text: str) -> bool:
    outside = text[:1] + text[-1:]
    return outside != "" and not outside.strip(_LOWER) and not text.strip(_LOWER + "._-") and not any(s in text for s in _NO_SEPARATOR)
