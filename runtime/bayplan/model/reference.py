"""Names of images, as people write them and as registries know them.

    [REGISTRY[:PORT]/]PATH[/PATH...][:TAG][@DIGEST]

The grammar is that of the distribution specification (OCI distribution-spec 1.1, "Pulling manifests"); which first
component is a registry, and what an absent one means, is Docker's convention.
"""

from __future__ import annotations

import re

from bayplan.errors import Invalid
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.value import NamedTuple

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,62}(?<!-))?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
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
    if not _REGISTRY.match(registry):
        raise Invalid(f"reading the image's name {text!r}: {registry!r} is not a registry's HOST or HOST:PORT")
    if not _REPOSITORY.match(repository):
        raise Invalid(
            f"reading the image's name {text!r}: the repository {repository!r} is not lower-case letters and digits, "
            "separated by '/', '.', '_', '__' or '-'"
        )
    if tag is not None and not _TAG.match(tag):
        raise Invalid(
            f"reading the image's name {text!r}: the tag {tag!r} is not 1 to 128 of letters, digits, '_', '.', '-'"
        )
