"""Which images are fetched before the containers, and named or removed after them. Pure."""

from __future__ import annotations

from bayplan.errors import Conflict, NotFound
from bayplan.model.declaration import Declaration, WantedImage
from bayplan.model.host import HaveImage, Host
from bayplan.model.names import image_key
from bayplan.model.result import Step
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan.containers import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fetched(NamedTuple):
    """ids maps the keys of what is fetched to the id that it will have, "" where nobody knows before."""

    steps: tuple[Step, ...]
    ids: Mapping[str, str]
    warnings: tuple[str, ...]


class _Need(NamedTuple):
    """One image: as it is written first, why by whom, and all pull policies that were declared for it."""

    reference: str
    archive: str
    pulls: frozenset[str]
    needed: bool


def fetches(want: Declaration, have: Host, decisions: Mapping[str, Decision]) -> Fetched:
    """Pull or load what is missing and needed, and what `pull: always` finds newer. NotFound where pulling is forbidden."""
    steps: list[Step] = []
    ids: dict[str, str] = {}
    warnings: list[str] = []
    for key, need in _needs(want, decisions).items():
        local, remote = have.images.get(key), have.remote.get(key, "")
        why = ""
        if local is None:
            why = _missing(key, need) if need.needed else ""
        elif "always" in need.pulls and not remote and not need.archive:
            warnings.append(f"pulling {need.reference}: the registry did not answer; the image that is there is used")
        elif remote and remote != local.id and ("always" in need.pulls or need.archive):
            why = f"{need.archive or 'the registry'} has {_short(remote)}, the host {_short(local.id)}"
        if why:
            ids[key] = remote
            steps.append(Step("load" if need.archive else "pull", "image", need.reference, (why,)))
    return Fetched(tuple(steps), ids, tuple(warnings))


def _needs(want: Declaration, decisions: Mapping[str, Decision]) -> dict[str, _Need]:
    found: dict[str, _Need] = {}
    for image in want.images:
        if image.state == "present":
            _add(found, image.reference, image.archive, image.pull, needed=True)
    for decision in decisions.values():
        if decision.wanted.known and not decision.gone:
            _add(found, decision.spec.image, "", decision.spec.pull, needed=decision.fresh)
    return found


def _add(found: dict[str, _Need], reference: str, archive: str, pull: str, *, needed: bool) -> None:
    key = image_key(reference)
    known = found.get(key, _Need(reference, archive, frozenset(), False))
    found[key] = _Need(known.reference, known.archive or archive, known.pulls | {pull}, known.needed or needed)


def _missing(key: str, need: _Need) -> str:
    if not need.archive and (key.startswith("sha256:") or need.pulls == {"never"}):
        reason = "an id cannot be pulled" if key.startswith("sha256:") else "pull is never"
        raise NotFound(f"looking for image {need.reference}: it is not on the host and {reason}; load or pull it first")
    return "it is not on the host"


def tags(want: Declaration, have: Host, ids: Mapping[str, str]) -> tuple[Step, ...]:
    """Further names of declared images that do not lead to them yet."""
    steps = []
    for image in want.images:
        key = image_key(image.reference)
        local = have.images.get(key)
        target = ids.get(key, local.id if local else "")
        for tag in image.tags if image.state == "present" else ():
            there = have.images.get(image_key(tag))
            if there is None or not target or there.id != target:
                steps.append(Step("tag", "image", tag, (f"names {image.reference}",)))
    return tuple(steps)


def removals(want: Declaration, have: Host, decisions: Mapping[str, Decision]) -> tuple[Step, ...]:
    """Untag or remove what is declared absent; Conflict where a container will still need it."""
    wanted_keys = {image_key(each.spec.image) for each in decisions.values() if each.wanted.known and not each.gone}
    remaining = {image.id: set(image.names) for image in have.images.values()}
    steps = []
    for image in want.images:
        key = image_key(image.reference)
        local = have.images.get(key)
        if image.state == "absent" and key in wanted_keys:
            raise Conflict(f"removing image {image.reference}: a declared container is made from it; declare only one of the two")
        if image.state == "absent" and local:
            steps.append(_removal(image, key, local, remaining[local.id], _users(local, have, decisions)))
            remaining[local.id].discard(key)
    return tuple(steps)


def _removal(image: WantedImage, key: str, local: HaveImage, names: set[str], users: tuple[str, ...]) -> Step:
    if key in names and names - {key}:
        return Step("untag", "image", image.reference, ("declared absent; the image has other names",))
    if not users:
        return Step("remove", "image", image.reference, ("declared absent",))
    if image.force and key in names:
        return Step("untag", "image", image.reference, (f"declared absent; container {users[0]} keeps the image itself",))
    raise Conflict(f"removing image {image.reference}: container {users[0]} is made from it; remove the container first")


def _users(image: HaveImage, have: Host, decisions: Mapping[str, Decision]) -> tuple[str, ...]:
    """The containers that are made from the image when all containers' steps are done."""
    return tuple(name for name in image.users if name not in decisions or not (decisions[name].gone or decisions[name].replacing))


def _short(image_id: str) -> str:
    return image_id.rpartition(":")[2][:12]
