"""Observing a host: the records, and whether the world still shows what they say. Creates nothing."""

from __future__ import annotations

import os

from bayplan.engine import aside, containers, endpoints, images, networks, publications, volumes
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import BayplanError, Refused
from bayplan.kernel import firewall, interfaces
from bayplan.model.container import Container
from bayplan.model.declaration import Declaration
from bayplan.model.digest import parse_digest
from bayplan.model.host import HaveContainer, HaveImage, HaveNetwork, HaveVolume, Host
from bayplan.model.names import image_key
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan import bundle
from bayplan.store import records, status
from bayplan.store.records import ContainerRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

Auth: TypeAlias = "Mapping[str, str]"
Links: TypeAlias = "Mapping[str, interfaces.Link]"


def observe(state: State, want: Declaration, *, auth: Auth | None = None) -> Host:
    """The host as plan/ compares it. Registries are asked only for images whose pull policy is `always`."""
    remote = {**_remote(want, auth), **_archives(state, want)}
    with records.reading(state.records):
        return _observe(state, remote)


def _observe(state: State, remote: Mapping[str, str]) -> Host:
    rows = aside.recovered(state, records.containers(state.records))
    known = [containers.record_of(row) for row in rows]
    boot = status.boot_id()
    present = interfaces.observe()
    runs = {record.id: containers.run_of(state, record.id, boot=boot) for record in known}
    running = [record for record in known if runs[record.id].pid]
    return Host(
        images=_images(state, rows),
        networks=_networks(state, rows, present),
        volumes=_volumes(state, rows),
        containers={record.name: _container(state, record, runs[record.id], present) for record in known},
        remote=remote,
        firewall_drift=_firewall_drift(state, running),
    )


def _images(state: State, rows: tuple[ContainerRow, ...]) -> dict[str, HaveImage]:
    names = records.image_names(state.records)
    found: dict[str, HaveImage] = {}
    for row in records.images(state.records):
        if not images.exists_on_disk(state, row):
            continue
        users = tuple(each.name for each in rows if each.image == row.id)
        image = HaveImage(row.id, row.digest, names.get(row.id, ()), users)
        found[row.id] = image
        found.update((name, image) for name in image.names)
        if row.digest:
            digest = parse_digest(row.digest)
            found.update((parse_reference(name).with_digest(digest).canonical, image) for name in image.names)
    return found


def _networks(state: State, rows: tuple[ContainerRow, ...], present: Links) -> dict[str, HaveNetwork]:
    names = {row.id: row.name for row in rows}
    users: dict[str, tuple[str, ...]] = {}
    for lease in [each for each in records.endpoints(state.records) if each.container in names]:
        users[lease.network] = (*users.get(lease.network, ()), names[lease.container])
    return {
        view.row.name: HaveNetwork(
            view.row.id,
            view.spec,
            view.row.subnet,
            interfaces.bridge_drift(networks.bridge_link(view.row), present),
            users.get(view.row.id, ()),
        )
        for view in networks.all_networks(state)
    }


def _volumes(state: State, rows: tuple[ContainerRow, ...]) -> dict[str, HaveVolume]:
    names = {row.id: row.name for row in rows}
    users: dict[str, tuple[str, ...]] = {}
    for use in [each for each in records.volume_uses(state.records) if each.container in names]:
        users[use.volume] = (*users.get(use.volume, ()), names[use.container])
    return {
        view.row.name: HaveVolume(
            view.spec, () if os.path.isdir(view.mountpoint) else ("its directory is missing",), users.get(view.row.name, ())
        )
        for view in volumes.all_volumes(state)
    }


def _container(state: State, record: Record, run: containers.Run, present: Links) -> HaveContainer:
    by_user = status.stopped_by(state.root.container(record.id)) == "user"
    return HaveContainer(
        id=record.id,
        spec=record.spec,
        image=record.image_id,
        status=run.status,
        pid=run.pid,
        exit_code=run.exit_code,
        health=run.health,
        stopped_by_user=by_user,
        completed=run.status == "exited" and not by_user,
        drift=_drift(state, record, run, present),
    )


def _drift(state: State, record: Record, run: containers.Run, present: Links) -> tuple[str, ...]:
    found = [f"files changed: {name}" for name in _changed_files(state, record)]
    found += endpoints.claim_drift(state, record.id, record.spec)
    if run.pid and not run.monitored:
        found.append("monitor gone")
    if run.pid:
        for lease in records.endpoints(state.records, container=record.id):
            found += interfaces.attachment_drift(endpoints.attachment_of(state, lease), present)
    return tuple(found)


def _changed_files(state: State, record: Record) -> list[str]:
    """Secrets and configs whose file on the host no longer has the content that was declared."""
    if not record.spec.files:
        return []
    import hashlib

    changed = []
    for index, each in enumerate(record.spec.files):
        try:
            with open(bundle.file_path(state.root.container(record.id), index), "rb") as file:
                digest = f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
        except FileNotFoundError:
            digest = ""
        if digest != each.digest:
            changed.append(each.name)
    return changed


def _remote(want: Declaration, auth: Auth | None) -> dict[str, str]:
    """What the registries have now of the images that are to be pulled always; one that does not answer is left out."""
    wanted = {image.reference: image.platform for image in want.images if image.pull == "always" and image.state == "present"}
    wanted.update((each.spec.image, each.spec.platform) for each in want.containers if _pulls_always(each.spec))
    found = {}
    for reference, platform in wanted.items():
        try:
            found[image_key(reference)] = images.remote_id(reference, platform=platform, auth=auth)
        except Refused:
            raise  # the image that is here is not what was asked for, and the one that was is not wanted
        except BayplanError:
            continue
    return found


def _archives(state: State, want: Declaration) -> dict[str, str]:
    """What the archives hold that images are to be loaded from."""
    return {
        image_key(image.reference): images.archive_id(state, image.archive, image.reference)
        for image in want.images
        if image.archive and image.state == "present"
    }


def _pulls_always(spec: Container) -> bool:
    return bool(spec.image) and spec.pull == "always"


def _firewall_drift(state: State, running: list[Record]) -> tuple[str, ...]:
    """What our tables should hold for what runs, and do not."""
    if not records.networks(state.records):
        return ()
    there = firewall.observe(state.id)
    missing_bridges = [
        f"rules of network {view.row.name}"
        for view in networks.all_networks(state)
        if there is None or networks.firewall_bridge(view.row) not in there.bridges
    ]
    missing_ports = [
        f"port {each.host_port}/{each.protocol} of {record.name}"
        for record in running
        for each in publications.of(state, record.id, records.endpoints(state.records, container=record.id))
        if there is None or firewall.canonical(each) not in there.publications
    ]
    in_the_way = [f"way past {each}" for each in networks.obstacles_to(state)]
    return (*missing_bridges, *missing_ports, *in_the_way)
