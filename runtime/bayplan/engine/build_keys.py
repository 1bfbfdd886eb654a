"""What a step's result depends on, as one digest: the same key, the same layer (store/cache.py)."""

from __future__ import annotations

import hashlib

from bayplan.build.draft import Draft
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayplan.build.instructions import Instruction, Run
    from bayplan.engine.build_order import Order

_FORM = 1  # to be raised where a step comes to make something else of the same


def of_config(draft: Draft, wanted: Instruction, *, epoch: int | None) -> str:
    """An instruction that touches no file."""
    return _key("config", epoch, list(draft.layers), dict(draft.run), draft.author, type(wanted).__name__, list(wanted[1:]))


def of_run(
    draft: Draft, words: tuple[str, ...], wanted: Run, variables: Mapping[str, str], mounted: Mapping[str, str], *, epoch: int | None
) -> str:
    """`mounted` has a digest for each --mount that brings content in."""
    mounts = [tuple(each) for each in wanted.mounts]
    scripts = [tuple(each) for each in wanted.inline]
    about = [draft.environment, draft.user, draft.directory, list(words), mounts, scripts, wanted.network, wanted.security]
    return _key("run", epoch, list(draft.layers), about, dict(variables), dict(mounted))


def of_copy(draft: Draft, order: Order, contents: tuple[str, ...], *, epoch: int | None) -> str:
    """`contents` are the sources' digests, in their order."""
    about = [order.destination, order.into, order.chown, order.chmod, order.link, list(order.names)]
    named = [each.path.rpartition("/")[2] for each in order.sources]
    below = [] if order.link and not order.chown.strip("0123456789:") else list(draft.layers)
    return _key("copy", epoch, below, about, named, list(contents))


def _key(*parts: object) -> str:
    return hashlib.sha256(repr((_FORM, *map(_settled, parts))).encode("utf-8", "surrogateescape")).hexdigest()


def _settled(value: object) -> object:
    """With mappings in the order of their keys."""
    if isinstance(value, dict):
        return [(key, _settled(each)) for key, each in sorted(value.items())]
    return [_settled(each) for each in value] if isinstance(value, (list, tuple)) else value
