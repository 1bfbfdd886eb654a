"""Whether those that a starting container waits for will ever be as it needs them. Pure."""

from __future__ import annotations

from bayplan.errors import Conflict
from bayplan.model.container import Dependency
from bayplan.model.host import Host
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan.containers import RUNNING, Decision, steps_of
from bayplan.plan.order import sharing

if TYPE_CHECKING:
    from collections.abc import Mapping

_STARTING = ("start", "restart", "replace")


def check_waiting(decisions: Mapping[str, Decision], have: Host) -> None:
    """Raise Conflict where a container that is to start depends on one, or joins one, that is there and is not to run."""
    for name, decision in decisions.items():
        if decision.gone or not decision.runs or not any(step.action in _STARTING for step in steps_of(decision)):
            continue
        for dependency in decision.spec.depends_on:
            if dependency.required and not _will_come(dependency, decisions, have):
                raise Conflict(
                    f"starting container {name}: it waits for {dependency.condition} of container {dependency.container}, which is "
                    "not declared started; start it, or drop the dependency"
                )
        for owner in sharing(decision.spec):
            if not _will_come(Dependency(owner), decisions, have):
                raise Conflict(
                    f"starting container {name}: it joins namespaces of container {owner}, which is not declared started; start it too"
                )


def _will_come(dependency: Dependency, decisions: Mapping[str, Decision], have: Host) -> bool:
    decision, there = decisions.get(dependency.container), have.containers.get(dependency.container)
    if decision is None and there is None:
        return True  # that it is missing is said elsewhere
    if dependency.condition == "service_completed_successfully" and there and there.completed and there.exit_code == 0:
        return decision is None or not decision.fresh or decision.runs
    return decision.runs if decision else bool(there and there.status in RUNNING)
