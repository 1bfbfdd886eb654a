"""Removing a whole state: its containers, what it has in the kernel, its directory."""

from __future__ import annotations

import os

from bayplan.engine import cgroup, containers, networks, stop, volumes
from bayplan.engine.state import State
from bayplan.errors import Conflict
from bayplan.store.trees import remove_tree


def clear(state: State, *, lose_volumes: bool) -> None:
    """Remove all containers and networks, and close the state, of which files are left: see `remove_files`.

    Volumes take a permission of their own: Conflict where there are any without it, and nothing is done.

    What is removed stays removed if it fails in between; doing it again goes on.
    """
    root = state.root.path
    if volumes.all_volumes(state) and not lose_volumes:
        raise Conflict(f"uninstalling {root}: it has volumes; remove them first, or say --volumes to lose their data")
    for record in containers.all_records(state):
        stop.remove(state, record, force=True, volumes=True)
    for view in networks.all_networks(state):
        networks.remove(state, view.row.name)
    cgroup.remove_all(state)
    state.records.close()


def remove_files(root: str) -> None:
    """Remove the directory of a state that was cleared, volumes included. How deep containers have nested theirs does not matter."""
    if os.path.isdir(root):
        for name in os.listdir(root):
            remove_tree(f"{root}/{name}", scratch=root)
        os.rmdir(root)
