"""Hooks of a container that a device's CDI file has given it (runtime-spec config.md, "POSIX-platform Hooks"; kernel/hooks.py runs them).

Those after the end are written beside the container when it is made: whoever clears up after it runs them, once.
"""

from __future__ import annotations

import os

from bayplan.errors import BayplanError
from bayplan.kernel import hooks
from bayplan.kernel.rootfs import Overlay, Plain
from bayplan.kernel.sandbox import Hooking
from bayplan.model import jsontext
from bayplan.model.runtime import OCI_VERSION, Config, Hook
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_AFTERWARDS = "poststop.json"


def prepare(container_id: str, directory: str, config: Config, rootfs: Overlay | Plain) -> tuple[Config, Hooking]:
    """`config` with the root file system where hooks find it, in the container's mount namespace, and what runs the first of them.

    Raises nothing but the disk's errors; what is to be run after the end is noted in `directory`.
    """
    assert config.hooks, "somebody has given it hooks"
    wanted = config.hooks
    place = rootfs.upper if isinstance(rootfs, Overlay) else rootfs.path
    if wanted.poststop:
        told = {"state": _state(container_id, directory, config, "stopped", 0), "hooks": [hook._asdict() for hook in wanted.poststop]}
        _write(f"{directory}/{_AFTERWARDS}", jsontext.dumps(told))

    def built(pid: int) -> None:
        told = _told(container_id, directory, config, "creating", pid)
        hooks.run(wanted.prestart, told, moment="prestart")
        hooks.run(wanted.create_runtime, told, moment="createRuntime")

    hooking = Hooking(lambda status: _told(container_id, directory, config, status, os.getpid()), built)
    return config._replace(root=config.root._replace(path=place)), hooking


def _state(container_id: str, directory: str, config: Config, status: str, pid: int) -> dict[str, Any]:
    """The specification's state object (runtime.md, "State")."""
    said = {"ociVersion": OCI_VERSION, "id": container_id, "status": status, "pid": pid, "bundle": directory}
    return {**said, "annotations": dict(config.annotations)}


def _told(container_id: str, directory: str, config: Config, status: str, pid: int) -> bytes:
    return jsontext.dumps(_state(container_id, directory, config, status, pid)).encode()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def run_started(container_id: str, directory: str, config: Config, pid: int) -> None:
    """Those after the start, of which the first that fails is an error that ends the container."""
    assert config.hooks, "somebody has given it hooks"
    hooks.run(config.hooks.poststart, _told(container_id, directory, config, "running", pid), moment="poststart")


def run_stopped(directory: str) -> None:
    """Those after the end, if there are any that have not been run. What fails is not asked for again: the container is gone."""
    path = f"{directory}/{_AFTERWARDS}"
    with open(path, encoding="utf-8") as file:
        noted = jsontext.loads(file.read())
    os.unlink(path)
    told = jsontext.dumps(noted["state"]).encode()
    for hook in noted["hooks"]:
        try:
            hooks.run((Hook(hook["path"], tuple(hook["args"]), tuple(hook["env"]), hook["timeout"]),), told, moment="poststop")
        except BayplanError:
            continue
