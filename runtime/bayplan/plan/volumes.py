"""What happens to volumes: made, labelled anew, removed where it is asked for. Never replaced. Pure."""

from __future__ import annotations

from bayplan.errors import Conflict, NotFound
from bayplan.model.container import Container
from bayplan.model.declaration import Declaration, WantedVolume
from bayplan.model.host import Host
from bayplan.model.result import Step
from bayplan.model.value import TYPE_CHECKING
from bayplan.model.volume import Volume, volume_document
from bayplan.plan.difference import Change, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

_IN_PLACE = frozenset({"labels", "project"})


def volume_changes(have: Volume, want: Volume) -> tuple[Change, ...]:
    """The keys that differ, sorted."""
    old = {**volume_document(have), **({"project": have.project} if have.project else {})}
    new = {**volume_document(want), **({"project": want.project} if want.project else {})}
    return tuple(Change(key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key))


def volume_steps(want: Declaration, have: Host) -> tuple[Step, ...]:
    """Create, repair and update. Conflict where a volume would have to become another one: its data decide, not we."""
    steps: list[Step] = []
    for wanted in want.volumes:
        if wanted.state == "present":
            steps.extend(_present(wanted, want.project, have))
    return tuple(steps)


def _present(wanted: WantedVolume, project: str, have: Host) -> tuple[Step, ...]:
    name, there = wanted.spec.name, have.volumes.get(wanted.spec.name)
    if there is None and wanted.external:
        raise NotFound(f"looking for the external volume {name}: there is none; create it first")
    if there is None:
        return (Step("create", "volume", name, ("it does not exist",)),)
    repair = (Step("repair", "volume", name, there.drift),) if there.drift else ()
    changes = volume_changes(there.spec, settled_volume(there.spec, wanted, project=project))
    for change in changes:
        if change.key not in _IN_PLACE:
            raise Conflict(f"changing volume {name} ({describe(change)}): a volume is never replaced; remove it explicitly first")
    update = Step("update", "volume", name, tuple(describe(change) for change in changes))
    return (*((update,) if changes else ()), *repair)


def settled_volume(have: Volume, wanted: WantedVolume, *, project: str) -> Volume:
    """The declaration that is recorded after a converge. A document without a project leaves the volume to its project,
    and what is external or only used stays as it is; Conflict where two projects declare it."""
    if wanted.external or wanted.implied:
        return have
    if have.project == wanted.spec.project or not project:
        return wanted.spec._replace(project=have.project)
    owner = f"project {have.project}" if have.project else "no project"
    raise Conflict(f"declaring volume {have.name} in project {project}: it exists and belongs to {owner}; declare it external")


def volume_removals(want: Declaration, have: Host, specs: Mapping[str, Container]) -> tuple[Step, ...]:
    """What is declared absent; Conflict where a container that stays uses it."""
    steps = []
    for wanted in want.volumes:
        name, there = wanted.spec.name, have.volumes.get(wanted.spec.name)
        if wanted.state != "absent" or there is None or (want.project and there.spec.project != want.project):
            continue
        for user, spec in specs.items():
            if any(mount.kind == "volume" and mount.source == name for mount in spec.mounts):
                raise Conflict(f"removing volume {name}: container {user} uses it; remove the container first")
        steps.append(Step("remove", "volume", name, ("declared absent",)))
    return tuple(steps)
