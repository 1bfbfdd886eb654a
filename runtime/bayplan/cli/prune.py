"""Verbs that remove what nothing uses, after asking."""

from __future__ import annotations

import os
import sys

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import write
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bayplan.engine.prune import Pairs, Which

    Filters = Mapping[str, tuple[str, ...]]

_LABELS = ("label", "label!")
_CONTAINERS, _NETWORKS = "all containers that do not run", "all networks that no container uses"
_TITLES = (
    ("Containers", "containers"),
    ("Networks", "networks"),
    ("Volumes", "volumes"),
    ("Images", "images"),
    ("build cache objects", "build_cache"),
)


def containers(call: Call) -> int:
    return _prune(call, (_CONTAINERS,), _filters(call, "until"), containers=True)


def images(call: Call) -> int:
    """`dangling=false` is Docker's other word for --all."""
    filters = _filters(call, "until", "dangling")
    every = call.flag("all") or _truth("dangling", filters) is False
    return _prune(call, (_images(every=every),), filters, images=True, all_images=every)


def networks(call: Call) -> int:
    return _prune(call, (_NETWORKS,), _filters(call, "until"), sized=False, networks=True)


def volumes(call: Call) -> int:
    """`all=true` is Docker's other word for --all."""
    filters = _filters(call, "all")
    every = call.flag("all") or _truth("all", filters) is True
    going = "all volumes that no container uses, those with a name and their data, too" if every else _anonymous()
    return _prune(call, (going,), filters, volumes=True, all_volumes=every)


def system(call: Call) -> int:
    """Without an age for volumes: what was made long ago may have been written to just now."""
    filters = _filters(call, "until")
    every, lost = call.flag("all"), call.flag("volumes")
    if lost and "until" in filters:
        raise Invalid("prune --volumes: the filter until does not go with it; prune volumes by themselves")
    going = (_CONTAINERS, _NETWORKS, _images(every=every), _build_cache(every=every), *((_anonymous(),) if lost else ()))
    kinds = {"all_images": every, "volumes": lost, "all_cache": every}
    return _prune(call, going, filters, containers=True, networks=True, images=True, build_cache=True, **kinds)


def builder(call: Call) -> int:
    every = call.flag("all")
    return _prune(call, (_build_cache(every=every),), _filters(call, "until"), build_cache=True, all_cache=every)


def _images(*, every: bool) -> str:
    return "all images that no container uses" if every else "all images without a name"


def _build_cache(*, every: bool) -> str:
    return "all of the build cache" if every else "what of the build cache no image has"


def _anonymous() -> str:
    return "all anonymous volumes that no container uses"


def _filters(call: Call, *more: str) -> Filters:
    from bayplan.cli.filters import parse_filters

    return parse_filters(call.many("filter"), (*_LABELS, *more))


def _truth(key: str, filters: Filters) -> bool | None:
    from bayplan.cli.filters import truth

    return truth(key, filters.get(key, ()))


def _prune(call: Call, going: tuple[str, ...], filters: Filters, *, sized: bool = True, **kinds: bool) -> int:
    limits = [moments.moment(text) for text in filters.get("until", ())]
    if len(limits) > 1:
        raise Invalid("--filter until: it is given more than once")
    if not call.flag("force") and not _confirmed(going):
        return 0
    state = call.state()
    from bayplan.engine import prune

    pruned = prune.prune(state, which=_which(filters, limits), **kinds)
    for title, member in _TITLES:
        names = getattr(pruned, member)
        if names:
            write(f"Deleted {title}:")
            for name in names:
                write(name)
            write("")
    if sized:
        write(f"Total reclaimed space: {moments.size(pruned.bytes)}")
    return 0


def _which(filters: Filters, limits: list[float]) -> Which:
    from bayplan.engine.prune import Which

    return Which(_pairs(filters.get("label", ())), _pairs(filters.get("label!", ())), _older_than(limits[0]) if limits else None)


def _pairs(texts: tuple[str, ...]) -> Pairs:
    return tuple((text.partition("=")[0], text.partition("=")[2]) for text in texts)


def _older_than(limit: float) -> Callable[[str], bool]:
    """Says of a time, as records and images spell it, whether it is before `limit`; no time at all is."""

    def older(created: str) -> bool:
        try:
            return moments.epoch(created) < limit
        except Invalid:
            return not created

    return older


def _confirmed(going: tuple[str, ...]) -> bool:
    """Whether the user says yes. Raises Invalid where there is nobody to ask."""
    if not os.isatty(0):
        raise Invalid("prune: there is no terminal to ask at; say --force")
    sys.stdout.write("".join(("This removes:\n", *(f"  - {line}\n" for line in going), "Go on? [y/N] ")))
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
