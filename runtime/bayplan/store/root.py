"""Where everything lies under the state root. Every path of the state is made here, and nobody joins it again."""

from __future__ import annotations

import os

from bayplan.errors import Denied
from bayplan.model.digest import Digest
from bayplan.model.value import NamedTuple

_DIRECTORIES = (
    "blobs",
    "blobs/sha256",
    "blobs/sha512",
    "layers",
    "chains",
    "l",
    "tmp",
    "containers",
    "networks",
    "volumes",
    "runtime",
    "bin",
    "filters",
)


class StateRoot(NamedTuple):
    """A state directory. Making the value, and asking it for paths, touches nothing; `create` makes the directories."""

    path: str

    @property
    def database(self) -> str:
        return f"{self.path}/db.sqlite"

    @property
    def staging(self) -> str:
        """What is being made lies here first, in the same file system as its final place (see store/staging.py)."""
        return f"{self.path}/tmp"

    @property
    def links(self) -> str:
        """Short names of layers for overlay's option string; relative to `path` they are `l/NAME`."""
        return f"{self.path}/l"

    @property
    def driver(self) -> str:
        """The file that says how root file systems are made here (store/drivers.py)."""
        return f"{self.path}/driver"

    @property
    def blobs(self) -> str:
        return f"{self.path}/blobs"

    @property
    def layers(self) -> str:
        return f"{self.path}/layers"

    @property
    def chains(self) -> str:
        return f"{self.path}/chains"

    @property
    def subvolumes(self) -> str:
        return f"{self.path}/btrfs"

    @property
    def containers(self) -> str:
        return f"{self.path}/containers"

    @property
    def networks(self) -> str:
        return f"{self.path}/networks"

    @property
    def volumes(self) -> str:
        return f"{self.path}/volumes"

    @property
    def runtimes(self) -> str:
        return f"{self.path}/runtime"

    @property
    def launcher(self) -> str:
        return f"{self.path}/bin/bayplan"

    def blob(self, digest: Digest) -> str:
        return f"{self.path}/blobs/{digest.algorithm}/{digest.hex}"

    def layer(self, diff_id: Digest) -> str:
        """A layer's own directory: the tree is in `layer_tree`, what we know about it beside it."""
        return f"{self.path}/layers/{diff_id.hex}"

    def layer_tree(self, diff_id: Digest) -> str:
        return f"{self.path}/layers/{diff_id.hex}/diff"

    def chain(self, chain_id: Digest) -> str:
        """Attributes of directories that a layer only implies, as its parents give them (store/layers.py)."""
        return f"{self.path}/chains/{chain_id.hex}"

    def subvolume(self, chain_id: Digest) -> str:
        """A stack of layers as one tree (store/drivers_btrfs.py)."""
        return f"{self.path}/btrfs/{chain_id.hex}"

    def container(self, container_id: str) -> str:
        return f"{self.path}/containers/{_component(container_id)}"

    def network(self, network_id: str) -> str:
        return f"{self.path}/networks/{_component(network_id)}"

    def network_names(self, network_id: str) -> str:
        return f"{self.network(network_id)}/names"

    def volume(self, name: str) -> str:
        """A volume's directory; its content is in `volume_data`."""
        return f"{self.path}/volumes/{_component(name)}"

    def volume_data(self, name: str) -> str:
        return f"{self.volume(name)}/_data"

    def runtime(self, digest: str) -> str:
        """The directory of one unpacked archive of the runtime; `digest` is its hexadecimal digits."""
        return f"{self.path}/runtime/{_component(digest)}"

    def filter(self, key: str) -> str:
        """One compiled seccomp filter, kept (engine/filters.py)."""
        return f"{self.path}/filters/{_component(key)}"

    def build_cache(self, key: str) -> str:
        """What one RUN --mount=type=cache keeps: a directory `data`, and the lock of whoever uses it."""
        return f"{self.path}/cache/{_component(key)}"

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def create(self) -> None:
        """Make the root and its first level, mode 0700 each, whatever the umask; what is there already is left alone.

        Only root may look inside: layers hold set-user-ID files of images (CVE-2021-41091, CVE-2021-41103).
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        owner = os.stat(self.path).st_uid
        if owner != os.geteuid():
            raise Denied(f"making the state in {self.path}: the directory belongs to user {owner}, who could replace what runs from it")
        os.chmod(self.path, 0o700)
        for name in _DIRECTORIES:
            try:
                os.mkdir(f"{self.path}/{name}", 0o700)
            except FileExistsError:
                continue


def _component(name: str) -> str:
    """Names were checked when they were parsed; one that still could leave its directory is a bug."""
    assert name and name not in (".", "..") and "/" not in name and "\0" not in name, f"{name!r} is not one component"
    return name
