"""A host as it was observed: records beside what the world shows. Built by engine/, compared by plan/."""

from __future__ import annotations

from bayplan.model.container import Container
from bayplan.model.network import Network
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.model.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping


class HaveImage(NamedTuple):
    """id is the config's digest; digest the manifest's, "" for what was imported; names all references that lead to it.

    names are canonical references ("docker.io/library/busybox:1"); users the names of the containers made from it.
    """

    id: str
    digest: str = ""
    names: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


class HaveNetwork(NamedTuple):
    """spec is the declaration that was applied; drift names what of it is missing in the kernel."""

    id: str
    spec: Network
    subnet: str = ""
    drift: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


class HaveVolume(NamedTuple):
    spec: Volume
    drift: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


class HaveContainer(NamedTuple):
    """status: created, running, restarting, paused, exited, dead. drift: what the record says and the world does not show.

    drift of a running container: "monitor gone", "address missing", "files changed: …"; only a restart or replacement mends
    what is in `drift`. `completed` is: it ended by itself, with exit_code, and its restart policy leaves it so.
    """

    id: str
    spec: Container
    image: str
    status: str
    pid: int = 0
    exit_code: int = 0
    health: str = ""
    stopped_by_user: bool = False
    completed: bool = False
    drift: tuple[str, ...] = ()


class Host(NamedTuple):
    """images is keyed by canonical reference and by id; remote holds, for images whose pull is `always`, the id that
    the registry has now (absent: it could not be asked). firewall_drift names what is missing in our tables,
    per published port or bridge ("port 8080/tcp of web")."""

    images: Mapping[str, HaveImage] = {}
    networks: Mapping[str, HaveNetwork] = {}
    volumes: Mapping[str, HaveVolume] = {}
    containers: Mapping[str, HaveContainer] = {}
    remote: Mapping[str, str] = {}
    firewall_drift: tuple[str, ...] = ()
