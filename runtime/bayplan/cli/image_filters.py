"""`images --filter`: which images, and which of their names, by Docker's rules."""

from __future__ import annotations

from bayplan.cli import moments
from bayplan.cli.filters import has_labels, truth
from bayplan.errors import Invalid
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayplan.engine.images import Image

    Filters = Mapping[str, tuple[str, ...]]

KNOWN = ("reference", "dangling", "label", "before", "since", "until")


def wanted(image: Image, found: list[Image], filters: Filters) -> bool:
    """Whether all filters but `reference` apply; `found` are all images, of which `before` and `since` name one. Raises Invalid."""
    dangling = truth("dangling", filters.get("dangling", ()))
    if dangling is not None and dangling != (not image.names):
        return False
    made = when(image)
    if not all(made < when(_named(found, "before", name)) for name in filters.get("before", ())):
        return False
    if not all(made > when(_named(found, "since", name)) for name in filters.get("since", ())):
        return False
    if not all(made < moments.moment(text) for text in filters.get("until", ())):
        return False
    return has_labels(dict(image.config.labels), filters.get("label", ()))


def when(image: Image) -> float:
    """When it was made, as its config says, in whatever zone; the beginning of time where it does not."""
    try:
        return moments.epoch(image.created)
    except Invalid:
        return 0.0


def _named(found: list[Image], key: str, name: str) -> Image:
    digits = name.partition(":")[2] if name.startswith("sha256:") else name
    for image in found:
        if (digits and image.id[7:].startswith(digits)) or _is_called(image, name):
            return image
    raise Invalid(f"--filter {key}={name}: there is no such image")


def _is_called(image: Image, name: str) -> bool:
    try:
        reference = parse_reference(name)
    except Invalid:
        return False
    return reference.familiar in image.names or bool(reference.digest and image.digest == str(reference.digest))


def matches(repository: str, tag: str, pattern: str) -> bool:
    """Whether the pattern is that of the repository, or of repository and tag; a star stands for what has no slash."""
    return any(_match(name, pattern) for name in (repository, f"{repository}:{tag}"))


def _match(name: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase

    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
