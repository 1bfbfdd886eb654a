"""Containers whose first process is systemd: what it wants to find (https://systemd.io/CONTAINER_INTERFACE), as Podman gives it. Pure."""

from __future__ import annotations

from bayplan.model.container import Container
from bayplan.model.image import ImageConfig
from bayplan.model.runtime import Config, Mount
from bayplan.plan.bundle import arguments

PROGRAMS = ("/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd")
HIERARCHY = "name=systemd"  # that of version 1, which has no controllers
_PLACES = (("/run", "0755"), ("/run/lock", "1777"), ("/tmp", "1777"), ("/var/log/journal", "0755"))
_CGROUP = "/sys/fs/cgroup"


def wanted(spec: Container, image: ImageConfig) -> bool:
    """Whether it is to be prepared for systemd: as declared, and by default where its command is one of `PROGRAMS`."""
    if spec.systemd != "auto" or spec.runtime:  # another runtime has no cgroups for it
        return spec.systemd == "always"
    return arguments(spec, image)[0] in PROGRAMS


def stop_signal(spec: Container, image: ImageConfig) -> str:
    """The declared one, or the image's; SIGRTMIN+3 is systemd's word for a clean halt, and SIGTERM would have it start itself anew."""
    return spec.stop_signal or image.stop_signal or ("SIGRTMIN+3" if wanted(spec, image) else "SIGTERM")


def prepare(config: Config, container_id: str, *, hierarchy: bool) -> Config:
    """`config` with an empty /run, /run/lock, /tmp and journal in memory where nothing else is mounted, the environment that says that
    this is a container, and a cgroup tree that may be written to: its own of version 2, or of the hierarchy that the host has on
    version 1 if it has one (`hierarchy`)."""
    declared = {mount.destination for mount in config.mounts}
    places = tuple(_place(path, mode) for path, mode in _PLACES if path not in declared)
    targets = tuple(mount.destination + "/" for mount in places)
    inner = tuple(mount for mount in config.mounts if mount.destination.startswith(targets))
    outer = tuple(mount for mount in config.mounts if mount not in inner)
    names = {entry.partition("=")[0] for entry in config.process.env}
    told = {"container": "bayplan", "container_uuid": container_id[:32]}
    env = (*config.process.env, *(f"{name}={value}" for name, value in told.items() if name not in names))
    cgroups = (_cgroup(outer),) if hierarchy else ()
    return config._replace(mounts=(*outer, *places, *inner, *cgroups), process=config.process._replace(env=env))


def _place(path: str, mode: str) -> Mount:
    return Mount(path, "tmpfs", "tmpfs", ("rw", "nosuid", "nodev", f"mode={mode}", "tmpcopyup"))


def _cgroup(mounts: tuple[Mount, ...]) -> Mount:
    """On version 1 the hierarchy's own directory; on version 2 (kernel/cgroupmounts.py) it stands for the whole tree."""
    assert any(mount.destination == _CGROUP for mount in mounts), "every container has a cgroup file system"
    return Mount(f"{_CGROUP}/systemd", "cgroup", "cgroup", ("rw", "nosuid", "noexec", "nodev", "none", HIERARCHY))
