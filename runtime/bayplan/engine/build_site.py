"""Where a stage is built: a process of its own with its own mounts, one cgroup and one network for all of its steps.

What lies on the disk is in one claimed directory of the staging area (store/staging.py), in the file system of the layers, so that what a
step has written becomes a layer by a rename. A build that is killed leaves a directory that the next sweep takes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os

from bayplan.engine import clock
from bayplan.engine.state import State
from bayplan.errors import Conflict, Unavailable
from bayplan.kernel import linux
from bayplan.model.digest import parse_digest
from bayplan.model.late import late
from bayplan.model.network import Network
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan import addresses
from bayplan.store import layers, records, staging

if TYPE_CHECKING:
    from bayplan.engine import cgroup, networks
    from bayplan.kernel import links, rootfs
    from bayplan.kernel.cgroups import Cgroup
    from bayplan.kernel.rootfs import Overlay
    from bayplan.model.runtime import Resources
    from bayplan.store.records import NetworkRow
else:  # a build that is cached as a whole makes nothing
    cgroup = late("bayplan.engine.cgroup")
    networks = late("bayplan.engine.networks")
    links = late("bayplan.kernel.links")
    rootfs = late("bayplan.kernel.rootfs")

NETWORK = "bayplan-build"


class Site:
    """One stage's. `directory` is claimed by the caller, `id` names its cgroup; `epoch` is SOURCE_DATE_EPOCH or None."""

    def __init__(self, state: State, directory: str, site_id: str, *, epoch: int | None) -> None:
        self.state, self.directory, self.id, self.epoch = state, directory, site_id, epoch
        self._cgroup: Cgroup | None = None
        self._network = -1
        self._address, self._address_lock = "", -1
        self._steps = 0
        self._mounted: dict[tuple[str, ...], str] = {}
        self._locks: dict[str, int] = {}
        self._secrets = 0

    def enter(self) -> None:
        """To be called once, by the process whose site it is. Nothing that it mounts is seen elsewhere, or outlives it."""
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)

    @property
    def created(self) -> str:
        """When what is made here says that it was made."""
        return clock.now() if self.epoch is None else clock.rfc3339(self.epoch * 1_000_000_000)

    def step_directory(self) -> str:
        """An empty directory for one step."""
        self._steps += 1
        made = f"{self.directory}/{self._steps}"
        os.mkdir(made, 0o700)
        return made

    def overlay(self, diff_ids: tuple[str, ...], directory: str, *, above: tuple[str, ...] = ()) -> Overlay:
        """The root file system of these layers, `above` on top, with what is written to it in `directory`/upper."""
        for name in ("upper", "work"):
            os.mkdir(f"{directory}/{name}", 0o755)
            os.chmod(f"{directory}/{name}", 0o755)
        lower = layers.lowerdirs(self.state.root, tuple(map(parse_digest, diff_ids)))
        tops = tuple(os.path.relpath(each, self.state.root.path) for each in above)
        if not (*tops, *lower):  # FROM scratch: an overlay has at least one
            os.mkdir(f"{directory}/nothing", 0o755)
            tops = (os.path.relpath(f"{directory}/nothing", self.state.root.path),)
        return rootfs.Overlay(self.state.root.path, (*tops, *lower), f"{directory}/upper", f"{directory}/work")

    def trees(self, diff_ids: tuple[str, ...]) -> tuple[str, ...]:
        """The layers' directories, topmost first, for store/merged.py."""
        lower = layers.lowerdirs(self.state.root, tuple(map(parse_digest, diff_ids)))
        return tuple(f"{self.state.root.path}/{name}/." for name in lower)

    def source(self, diff_ids: tuple[str, ...]) -> str:
        """Where the root file system of another stage, or an image, can be read; what is written there is lost."""
        if diff_ids not in self._mounted:
            directory = self.step_directory()
            os.close(rootfs.mount_rootfs(self.overlay(diff_ids, directory)))
            self._mounted[diff_ids] = f"{directory}/upper"
        return self._mounted[diff_ids]

    def scratch(self, directory: str) -> str:
        """Where the content of a directory is, and what is written there is lost."""
        made = self.step_directory()
        for name in ("upper", "work"):
            os.mkdir(f"{made}/{name}", 0o755)
        os.close(rootfs.mount_rootfs(rootfs.Overlay(self.state.root.path, (directory,), f"{made}/upper", f"{made}/work")))
        return f"{made}/upper"

    def cache_directory(self, name: str, *, sharing: str) -> str:
        """The directory of RUN --mount=type=cache, held until the end of the step: `locked` waits for others, `private` goes beside."""
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        while True:
            directory = self.state.root.build_cache(key)
            os.makedirs(f"{directory}/data", mode=0o755, exist_ok=True)
            if key in self._locks:
                return f"{directory}/data"
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            kind = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
            try:
                fcntl.flock(lock, kind | (fcntl.LOCK_NB if sharing == "private" else 0))
            except BlockingIOError:
                os.close(lock)
                key = hashlib.sha256(f"{key} beside".encode()).hexdigest()
                continue
            self._locks[key] = lock
            return f"{directory}/data"

    def secret_file(self, content: bytes, *, mode: int, uid: int, gid: int) -> str:
        """A file that only lies in memory, unseen by other processes."""
        directory = f"{self.directory}/secrets"
        if not self._secrets:
            os.mkdir(directory, 0o700)
            linux.mount("tmpfs", directory, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "mode=700")
        self._secrets += 1
        path = f"{directory}/{self._secrets}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def end_step(self) -> None:
        """Let others have the caches that the step had."""
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()

    def cgroup(self, resources: Resources) -> Cgroup:
        """The same for all steps: making one takes longer than most steps."""
        if self._cgroup is None:
            os.close(os.open(mark(self.directory), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._cgroup = cgroup.create(self.state, self.id, resources)
        return self._cgroup

    def network(self) -> int:
        """A descriptor of a network namespace that is on a bridge of ours, the same for all steps."""
        if self._network < 0:
            own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                linux.unshare(linux.CLONE_NEWNET)
                self._network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                linux.setns(own, linux.CLONE_NEWNET)
                os.close(own)
            self._attach()
        return self._network

    def _attach(self) -> None:
        row = _network(self.state)
        networks.make_sure(self.state, row)
        ipv4, self._address, self._address_lock = _free_address(self.state, row)
        attachment = links.Attachment(
            bridge=row.bridge, host_name=addresses.link_name(self.state.id, ipv4), container_name="eth0", mac=addresses.mac_of(ipv4),
            ipv4=f"{ipv4}/{row.subnet.partition('/')[2]}", ipv6="", gateway=row.gateway, gateway6="", mtu=row.mtu,
        )  # fmt: skip
        links.attach([attachment], netns=self._network)

    def close(self) -> None:
        """Its processes have ended. The link goes with the namespace."""
        if self._network >= 0:
            os.close(self._network)
        if self._address:
            os.rmdir(f"{self.state.root.staging}/{self._address}")  # while it is ours
            os.close(self._address_lock)


def _network(state: State) -> NetworkRow:
    """A network of its own: what a build runs is as little trusted as it is unknown to containers."""
    row = records.network_named(state.records, NETWORK)
    if row is None:
        try:
            return networks.create(state, Network(NETWORK))
        except Conflict:
            return networks.find(state, NETWORK)
    return row


def _free_address(state: State, row: NetworkRow) -> tuple[str, str, int]:
    """An address that no other build has now, and the name and the lock that say so; a container may be on that network, too."""
    taken = [each.ipv4 for each in records.endpoints(state.records, network=row.id)]
    while True:
        ipv4 = addresses.lease(row.subnet, taken, gateway=row.gateway)
        name = f"address-{ipv4}"
        lock = staging.try_claim(state.root, name)
        if lock >= 0:
            return ipv4, name, lock
        taken.append(ipv4)


def mark(directory: str) -> str:
    """A file that says that there is, or was about to be, a cgroup to remove when the process has ended."""
    return f"{directory}/cgroup"


def verify_driver(state: State) -> None:
    if layers.driver(state.root) != "overlay":
        raise Unavailable("building: it takes overlayfs, and the state lies on a file system that takes none; move it with --root")
