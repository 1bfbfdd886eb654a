"""Verbs about containers that are there: start, stop, restart, pause, unpause, kill, rm, ps, wait, port."""

from __future__ import annotations

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import clipped, each, labels_text, listing, quoted, short, write
from bayplan.errors import Conflict, Invalid, NotFound
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from bayplan.engine.containers import Record, Run
    from bayplan.engine.state import State
    from bayplan.store.records import PortRow

_PS = (
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
)


def start(call: Call) -> int:
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import start as starting

    if call.flag("attach") or call.flag("interactive"):
        from bayplan.cli.streams import foreground

        if len(call.arguments) > 1:
            raise Invalid("start --attach takes one container")
        return foreground(call, state, containers.find(state, call.arguments[0]))
    def one(name: str) -> None:
        record = containers.find(state, name)
        if containers.run_of(state, record.id).status == "paused":
            raise Conflict(f"starting container {record.name}: it is paused; unpause it")
        starting.start(state, record)

    return each(call.arguments, one)


def stop(call: Call) -> int:
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import stop as stopping

    return each(call.arguments, lambda name: stopping.stop(state, containers.find(state, name), timeout=_patience(call)))


def restart(call: Call) -> int:
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import start as starting
    from bayplan.engine import stop as stopping

    def one(name: str) -> None:
        record = containers.find(state, name)
        if containers.run_of(state, record.id).status in containers.RUNNING:
            stopping.stop(state, record, timeout=_patience(call), by="restart")
        starting.start(state, record)

    return each(call.arguments, one)


def pause(call: Call) -> int:
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import pause as pausing

    return each(call.arguments, lambda name: pausing.pause(state, containers.find(state, name)))


def unpause(call: Call) -> int:
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import pause as pausing

    return each(call.arguments, lambda name: pausing.unpause(state, containers.find(state, name)))


def kill(call: Call) -> int:
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import stop as stopping

    signal = call.text("signal", "KILL")
    return each(call.arguments, lambda name: stopping.kill(state, containers.find(state, name), signal))


def remove(call: Call) -> int:
    """As with Docker, --force makes it no error that a container is not there."""
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import stop as stopping

    def one(name: str) -> None:
        try:
            record = containers.find(state, name)
        except NotFound:
            if call.flag("force"):
                return
            raise
        stopping.remove(state, record, force=call.flag("force"), volumes=call.flag("volumes"))

    return each(call.arguments, one)


def wait(call: Call) -> int:
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import stop as stopping

    return each(call.arguments, lambda name: write(str(stopping.wait(state, containers.find(state, name)))), echo=False)


def port(call: Call) -> int:
    """All published ports, or where one of them is published."""
    state = call.state()
    from bayplan.engine import containers
    from bayplan.store import records

    record = containers.find(state, call.arguments[0])
    rows = records.ports(state.records, container=record.id)
    if len(call.arguments) == 1:
        for row in rows:
            write(f"{row.target}/{row.protocol} -> {_host(row)}:{row.port}")
        return 0
    digits, _, protocol = call.arguments[1].partition("/")
    found = [row for row in rows if str(row.target) == digits and row.protocol == (protocol or "tcp")]
    if not found:
        raise NotFound(f"looking up a port of container {record.name}: {call.arguments[1]} is not published")
    for row in found:
        write(f"{_host(row)}:{row.port}")
    return 0


def _patience(call: Call) -> float | None:
    for name in ("time", "timeout"):
        if call.given(name):
            return float(call.number(name))
    return None


def ps(call: Call) -> int:
    """The containers that run; with --all, or with a filter on the status, all of them. The youngest comes first."""
    from bayplan.cli.filters import parse_filters

    filters = parse_filters(call.many("filter"), _FILTERS)
    full = call.flag("no-trunc")
    state = call.state()
    from bayplan.engine import containers
    from bayplan.store import status

    ordered = sorted(containers.all_records(state), key=lambda record: record.created, reverse=True)
    worded = commands(state, ordered)
    published = _published(state)
    boot = status.boot_id()
    runs = {each.id: containers.run_of(state, each.id, boot=boot) for each in ordered}
    documents = [ps_document(each, runs[each.id], worded[each.id], published.get(each.id, []), full=full) for each in ordered]
    count = 1 if call.flag("latest") else call.number("last")
    everything = call.flag("all") or count > 0 or "status" in filters or "exited" in filters
    shown = [each for each in documents if (everything or each["State"] in containers.RUNNING) and _matches(each, filters)]
    return listing(call, map(_public, shown[:count] if count > 0 else shown), _PS)


