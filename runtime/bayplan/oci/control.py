"""state, kill, delete, list, ps, pause and resume."""

from __future__ import annotations

import sys
import time

from bayplan.cli.output import json_text, printable
from bayplan.errors import BayplanError, Conflict, Invalid, NotFound, Unavailable
from bayplan.kernel import cgroups, freezer, pids
from bayplan.model.runtime import OCI_VERSION, Config
from bayplan.model.signals import KILL, parse_signal
from bayplan.model.value import TYPE_CHECKING
from bayplan.oci import bundle, cgroup, record, remove
from bayplan.oci.commands import Invocation
from bayplan.oci.record import Record

if TYPE_CHECKING:
    from bayplan.kernel.cgroups import Cgroup

_KILLED_SECONDS = 10.0


def state(call: Invocation) -> None:
    """The specification's state object, with what runc adds to it."""
    found = record.read(call.root, call.arguments[0])
    config = bundle.load_kept(call.root, found)
    print(json_text({**record.state(found, status(call.root, found), config.annotations), **_more(found)}, indent=2))


def _more(found: Record) -> dict[str, str]:
    return {"rootfs": found.rootfs, "created": found.created, "owner": "root"}


def status(root: str, found: Record) -> str:
    """creating, created, running, paused or stopped."""
    said = record.status(root, found)
    own = cgroup.find(found) if said in ("running", "created") else None
    return "paused" if own and freezer.is_frozen(own) else said


def kill(call: Invocation) -> None:
    """A signal to the first process, or with --all to all. Conflict where it does not run."""
    found = record.read(call.root, call.arguments[0])
    number = _signal(call.arguments[1] if len(call.arguments) > 1 else "TERM")
    if call.flag("all") or (number == KILL and found.shares_pids and cgroups.pids(_own(found))):
        _kill_all(found, number)
        return
    if record.status(call.root, found) not in ("created", "running"):
        raise Conflict(f"sending signal {number} to {found.id}: container not running")
    try:
        pids.kill(found.handle, number)
    except NotFound as error:
        raise Conflict(f"sending signal {number} to {found.id}: container not running") from error
    own = cgroup.find(found)
    if number == KILL and own and freezer.is_frozen(own):  # on version 1 it dies only once it is thawed
        freezer.thaw(own)


def _signal(text: str) -> int:
    """0 is none, and asks whether the process is there (kill(2))."""
    return 0 if text == "0" else parse_signal(text)


def _kill_all(found: Record, number: int) -> None:
    own = cgroup.find(found)
    if own and number == KILL:
        cgroups.kill(own)
        return
    for pid in cgroups.pids(own) if own else ():
        try:
            pids.kill(pids.Handle(pid, pids.read_start_time(pid)), number)
        except NotFound:
            continue


def delete(call: Invocation) -> None:
    """Forget a container that has stopped, or was never started; with --force one that runs, too, and none is no error."""
    container_id = call.arguments[0]
    try:
        found = record.read(call.root, container_id)
    except NotFound:
        if call.flag("force"):
            return
        raise
    except Unavailable:
        if not call.flag("force"):
            raise
        found = Record(container_id, "", "", "", "")
    said = record.status(call.root, found)
    if said == "running" and not call.flag("force"):
        raise Conflict(f"deleting container {container_id}: it is {said}, not stopped; kill it first, or give --force")
    _end(found)
    remove.remove(call.root, found, _config(call.root, found))


def _config(root: str, found: Record) -> Config | None:
    try:
        return bundle.load_kept(root, found)
    except BayplanError:  # cut off while it was created: it had no hooks to be undone
        return None


def _end(found: Record) -> None:
    """Kill the first process, and wait until it has ended: its parent, whoever that is, may still have to reap it."""
    own = cgroup.find(found) if found.cgroup else None
    if own:
        cgroups.kill(own)
    if not found.pid:  # it was cut off before there was a process
        return
    try:
        pids.kill(found.handle, KILL)
    except NotFound:
        return
    deadline = time.monotonic() + _KILLED_SECONDS
    while pids.is_alive(found.handle):
        if time.monotonic() > deadline:
            raise Unavailable(f"deleting container {found.id}: its process {found.pid} does not die; it may wait for a device")
        time.sleep(0.005)


def show(call: Invocation) -> None:
    """All containers; one whose record cannot be read is left out, with a warning."""
    rows = []
    for name in record.ids(call.root):
        try:
            found = record.read(call.root, name)
            said = status(call.root, found)
        except (NotFound, Unavailable) as error:
            sys.stderr.write(f"bayplan-oci: warning: {error}\n")
            continue
        pid = 0 if said == "stopped" else found.pid
        rows.append({"ociVersion": OCI_VERSION, "id": found.id, "pid": pid, "status": said, "bundle": found.bundle, **_more(found)})
    if call.flag("quiet"):
        print("".join(f"{row['id']}\n" for row in rows), end="")
    elif _form(call) == "json":
        print(json_text(rows))
    else:
        titles = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
        _table([titles, *(tuple(str(row[title.lower()]) for title in titles) for row in rows)])


def _table(rows: list[tuple[str, ...]]) -> None:
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _form(call: Invocation) -> str:
    form = call.text("format", "table")
    if form not in ("table", "json"):
        raise Invalid(f"--format {form}: it is table or json")
    return form


def processes(call: Invocation) -> None:
    """The processes of a container: their numbers as JSON, or the lines of the host's ps(1) with the options given."""
    found = record.read(call.root, call.arguments[0])
    inside = cgroups.pids(_own(found))
    if _form(call) == "json":
        print(json_text(list(inside)))
        return
    words = call.arguments[1:] or ("-ef",)
    print("\n".join(_ps(words, frozenset(inside))))


def _ps(words: tuple[str, ...], inside: frozenset[int]) -> list[str]:
    import subprocess

    try:
        done = subprocess.run(["ps", *words], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError as error:
        raise Unavailable("showing processes: the host has no ps command; --format json needs none") from error
    if done.returncode:
        raise Invalid(f"showing processes: ps {' '.join(words)}: {done.stderr.strip()}")
    title, *lines = done.stdout.splitlines()
    if "PID" not in title.split():
        raise Invalid(f"showing processes: ps {' '.join(words)} has no column PID")
    column = title.split().index("PID")
    return [title, *(line for line in lines if int(line.split()[column]) in inside)]


def _own(found: Record) -> Cgroup:
    own = cgroup.find(found)
    if own is None:
        raise Conflict(f"looking at container {found.id}: it has no cgroup; container not running")
    return own


def pause(call: Invocation) -> None:
    found = record.read(call.root, call.arguments[0])
    said = status(call.root, found)
    if said not in ("running", "created"):
        raise Conflict(f"pausing container {found.id}: it is {said}, not running")
    freezer.freeze(_own(found))


def resume(call: Invocation) -> None:
    found = record.read(call.root, call.arguments[0])
    said = status(call.root, found)
    if said != "paused":
        raise Conflict(f"resuming container {found.id}: it is {said}, not paused")
    freezer.thaw(_own(found))
