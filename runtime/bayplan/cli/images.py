"""Verbs about images."""

from __future__ import annotations

import os
import sys

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import each, listing, short, write
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from bayplan.engine.images import Image
    from bayplan.engine.state import State
    from bayplan.model.reference import Reference


def pull(call: Call) -> int:
    """As `docker pull` prints it; of layers only the progress, and that on a terminal."""
    state = call.state(create=True)
    from bayplan.engine import looking
    from bayplan.model.reference import parse_reference

    def one(name: str) -> None:
        reference = parse_reference(name)
        if call.flag("all-tags"):
            if reference.canonical != parse_reference(reference.name).canonical or name.endswith(f":{reference.tag}"):
                raise Invalid(f"pulling {name}: with --all-tags it is a repository's name, without tag and digest")
            for tag in looking.tags(reference):
                _pull(call, state, reference._replace(tag=tag))
            return
        if not call.flag("quiet") and reference.tag and not name.endswith(f":{reference.tag}") and not reference.digest:
            write(f"Using default tag: {reference.tag}")
        _pull(call, state, reference)

    return each(call.arguments, one, echo=False)


def _pull(call: Call, state: State, reference: Reference) -> None:
    from bayplan.engine import images

    quiet, before = call.flag("quiet"), images.look_up(state, reference.canonical)
    if not quiet:
        write(f"{reference.tag or reference.digest}: Pulling from {reference.repository}")
    row = images.fetch(state, reference.canonical, platform=call.text("platform"), quiet=quiet)
    if not quiet:
        write(f"Digest: {row.digest}")
        newer = before is None or before.id != row.id
        write(f"Status: {'Downloaded newer image' if newer else 'Image is up to date'} for {reference.familiar}")
    write(reference.canonical)


def images(call: Call) -> int:
    """One line per name; an image without one is <none>."""
    from bayplan.cli import image_filters
    from bayplan.cli.filters import parse_filters

    filters = parse_filters(call.many("filter"), image_filters.KNOWN)
    state = call.state()
    from bayplan.engine import images as engine

    found = sorted(engine.all_images(state), key=image_filters.when, reverse=True)
    chosen = [image for image in found if image_filters.wanted(image, found, filters)]
    shown = [document for image in chosen for document in documents(image, full=call.flag("no-trunc"))]
    patterns = (*filters.get("reference", ()), *call.arguments)
    if patterns:
        shown = [each for each in shown if any(image_filters.matches(each["Repository"], each["Tag"], pattern) for pattern in patterns)]
    if call.flag("quiet"):
        shown = list({document["ID"]: document for document in shown}.values())
    digest = (("DIGEST", "Digest"),) if call.flag("digests") else ()
    columns = (("REPOSITORY", "Repository"), ("TAG", "Tag"), *digest, ("IMAGE ID", "ID"), ("CREATED", "CreatedSince"), ("SIZE", "Size"))
    return listing(call, shown, columns)


def documents(image: Image, *, full: bool) -> list[dict[str, Any]]:
    """The image as `images` and its --format know it, once for each of its names."""
    return [
        {
            "ID": image.id if full else short(image.id),
            "Repository": repository,
            "Tag": tag,
            "Digest": image.digest or "<none>",
            "CreatedAt": moments.local(image.created),
            "CreatedSince": moments.ago(image.created),
            "Size": moments.size(image.size),
        }
        for repository, tag in map(_split, image.names or ("",))
    ]


def _split(name: str) -> tuple[str, str]:
    """Familiar repository and tag; a name by digest has no tag."""
    if not name:
        return "<none>", "<none>"
    if "@" in name:
        return name.partition("@")[0], "<none>"
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "latest")


def remove(call: Call) -> int:
    state = call.state()
    from bayplan.engine import images as engine

    def one(name: str) -> None:
        for line in engine.remove(state, name, force=call.flag("force")):
            write(line)

    return each(call.arguments, one, echo=False)


def tag(call: Call) -> int:
    from bayplan.engine import images as engine

    engine.tag(call.state(), *call.arguments)
    return 0


def load(call: Call) -> int:
    """From a file, an OCI layout, or standard input, which cannot be a terminal."""
    source = call.text("input", "-")
    if source == "-" and os.isatty(0):
        raise Invalid("load: standard input is a terminal; name an archive with --input FILE")
    state = call.state(create=True)
    from bayplan.engine import images as engine

    for row in engine.load(state, source):
        for name in engine.view(state, row).names or (row.id,):
            write(f"Loaded image: {name}")
    return 0


def import_(call: Call) -> int:
    source = call.arguments[0]
    if source == "-" and os.isatty(0):
        raise Invalid("import: standard input is a terminal; name an archive")
    from bayplan.engine import changes

    run = changes.run_config(call.many("change"))
    state = call.state(create=True)
    from bayplan.engine import images as engine

    name = call.arguments[1] if len(call.arguments) > 1 else ""
    write(engine.import_(state, source, name, run=run, comment=call.text("message"), platform=call.text("platform")).id)
    return 0


def save(call: Call) -> int:
    target = call.text("output", "-")
    if target == "-" and sys.stdout.isatty():
        raise Invalid("save: standard output is a terminal; name an archive with --output FILE")
    from bayplan.engine import images as engine

    state, format = call.state(), call.text("format", "docker-archive")
    engine.save(state, call.arguments, target, format=format, platform=call.text("platform"))
    return 0
