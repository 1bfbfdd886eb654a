"""Images with fewer layers: several become one that shows the same files."""

from __future__ import annotations

from functools import partial

from bayplan.engine import guard, images, pull, sealing
from bayplan.engine.state import State
from bayplan.errors import Invalid
from bayplan.model import jsontext
from bayplan.model.image import parse_image_config
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import adoption, layers
from bayplan.store.pack import pack_merged
from bayplan.store.records import ImageRow
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from typing import Any

    from bayplan.model.digest import Digest

CREATED_BY = "bayplan image flatten"


def flatten(state: State, source: str, name: str = "", *, keep: int = 0, epoch: int | None = None) -> ImageRow:
    """Merge the layers of an image, but for the `keep` lowest ones, into one; the new image gets `name`, if given.

    Its config says what the source's says, with the same time, so equal images become equal ones. Its history is kept: what made the merged
    layers is in it as what made none. Raises NotFound, Invalid.
    """
    names = (parse_reference(name).canonical,) if name else ()
    row = images.find(state, source)
    with guard.clearing(state), pull.using(state.root):
        data = images.config_bytes(state, row.id)
        chain, document = parse_image_config(data).diff_ids, jsontext.loads(data.decode())
        if not 0 <= keep <= len(chain):
            raise Invalid(f"flattening {source}: it has {len(chain)} layers, and {keep} of them cannot be kept")
        if len(chain) - keep < 2:
            return sealing.make(state, document, diff_ids=chain, names=names)
        layers.complete(state.root, chain)
        merged = adoption.adopt_archive(state.root, partial(_pack, state.root, chain, keep, epoch))
        document = {**document, "history": _history(document, keep)}
        return sealing.make(state, document, diff_ids=(*chain[:keep], merged.diff_id), names=names)


def _pack(root: StateRoot, chain: tuple[Digest, ...], keep: int, epoch: int | None, write: Any) -> Any:
    """Write the merged archive; with no layer below it, it hides nothing."""
    trees: list[str] = []
    opaque = False
    seen: set[Digest] = set()
    for position in range(len(chain) - 1, keep - 1, -1):
        if chain[position] in seen:
            continue  # what it does lower down is done again above
        seen.add(chain[position])
        trees += (f"{root.path}/{name}" for name in layers.lowerdirs_of_last(root, chain[: position + 1]))
        opaque = layers.hides_all(root, chain[position])
        if opaque:
            break
    return pack_merged(trees, write, epoch=epoch, whiteouts=keep > 0, opaque=opaque)


def _history(document: dict[str, Any], keep: int) -> list[dict[str, Any]]:
    """image-spec config.md, "history": an entry without `empty_layer` stands for a layer, in their order."""
    found: list[dict[str, Any]] = []
    layers_seen = 0
    for entry in document.get("history") or ():
        if not entry.get("empty_layer"):
            layers_seen += 1
        found.append(entry if layers_seen <= keep else {**entry, "empty_layer": True})
    missing = max(0, keep - layers_seen)  # an image may have less history than layers
    found += [{"created_by": ""}] * missing
    return [*found, {"created_by": CREATED_BY, **({"created": document["created"]} if document.get("created") else {})}]
