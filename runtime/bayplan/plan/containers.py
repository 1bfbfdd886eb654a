"""What each declared container needs: decided from its record, its image and what the world shows. Pure."""

from __future__ import annotations

from bayplan.errors import Conflict, NotFound
from bayplan.model.capabilities import granted
from bayplan.model.container import Container
from bayplan.model.declaration import WantedContainer
from bayplan.model.host import HaveContainer, Host
from bayplan.model.names import image_key
from bayplan.model.result import Step
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan.difference import Change, container_changes, describe, is_in_place, settled_spec
from bayplan.plan.order import sharing

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNNING = ("running", "restarting", "paused")


class Decision(NamedTuple):
    """One container: `spec` is what its record will say, `replacing` and `restarting` the reasons for either.

    `unmended` are reasons for a replacement that `recreate: never` forbids.
    """

    wanted: WantedContainer
    have: HaveContainer | None
    spec: Container
    changes: tuple[Change, ...] = ()
    replacing: tuple[str, ...] = ()
    restarting: tuple[str, ...] = ()
    unmended: tuple[str, ...] = ()
    awaited: bool = False

    @property
    def gone(self) -> bool:
        """Whether there is no such container in the end."""
        return self.wanted.state == "absent"

    @property
    def creates(self) -> bool:
        return self.have is None and not self.gone

    @property
    def fresh(self) -> bool:
        """Whether the container will be made from its image."""
        return self.creates or bool(self.replacing)

    @property
    def runs(self) -> bool:
        """Whether it runs in the end; one that has completed does not."""
        if self.wanted.state == "started":
            return True
        return self.wanted.state == "present" and self.have is not None and self.have.status in RUNNING

    def replaced(self, reason: str) -> Decision:
        """The same with one more reason to make the container anew."""
        if self.have is None or self.gone:
            return self
        if self.wanted.recreate == "never":
            return self._replace(unmended=(*self.unmended, reason))
        return self._replace(replacing=(*self.replacing, reason))

    def restarted(self, reason: str) -> Decision:
        return self._replace(restarting=(*self.restarting, reason))


def decide(wanted: WantedContainer, host: Host, *, project: str, awaited: bool) -> Decision:
    """What `wanted` needs by itself. `awaited`: another one depends on its successful completion.

    Raises NotFound where only a name is given and nothing has it, Conflict where it belongs to somebody else.
    """
    name = wanted.spec.name
    have = host.containers.get(name)
    if have is None:
        if not wanted.known and wanted.state != "absent":
            raise NotFound(f"looking for container {name}: there is none; declare its image to have it created")
        return Decision(wanted, None, _granted(wanted.spec))
    if not wanted.known:
        return _mended(Decision(wanted, have, have.spec, awaited=awaited))
    _check_owner(wanted, have, project)
    spec = settled_spec(have.spec, wanted.spec, ignore=wanted.ignore, replace=wanted.recreate != "never")
    decision = Decision(wanted, have, _granted(spec), container_changes(have.spec, spec), awaited=awaited)
    for change in container_changes(have.spec, settled_spec(have.spec, wanted.spec, ignore=wanted.ignore)):
        if not is_in_place(change):
            decision = decision.replaced(describe(change))
    if wanted.recreate == "always":
        decision = decision.replaced("recreate: always")
    return _mended(_with_local_image(decision, host))


def _granted(spec: Container) -> Container:
    """The spec itself; raises Invalid for a capability that Linux does not know, before anything is done."""
    granted(privileged=spec.privileged, strict=spec.profile == "strict", add=spec.cap_add, drop=spec.cap_drop)
    return spec


def _check_owner(wanted: WantedContainer, have: HaveContainer, project: str) -> None:
    if have.spec.project != project and not wanted.force:
        owner = f"project {have.spec.project}" if have.spec.project else "no project"
        wish = f"project {project}" if project else "a document without a project"
        raise Conflict(
            f"declaring container {wanted.spec.name} in {wish}: it exists and belongs to {owner}; choose another name, or take "
            "it over with force"
        )


