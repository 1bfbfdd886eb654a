"""`system df`: how much room everything takes, in Docker's columns."""

from __future__ import annotations

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import json_text, labels_text, listing, table, write
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from bayplan.cli.output import Columns
    from bayplan.engine.state import State
    from bayplan.engine.usage import ContainerUsage, ImageUsage, Share, StepUsage, Usage, VolumeUsage
    from bayplan.store.measure import Size

_SUMMARY: Columns = (("TYPE", "Type"), ("TOTAL", "TotalCount"), ("ACTIVE", "Active"), ("SIZE", "Size"), ("RECLAIMABLE", "Reclaimable"))
_IMAGES: Columns = (
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("SHARED SIZE", "SharedSize"),
    ("UNIQUE SIZE", "UniqueSize"),
    ("CONTAINERS", "Containers"),
)
_CONTAINERS: Columns = (
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("LOCAL VOLUMES", "LocalVolumes"),
    ("SIZE", "Size"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("NAMES", "Names"),
)
_VOLUMES: Columns = (("VOLUME NAME", "Name"), ("LINKS", "Links"), ("SIZE", "Size"))
_STEPS: Columns = (
    ("CACHE ID", "ID"),
    ("CACHE TYPE", "CacheType"),
    ("SIZE", "Size"),
    ("CREATED", "CreatedSince"),
    ("LAST USED", "LastUsedSince"),
    ("SHARED", "Shared"),
)
_TABLES = (
    ("Images", "Images space usage:", _IMAGES),
    ("Containers", "Containers space usage:", _CONTAINERS),
    ("Volumes", "Local Volumes space usage:", _VOLUMES),
    ("BuildCache", "Build cache usage:", _STEPS),
)


def df(call: Call) -> int:
    state = call.state()
    from bayplan.engine import usage

    found = usage.observe(state)
    return _everything(call, state, found) if call.flag("verbose") else listing(call, _summary(found), _SUMMARY, identity="Type")


def _summary(found: Usage) -> list[dict[str, str]]:
    return [
        _kind("Images", found.of_images()),
        _kind("Containers", found.of_containers()),
        _kind("Local Volumes", found.of_volumes()),
        _kind("Build Cache", found.of_build_cache()),
    ]


def _kind(name: str, share: Share) -> dict[str, str]:
    percent = f" ({share.reclaimable.bytes * 100 // share.size.bytes}%)" if share.size.bytes else ""
    return {
        "Type": name,
        "TotalCount": str(share.total),
        "Active": str(share.active),
        "Size": size_text(share.size),
        "Reclaimable": size_text(share.reclaimable) + percent,
    }


def size_text(size: Size) -> str:
    """More than that, where there was no time to look at all of it."""
    return moments.size(size.bytes) if size.whole else f">{moments.size(size.bytes)}"


def _everything(call: Call, state: State, found: Usage) -> int:
    """Each thing by itself: a table for each kind, or one document of all."""
    full = call.flag("no-trunc")
    documents: dict[str, list[dict[str, Any]]] = {
        "Images": [document for image in found.images for document in _image(image, full=full)],
        "Containers": _containers(state, found.containers, full=full),
        "Volumes": [_volume(volume) for volume in found.volumes],
        "BuildCache": [_step(step, full=full) for step in found.steps],
    }
    shown = call.text("format")
    if shown == "json":
        write(json_text(documents))
    elif shown and shown != "table":
        from bayplan.cli.output import escaped_at_terminal
        from bayplan.cli.template import parse, render

        write(escaped_at_terminal(render(parse(shown), documents)))
    else:
        _tables(documents)
    return 0


def _tables(documents: dict[str, list[dict[str, Any]]]) -> None:
    for kind, title, columns in _TABLES:
        write(f"{title}\n")
        table([heading for heading, _ in columns], ([str(each[member]) for _, member in columns] for each in documents[kind]))
        if kind != _TABLES[-1][0]:
            write("")


def _image(each: ImageUsage, *, full: bool) -> list[dict[str, Any]]:
    from bayplan.cli.images import documents

    sizes = {"Size": each.size, "SharedSize": each.shared, "UniqueSize": each.size - each.shared}
    texts = {name: moments.size(size) for name, size in sizes.items()}
    return [{**document, **texts, "Containers": str(each.containers)} for document in documents(each.image, full=full)]


def _containers(state: State, found: tuple[ContainerUsage, ...], *, full: bool) -> list[dict[str, Any]]:
    from bayplan.cli import containers as listed
    from bayplan.engine import containers

    commands = listed.commands(state, [each.record for each in found])
    documents = []
    for each in found:
        run = containers.run_of(state, each.record.id)
        document = listed.ps_document(each.record, run, commands[each.record.id], (), full=full)
        public = {key: value for key, value in document.items() if not key.startswith("_")}
        documents.append({**public, "Size": size_text(each.size)})
    return documents


def _volume(each: VolumeUsage) -> dict[str, Any]:
    return {
        "Name": each.view.row.name,
        "Driver": each.view.spec.driver,
        "Mountpoint": each.view.mountpoint,
        "Labels": labels_text(each.view.spec.labels),
        "Links": str(each.containers),
        "Size": size_text(each.size),
    }


def _step(each: StepUsage, *, full: bool) -> dict[str, Any]:
    return {
        "ID": each.step.key if full else each.step.key.rpartition(":")[2][:12],
        "CacheType": "regular",
        "Description": each.step.description,
        "Size": moments.size(each.size),
        "CreatedSince": moments.ago(each.step.created),
        "LastUsedSince": moments.ago(each.step.used),
        "Shared": "true" if each.shared else "false",
    }