def _published(state: State) -> dict[str, list[PortRow]]:
    """The ports of each container, by its id."""
    from bayplan.store import records

    found: dict[str, list[PortRow]] = {}
    for row in sorted(records.ports(state.records), key=lambda row: (row.target, row.port)):
        found.setdefault(row.container, []).append(row)
    return found


def commands(state: State, ordered: Iterable[Record]) -> dict[str, str]:
    """What each runs, by id; an image's config is read once, however many run it."""
    from bayplan.engine import images
    from bayplan.model.image import ImageConfig
    from bayplan.plan.bundle import arguments

    configs: dict[str, ImageConfig | None] = {}
    found = {}
    for record in ordered:
        if record.image_id not in configs:
            try:
                configs[record.image_id] = images.config(state, record.image_id)
            except NotFound:  # its blob is gone; a list is no place to fail for that
                configs[record.image_id] = None
        config = configs[record.image_id]
        found[record.id] = " ".join(arguments(record.spec, config) if config else record.spec.command or ())
    return found


def ps_document(record: Record, run: Run, words: str, published: Iterable[PortRow], *, full: bool) -> dict[str, Any]:
    """One container as `ps` and its --format know it; members with an underscore are for filters only."""
    spec = record.spec
    command = quoted(words)
    return {
        "ID": record.id if full else short(record.id),
        "Image": spec.image if full or not spec.image.startswith("sha256:") else short(spec.image),
        "Command": command if full or len(command) <= 22 else f'"{clipped(command[1:-1], 20)}"',
        "CreatedAt": moments.local(record.created),
        "RunningFor": moments.ago(record.created),
        "Status": status_text(run),
        "State": run.status,
        "Ports": ports_text(published) if run.status in ("running", "paused") else "",
        "Names": record.name,
        "Labels": labels_text(spec.labels),
        "Mounts": ",".join(mount.source for mount in spec.mounts if mount.source),
        "Networks": ",".join(endpoint.network for endpoint in spec.networks) or spec.network_mode,
        "LocalVolumes": str(sum(mount.kind == "volume" for mount in spec.mounts)),
        "Health": run.health,
        "Pid": run.pid,
        "ExitCode": run.exit_code,
        "_id": record.id,
        "_image": record.image_id,
        "_labels": dict(spec.labels),
        "_mounts": {word for mount in spec.mounts for word in (mount.source, mount.target) if word},
    }


def _public(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if not key.startswith("_")}


def status_text(run: Run) -> str:
    """Docker's words: "Up 3 minutes (healthy)", "Up 3 minutes (Paused)", "Exited (0) 2 hours ago"."""
    if run.status in ("running", "paused"):
        health = " (Paused)" if run.status == "paused" else {"": "", "starting": " (health: starting)"}.get(run.health, f" ({run.health})")
        return f"Up {moments.ago(run.started_at)[:-4]}{health}"
    if run.status == "restarting":
        return f"Restarting ({run.exit_code})" + (f" {moments.ago(run.finished_at)}" if run.finished_at else "")
    if run.status == "exited":
        return f"Exited ({run.exit_code})" + (f" {moments.ago(run.finished_at)}" if run.finished_at else "")
    return {"created": "Created", "dead": "Dead (its monitor was lost)"}[run.status]


def ports_text(rows: Iterable[PortRow]) -> str:
    return ", ".join(f"{_host(row)}:{row.port}->{row.target}/{row.protocol}" for row in rows)


def _host(row: PortRow) -> str:
    address = row.host_ip or "0.0.0.0"
    return f"[{address}]" if ":" in address else address


_FILTERS = ("name", "id", "label", "status", "network", "volume", "ancestor", "health", "exited", "publish")


def _matches(document: Mapping[str, Any], filters: Mapping[str, tuple[str, ...]]) -> bool:
    """Values of one filter are alternatives, but labels must all be there; filters must all apply."""
    from bayplan.cli.filters import has_labels, matches_name

    tests: Mapping[str, Callable[[str], bool]] = {
        "name": lambda text: matches_name(document["Names"], text),
        "id": document["_id"].startswith,
        "status": lambda text: document["State"] == text,
        "network": lambda text: text in document["Networks"].split(","),
        "volume": document["_mounts"].__contains__,
        "ancestor": lambda text: text in (document["Image"], document["Image"].partition(":")[0]) or text in document["_image"],
        "health": lambda text: document["Health"] == text or (text == "none" and not document["Health"]),
        "exited": lambda text: document["State"] == "exited" and str(document["ExitCode"]) == text,
        "publish": lambda text: f":{text.partition('/')[0]}->" in document["Ports"],
    }
    if not has_labels(document["_labels"], filters.get("label", ())):
        return False
    return all(any(tests[key](value) for value in values) for key, values in filters.items() if key != "label")
