"""What a plan changes, as one small document per resource before and after: the diff that a door shows. Pure."""

from __future__ import annotations

from bayplan.model.declaration import Declaration
from bayplan.model.host import Host
from bayplan.model.names import image_key
from bayplan.model.network import network_document
from bayplan.model.result import Step
from bayplan.model.value import TYPE_CHECKING
from bayplan.model.volume import volume_document
from bayplan.plan.containers import Decision
from bayplan.plan.difference import Change, comparable
from bayplan.plan.networks import network_changes, settled_network
from bayplan.plan.volumes import settled_volume, volume_changes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

Document: TypeAlias = "dict[str, Any]"
_RUNNING = {"start": "running", "restart": "restarted", "stop": "exited"}


def before_and_after(
    want: Declaration, have: Host, decisions: Mapping[str, Decision], steps: tuple[Step, ...]
) -> tuple[Document, Document]:
    """Two mappings of "KIND NAME": changed keys only for what stays, the whole document for what comes or goes."""
    before: Document = {}
    after: Document = {}
    for step in steps:
        old, new = _sides(step, want, have, decisions)
        key = f"{step.kind} {step.name}"
        before[key] = {**before.get(key, {}), **old}
        after[key] = {**after.get(key, {}), **new}
    return before, after


def _sides(step: Step, want: Declaration, have: Host, decisions: Mapping[str, Decision]) -> tuple[Document, Document]:
    if step.kind == "container":
        return _container(step, decisions[step.name])
    if step.kind == "network":
        return _network(step, want, have)
    if step.kind == "volume":
        return _volume(step, want, have)
    if step.kind == "image":
        return _image(step, have)
    return {"state": "missing"}, {"state": "present"}


def _container(step: Step, decision: Decision) -> tuple[Document, Document]:
    if step.action == "create":
        return {}, comparable(decision.spec)
    status = decision.have.status if decision.have else "created"
    if step.action == "remove":
        return {**comparable(decision.spec), "status": status}, {}
    if step.action in _RUNNING:
        if decision.have is None:
            return {}, {"status": _RUNNING[step.action]}
        old = {"status": status, **({"because": list(step.why)} if step.action == "restart" else {})}
        return old, {"status": _RUNNING[step.action]}
    old, new = _changed(decision.changes)
    reasons = {"because": list(step.why)} if step.action == "replace" and not decision.changes else {}
    return {**old, **reasons}, new


def _changed(changes: tuple[Change, ...]) -> tuple[Document, Document]:
    """A key that is not there on one side is not shown on it."""
    return (
        {change.key: change.old for change in changes if change.old is not None},
        {change.key: change.new for change in changes if change.new is not None},
    )


def _network(step: Step, want: Declaration, have: Host) -> tuple[Document, Document]:
    there = have.networks.get(step.name)
    if step.action == "remove" and there:
        return {"driver": there.spec.driver, **network_document(there.spec)}, {}
    if step.action == "repair":
        return {"drift": list(step.why)}, {}
    wanted = next(each for each in want.networks if each.spec.name == step.name)
    if there is None:
        return {}, {"driver": wanted.spec.driver, **network_document(wanted.spec)}
    return _changed(network_changes(there.spec, settled_network(there.spec, wanted, project=want.project)))


def _volume(step: Step, want: Declaration, have: Host) -> tuple[Document, Document]:
    there = have.volumes.get(step.name)
    if step.action == "remove" and there:
        return {"driver": there.spec.driver, **volume_document(there.spec)}, {}
    if step.action == "repair":
        return {"drift": list(step.why)}, {}
    wanted = next(each for each in want.volumes if each.spec.name == step.name)
    if there is None:
        return {}, {"driver": wanted.spec.driver, **volume_document(wanted.spec)}
    return _changed(volume_changes(there.spec, settled_volume(there.spec, wanted, project=want.project)))


def _image(step: Step, have: Host) -> tuple[Document, Document]:
    key = image_key(step.name)
    local = have.images.get(key)
    old = {"id": local.id} if local else {}
    if step.action in ("remove", "untag"):
        return old, {}
    remote = have.remote.get(key, "")
    return old, {"id": remote or "known when it is fetched"} if step.action != "tag" else {"names": step.why[0].partition(" ")[2]}
