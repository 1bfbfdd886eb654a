"""Verbs that remove what nothing uses, after asking."""

from __future__ import annotations

import os
import sys

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import write
from bayplan.errors import Invalid

_FILTERS = ("label",)


def containers(call: Call) -> int:
    return _prune(call, ("all containers that do not run",), containers=True)


def images(call: Call) -> int:
    return _prune(call, (_images(call),), images=True, all_images=call.flag("all"))


def networks(call: Call) -> int:
    return _prune(call, ("all networks that no container uses",), networks=True)


def volumes(call: Call) -> int:
    return _prune(call, ("all anonymous volumes that no container uses",), volumes=True)


def system(call: Call) -> int:
    going = ["all containers that do not run", "all networks that no container uses", _images(call)]
    going += ["all anonymous volumes that no container uses"] if call.flag("volumes") else []
    return _prune(
        call, tuple(going), containers=True, networks=True, images=True, all_images=call.flag("all"), volumes=call.flag("volumes")
    )


def _images(call: Call) -> str:
    return "all images that no container uses" if call.flag("all") else "all images without a name"


def _prune(call: Call, going: tuple[str, ...], **kinds: bool) -> int:
    from bayplan.cli.filters import parse_filters

    filters = parse_filters(call.many("filter"), _FILTERS)
    labels = tuple((text.partition("=")[0], text.partition("=")[2]) for text in filters.get("label", ()))
    if not call.flag("force") and not _confirmed(going):
        return 0
    state = call.state()
    from bayplan.engine import prune

    pruned = prune.prune(state, labels=labels, **kinds)
    for title in ("containers", "networks", "images", "volumes"):
        names = getattr(pruned, title)
        if names:
            write(f"Deleted {title}:")
            for name in names:
                write(name)
            write("")
    write(f"Total reclaimed space: {moments.size(pruned.bytes)}")
    return 0


def _confirmed(going: tuple[str, ...]) -> bool:
    """Whether the user says yes. Raises Invalid where there is nobody to ask."""
    if not os.isatty(0):
        raise Invalid("prune: there is no terminal to ask at; say --force")
    sys.stdout.write("".join(("This removes:\n", *(f"  - {line}\n" for line in going), "Go on? [y/N] ")))
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