def _with_local_image(decision: Decision, host: Host) -> Decision:
    """The image's name may lead to another image by now."""
    have, key = decision.have, image_key(decision.spec.image)
    local = host.images.get(key)
    if have and local and "image" not in decision.wanted.ignore and key == image_key(have.spec.image) and local.id != have.image:
        return decision.replaced(f"image changed: {decision.spec.image} is {_short(local.id)}, the container has {_short(have.image)}")
    return decision


def _short(image_id: str) -> str:
    return image_id.rpartition(":")[2][:12]


def _mended(decision: Decision) -> Decision:
    """Drift is mended by a restart, but for changed files, which only a new container sees."""
    have = decision.have
    assert have is not None, "what does not exist has no drift"
    for drift in have.drift:
        if drift.startswith("files changed") and decision.wanted.known:
            decision = decision.replaced(drift)
        elif have.status in RUNNING and decision.wanted.state == "started":
            decision = decision.restarted(drift)
    if decision.wanted.restart:
        decision = decision.restarted("restart was asked for")
    return decision


def with_fetched_images(decisions: Mapping[str, Decision], fetched: Mapping[str, str]) -> dict[str, Decision]:
    """`fetched` maps the keys of images that are pulled or loaded to their ids, "" where the id is not known before."""
    found = {}
    for name, each in decisions.items():
        key = image_key(each.spec.image) if each.wanted.known and each.have else ""
        if each.have and key in fetched and not each.fresh and fetched[key] != each.have.image:
            each = each.replaced(f"image changed: {each.spec.image} is pulled anew")
        found[name] = each
    return found


def with_consequences(decisions: Mapping[str, Decision], order: tuple[str, ...]) -> dict[str, Decision]:
    """A container that joins another's namespaces goes with it; `depends_on` with `restart: true` restarts after it."""
    found = dict(decisions)
    for name in order:
        decision = found[name]
        for owner in sharing(decision.spec):
            if owner in found:
                decision = _follow(decision, found[owner], owner)
        for dependency in decision.spec.depends_on:
            other = found.get(dependency.container)
            if other and dependency.restart and _interrupts(other) and not decision.fresh:
                decision = decision.restarted(f"depends on {dependency.container}, which is restarted")
        found[name] = decision
    return found


def _follow(decision: Decision, owner: Decision, name: str) -> Decision:
    if decision.creates or decision.gone:
        return decision
    if owner.fresh:
        followed = decision.replaced(f"shares namespaces with {name}, which is replaced")
        return followed if followed.replacing else followed.restarted(f"shares namespaces with {name}, which is replaced")
    if _interrupts(owner) or any(step.action == "start" for step in steps_of(owner)):
        return decision.restarted(f"shares namespaces with {name}, which is restarted")
    return decision


def _interrupts(decision: Decision) -> bool:
    return any(step.action in ("replace", "restart") for step in steps_of(decision))


def steps_of(decision: Decision) -> tuple[Step, ...]:
    """The steps for one container, in order.

    replace leaves the new container running where `runs` says so; update changes what is in place, without an interruption.
    """
    name, have = decision.spec.name, decision.have
    if decision.gone:
        return (Step("remove", "container", name, ("declared absent",)),) if have else ()
    if have is None:
        create = Step("create", "container", name, ("it does not exist",))
        return (create, Step("start", "container", name, ("declared started",))) if decision.runs else (create,)
    if decision.replacing:
        return (Step("replace", "container", name, decision.replacing),)
    update = Step("update", "container", name, tuple(describe(change) for change in decision.changes))
    return (*((update,) if decision.changes else ()), *_running_steps(decision, have))


def _running_steps(decision: Decision, have: HaveContainer) -> tuple[Step, ...]:
    name, state = decision.spec.name, decision.wanted.state
    if state == "stopped":
        return (Step("stop", "container", name, (f"it is {have.status}",)),) if have.status in RUNNING else ()
    if have.status in ("running", "restarting"):
        return (Step("restart", "container", name, decision.restarting),) if decision.restarting else ()
    if state == "present":
        return (Step("restart", "container", name, decision.restarting),) if decision.restarting and have.status == "paused" else ()
    done = decision.awaited and have.completed and have.exit_code == 0 and not decision.wanted.restart
    return () if done else (Step("start", "container", name, (f"it is {have.status}",)),)
