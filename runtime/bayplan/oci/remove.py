"""The end of a container: its cgroup, its record, and its poststop hooks."""

from __future__ import annotations

import os
import sys

from bayplan.errors import BayplanError
from bayplan.model import jsontext
from bayplan.model.runtime import Config
from bayplan.oci import cgroup, record
from bayplan.oci.record import Record


def remove(root: str, found: Record, config: Config | None) -> None:
    """Kill what is left of it and forget it; what is gone already is fine. Hooks that fail are warned of, as the specification demands."""
    cgroup.remove(found)
    _forget(record.directory(root, found.id))
    if config and config.hooks and config.hooks.poststop:
        _run(found, config)


def _forget(directory: str) -> None:
    """The files of a record; no directory is in there."""
    try:
        for entry in os.scandir(directory):
            os.unlink(entry.path)
        os.rmdir(directory)
    except FileNotFoundError:  # another delete does the same
        return


def _run(found: Record, config: Config) -> None:
    from bayplan.kernel import hooks

    assert config.hooks
    told = jsontext.dumps(record.state(found._replace(pid=0), "stopped", config.annotations)).encode()
    for hook in config.hooks.poststop:
        try:
            hooks.run((hook,), told, moment="poststop", directory=found.bundle)
        except BayplanError as error:
            sys.stderr.write(f"bayplan-oci: warning: {error}\n")
