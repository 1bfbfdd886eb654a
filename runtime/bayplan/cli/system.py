"""Verbs about the state and the host, and those that monitors and the boot unit call."""

from __future__ import annotations

import os
import sys

from bayplan.cli.call import Call
from bayplan.cli.output import json_text, write
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def version_text() -> str:
    from bayplan.cli.version import VERSION

    return VERSION


def version(call: Call) -> int:
    document = {
        "Version": version_text(),
        "Python": sys.version.split()[0],
        "Interpreter": os.path.realpath(sys.executable),
        "KernelVersion": os.uname().release,
        "Arch": os.uname().machine,
    }
    return _shown(call, document)


def info(call: Call) -> int:
    """Counts and places; an absent state is an empty one."""
    state = call.state()
    from bayplan.engine import containers
    from bayplan.store import drivers, records

    statuses = [containers.run_of(state, row.id).status for row in records.containers(state.records)]
    document = {
        "Containers": len(statuses),
        "ContainersRunning": statuses.count("running"),
        "ContainersPaused": statuses.count("paused"),
        "ContainersStopped": len(statuses) - statuses.count("running") - statuses.count("paused"),
        "Images": len(records.images(state.records)),
        "Networks": len(records.networks(state.records)),
        "Volumes": len(records.volumes(state.records)),
        "Root": call.root,
        "ID": state.id,
        "Driver": drivers.recorded(state.root) or "not chosen yet",
        "CgroupVersion": "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1",
        "KernelVersion": os.uname().release,
        "OperatingSystem": _operating_system(),
        "Architecture": os.uname().machine,
        "NCPU": os.cpu_count() or 0,
        "Name": os.uname().nodename,
        "Version": version_text(),
    }
    return _shown(call, document)


def _operating_system() -> str:
    try:
        with open("/etc/os-release") as file:
            names = [line[12:].strip().strip('"') for line in file if line.startswith("PRETTY_NAME=")]
    except OSError:
        names = []
    return names[0] if names else "Linux"


def _shown(call: Call, document: dict[str, Any]) -> int:
    shown = call.text("format")
    if shown == "json":
        write(json_text(document))
    elif shown:
        from bayplan.cli.template import parse, render

        write(render(parse(shown), document))
    else:
        for key, value in document.items():
            write(f"{key}: {value}")
    return 0


def boot(call: Call) -> int:
    state = call.state()
    from bayplan.engine import boot as engine

    return 1 if engine.boot(state) else 0


def shutdown(call: Call) -> int:
    state = call.state()
    from bayplan.engine import boot as engine

    engine.shutdown(state)
    return 0


def exited(call: Call) -> int:
    state = call.state()
    from bayplan.engine import boot as engine

    engine.exited(state, call.arguments[0])
    return 0


def restart(call: Call) -> int:
    """The monitor adds how often it has restarted the container, and how many of these in a row were short."""
    counts = [int(text) if text.isdigit() else 0 for text in (*call.arguments[1:], "0", "0")]
    state = call.state()
    from bayplan.engine import boot as engine

    engine.restart_after(state, call.arguments[0], restarts=counts[0], streak=counts[1])
    return 0


def health(call: Call) -> int:
    state = call.state()
    from bayplan.engine import boot as engine

    return engine.health(state, call.arguments[0])


def uninstall(call: Call) -> int:
    """Remove everything of this state, running containers included, and the runtime. Volumes take an option of their own."""
    if not call.flag("force"):
        raise Invalid(f"uninstall: it removes {call.root} with all containers, images and networks of it; say --force")
    state = call.state()
    from bayplan import install
    from bayplan.engine import uninstall as engine

    engine.clear(state, lose_volumes=call.flag("volumes"))
    install.remove(call.root)
    engine.remove_files(call.root)
    return 0
