"""Applying a plan's steps, one after the other."""

from __future__ import annotations

from bayplan.engine import adjust, containers, endpoints, images, networks, pause, publications, replace, start, stop, volumes, wellness
from bayplan.engine.state import State
from bayplan.errors import NotFound
from bayplan.kernel import firewall
from bayplan.model.container import Container
from bayplan.model.declaration import Declaration, WantedContainer, WantedImage, WantedNetwork
from bayplan.model.host import Host
from bayplan.model.names import image_key
from bayplan.model.result import Step
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan.difference import settled_spec
from bayplan.plan.networks import settled_network
from bayplan.plan.volumes import settled_volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from bayplan.engine.observe import Auth


class Applying(NamedTuple):
    """What a step needs to know: the wish, the host as it was, and for whom registries are asked."""

    state: State
    want: Declaration
    have: Host
    auth: Auth | None

    def container(self, name: str) -> WantedContainer:
        found = next((each for each in self.want.containers if each.spec.name == name), None)
        return found or WantedContainer(self.have.containers[name].spec, known=False)

    def spec(self, name: str) -> Container:
        """The declaration to record: the wanted one, but for keys that are to be left alone."""
        wanted, there = self.container(name), self.have.containers.get(name)
        if there is None:
            return wanted.spec
        if not wanted.known:
            return there.spec
        return settled_spec(there.spec, wanted.spec, ignore=wanted.ignore, replace=wanted.recreate != "never")


def apply(applying: Applying, step: Step, done: list[Step]) -> None:
    """Do one step; raises what it raises. A container that is among those just made, and cannot start, is taken back."""
    try:
        _ACTIONS[step.kind, step.action](applying, step.name)
    except BaseException:
        made = [each for each in done if each[:3] == ("create", "container", step.name)]
        if made and step.action == "start":
            stop.remove(applying.state, containers.find(applying.state, step.name), force=True, volumes=True)
            done.remove(made[0])
        raise


def await_all(applying: Applying) -> None:
    for wanted in applying.want.containers:
        if wanted.state == "started":
            record = containers.find(applying.state, wanted.spec.name)
            wellness.await_wellness(applying.state, record, timeout=applying.want.wait_timeout / 1e9)


# Images


def _wanted_image(applying: Applying, reference: str) -> WantedImage:
    key = image_key(reference)
    found = next((each for each in applying.want.images if image_key(each.reference) == key), None)
    platform = next((each.spec.platform for each in applying.want.containers if each.spec.image == reference), "")
    return found or WantedImage(reference, platform=platform)


def _pull(applying: Applying, reference: str) -> None:
    images.fetch(applying.state, reference, platform=_wanted_image(applying, reference).platform, auth=applying.auth)


def _load(applying: Applying, reference: str) -> None:
    images.load_as(applying.state, _wanted_image(applying, reference).archive, reference)


def _tag(applying: Applying, name: str) -> None:
    key = image_key(name)
    source = next(each.reference for each in applying.want.images if key in map(image_key, each.tags))
    images.tag(applying.state, source, name)


def _remove_image(applying: Applying, reference: str) -> None:
    images.remove(applying.state, reference, force=_wanted_image(applying, reference).force)


# Networks and volumes


def _wanted_network(applying: Applying, name: str) -> WantedNetwork:
    return next(each for each in applying.want.networks if each.spec.name == name)


def _create_network(applying: Applying, name: str) -> None:
    networks.create(applying.state, _wanted_network(applying, name).spec)


def _update_network(applying: Applying, name: str) -> None:
    row = networks.find(applying.state, name)
    settled = settled_network(networks.specification(row), _wanted_network(applying, name), project=applying.want.project)
    networks.update(applying.state, row, settled)


def _repair_network(applying: Applying, name: str) -> None:
    networks.install(applying.state, networks.find(applying.state, name))
    endpoints.reconnect_all(applying.state, networks.find(applying.state, name))


def _replace_network(applying: Applying, name: str) -> None:
    row = networks.find(applying.state, name)
    settled = settled_network(networks.specification(row), _wanted_network(applying, name), project=applying.want.project)
    adjust.replace_network(applying.state, row, settled)


def _remove_network(applying: Applying, name: str) -> None:
    networks.remove(applying.state, name)


def _write_volume(applying: Applying, name: str) -> None:
    wanted = next(each for each in applying.want.volumes if each.spec.name == name)
    there = applying.have.volumes.get(name)
    volumes.create(applying.state, settled_volume(there.spec, wanted, project=applying.want.project) if there else wanted.spec)


def _remove_volume(applying: Applying, name: str) -> None:
    volumes.remove(applying.state, name)


# Containers


def _create_container(applying: Applying, name: str) -> None:
    containers.create(applying.state, applying.spec(name)._replace(pull="missing"), auth=applying.auth, declared=applying.spec(name))


def _start_container(applying: Applying, name: str) -> None:
    record = containers.find(applying.state, name)
    wellness.await_dependencies(applying.state, record, timeout=applying.want.wait_timeout / 1e9)
    had = applying.have.containers.get(name)
    if had and had.status == "paused":
        pause.thaw(applying.state, record)
    else:
        start.start(applying.state, record)


def _replace_container(applying: Applying, name: str) -> None:
    wanted, old = applying.container(name), containers.find(applying.state, name)
    running = wanted.state == "started" or (wanted.state == "present" and applying.have.containers[name].status in ("running", "paused"))
    timeout = applying.want.wait_timeout / 1e9
    replace.replace(applying.state, old, applying.spec(name), running=running, timeout=timeout, auth=applying.auth)


def _update_container(applying: Applying, name: str) -> None:
    adjust.adjust(applying.state, containers.find(applying.state, name), applying.spec(name))


def _stop_container(applying: Applying, name: str) -> None:
    stop.stop(applying.state, containers.find(applying.state, name))


def _restart_container(applying: Applying, name: str) -> None:
    record = containers.find(applying.state, name)
    stop.stop(applying.state, record)
    _start_container(applying, name)


def _remove_container(applying: Applying, name: str) -> None:
    try:
        record = containers.find(applying.state, name)
    except NotFound:
        return  # it removed itself when it was stopped
    stop.stop(applying.state, record)
    stop.remove(applying.state, record, force=True, volumes=True)


def _repair_firewall(applying: Applying, name: str) -> None:
    """One repair mends all that is missing; it is idempotent."""
    state = applying.state
    firewall.repair(state.id, firewall.Ruleset(frozenset(networks.bridges(state)), publications.of_running(state)))
    networks.clear_way(state)


_ACTIONS: dict[tuple[str, str], Callable[[Applying, str], None]] = {
    ("image", "pull"): _pull,
    ("image", "load"): _load,
    ("image", "tag"): _tag,
    ("image", "untag"): _remove_image,
    ("image", "remove"): _remove_image,
    ("network", "create"): _create_network,
    ("network", "update"): _update_network,
    ("network", "repair"): _repair_network,
    ("network", "replace"): _replace_network,
    ("network", "remove"): _remove_network,
    ("volume", "create"): _write_volume,
    ("volume", "update"): _write_volume,
    ("volume", "repair"): _write_volume,
    ("volume", "remove"): _remove_volume,
    ("container", "create"): _create_container,
    ("container", "start"): _start_container,
    ("container", "replace"): _replace_container,
    ("container", "update"): _update_container,
    ("container", "stop"): _stop_container,
    ("container", "restart"): _restart_container,
    ("container", "remove"): _remove_container,
    ("firewall", "repair"): _repair_firewall,
}
