"""A host in memory that does what the steps of a plan say: the property tests' counterpart of engine/."""

from __future__ import annotations

import hashlib

from bayplan.model.container import Container
from bayplan.model.declaration import Declaration, WantedContainer
from bayplan.model.host import HaveContainer, HaveImage, HaveNetwork, HaveVolume, Host
from bayplan.model.names import image_key
from bayplan.model.result import Step
from bayplan.plan.containers import RUNNING
from bayplan.plan.difference import settled_spec
from bayplan.plan.networks import settled_network
from bayplan.plan.volumes import settled_volume


def simulate(have: Host, want: Declaration, steps: tuple[Step, ...]) -> Host:
    """The host after `steps`; an AssertionError where a step does what a real host refuses."""
    for step in steps:
        have = _HANDLERS[step.kind](have, want, step)
        have = _with_users(have)
    return have


def _image(have: Host, want: Declaration, step: Step) -> Host:
    key = image_key(step.name)
    images = dict(have.images)
    if step.action in ("pull", "load"):
        new = have.remote.get(key) or f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        return have._replace(images=_named(images, key, new))
    if step.action == "tag":
        source = next(image for image in want.images if key in map(image_key, image.tags))
        return have._replace(images=_named(images, key, images[image_key(source.reference)].id))
    there = images[key]
    if step.action == "remove":
        assert not there.users, f"an image is removed under {there.users}"
        return have._replace(images={name: image for name, image in images.items() if image.id != there.id})
    return have._replace(images=_named(images, key, ""))


def _named(images: dict[str, HaveImage], key: str, image_id: str) -> dict[str, HaveImage]:
    """`key` leads to `image_id`, or to nothing where that is empty."""
    by_id = {image.id: image._replace(names=tuple(n for n in image.names if n != key)) for image in images.values()}
    if image_id:
        there = by_id.get(image_id, HaveImage(image_id))
        by_id[image_id] = there._replace(names=tuple(sorted({*there.names, key})))
    return {name: image for image in by_id.values() for name in (image.id, *image.names)}


def _network(have: Host, want: Declaration, step: Step) -> Host:
    networks = dict(have.networks)
    if step.action == "remove":
        assert not networks[step.name].users, f"network {step.name} is removed under {networks[step.name].users}"
        del networks[step.name]
        return have._replace(networks=networks)
    there = networks.get(step.name)
    if step.action == "repair" and there:
        networks[step.name] = there._replace(drift=())
        return have._replace(networks=networks)
    wanted = next(each for each in want.networks if each.spec.name == step.name)
    if step.action == "create":
        assert there is None, f"network {step.name} is created twice"
        networks[step.name] = HaveNetwork(f"id-{step.name}", wanted.spec)
    else:
        assert there is not None, f"network {step.name} is changed before it exists"
        drift = () if step.action == "replace" else there.drift
        networks[step.name] = there._replace(spec=settled_network(there.spec, wanted, project=want.project), drift=drift)
    return have._replace(networks=networks)


def _volume(have: Host, want: Declaration, step: Step) -> Host:
    volumes = dict(have.volumes)
    there = volumes.get(step.name)
    if step.action == "remove":
        assert there and not there.users, f"volume {step.name} is removed while it is used"
        del volumes[step.name]
    elif step.action == "repair" and there:
        volumes[step.name] = there._replace(drift=())
    else:
        wanted = next(each for each in want.volumes if each.spec.name == step.name)
        spec = settled_volume(there.spec, wanted, project=want.project) if there else wanted.spec
        volumes[step.name] = there._replace(spec=spec) if there else HaveVolume(spec)
    return have._replace(volumes=volumes)


def _container(have: Host, want: Declaration, step: Step) -> Host:
    containers = dict(have.containers)
    there = containers.get(step.name)
    if step.action == "remove":
        del containers[step.name]
        return have._replace(containers=containers)
    wanted = next(each for each in want.containers if each.spec.name == step.name)
    containers[step.name] = _changed(have, wanted, there, step)
    return have._replace(containers=containers)


def _changed(have: Host, wanted: WantedContainer, there: HaveContainer | None, step: Step) -> HaveContainer:
    if there is None:
        assert step.action == "create", f"{step.action} of {step.name}, which does not exist"
        return _made(have, wanted.spec, "created")
    if step.action == "start":
        assert there.status != "running", f"{step.name} is started while it runs"
        return there._replace(status="running", drift=_lasting(there), completed=False, stopped_by_user=False)
    if step.action == "restart":
        return there._replace(status="running", drift=_lasting(there))
    if step.action == "stop":
        assert there.status in RUNNING, f"{step.name} is stopped while it does not run"
        return there._replace(status="exited", drift=_lasting(there), stopped_by_user=True)
    if step.action == "update":
        spec = settled_spec(there.spec, wanted.spec, ignore=wanted.ignore, replace=wanted.recreate != "never")
        return there._replace(spec=_recorded(spec))
    assert step.action == "replace", f"{step.action} is no step of a container"
    spec = settled_spec(there.spec, wanted.spec, ignore=wanted.ignore) if wanted.known else there.spec
    runs = wanted.state == "started" or (wanted.state == "present" and there.status in RUNNING)
    made = _made(have, spec, "running" if runs else "created")
    return made if "image" not in wanted.ignore and wanted.known else made._replace(image=there.image)


def _made(have: Host, spec: Container, status: str) -> HaveContainer:
    key = image_key(spec.image)
    assert key in have.images, f"container {spec.name} is made before its image is there"
    for endpoint in spec.networks:
        assert endpoint.network in have.networks, f"container {spec.name} is made before its network {endpoint.network}"
    for mount in spec.mounts:
        assert mount.kind != "volume" or mount.source in have.volumes, f"container {spec.name} is made before its volume"
    return HaveContainer(f"id-{spec.name}", _recorded(spec), have.images[key].id, status)


def _recorded(spec: Container) -> Container:
    return spec._replace(files=tuple(file._replace(content="") for file in spec.files))


def _lasting(there: HaveContainer) -> tuple[str, ...]:
    return tuple(drift for drift in there.drift if drift.startswith("files changed"))


def _firewall(have: Host, want: Declaration, step: Step) -> Host:
    return have._replace(firewall_drift=tuple(name for name in have.firewall_drift if name != step.name))


def _with_users(have: Host) -> Host:
    """users of images, networks and volumes follow from the containers."""
    specs = {name: each.spec for name, each in have.containers.items()}
    return have._replace(
        images={
            key: image._replace(users=tuple(n for n, each in have.containers.items() if each.image == image.id))
            for key, image in have.images.items()
        },
        networks={
            key: network._replace(users=tuple(n for n, spec in specs.items() if key in [e.network for e in spec.networks]))
            for key, network in have.networks.items()
        },
        volumes={
            key: volume._replace(users=tuple(n for n, spec in specs.items() if key in [m.source for m in spec.mounts]))
            for key, volume in have.volumes.items()
        },
    )



_HANDLERS = {"image": _image, "network": _network, "volume": _volume, "container": _container, "firewall": _firewall}
