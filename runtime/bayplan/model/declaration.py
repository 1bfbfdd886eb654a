"""What a host should be: the one value that every door's request is parsed into, and that plan/ compares with the host."""

from __future__ import annotations

from bayplan.model.container import Container
from bayplan.model.network import Network
from bayplan.model.value import NamedTuple
from bayplan.model.volume import Volume


class WantedImage(NamedTuple):
    """state: present, absent. source "" is the registry; else the path of an archive on the host. force removes used names."""

    reference: str
    state: str = "present"
    pull: str = "missing"
    platform: str = ""
    archive: str = ""
    tags: tuple[str, ...] = ()
    force: bool = False


class WantedNetwork(NamedTuple):
    """external: must exist and is left alone."""

    spec: Network
    state: str = "present"
    external: bool = False


class WantedVolume(NamedTuple):
    """implied: a container uses it and nobody declared it: made where it is missing, else left as it is."""

    spec: Volume
    state: str = "present"
    external: bool = False
    implied: bool = False


class WantedContainer(NamedTuple):
    """state: present (created, its running left alone), started, stopped, absent.

    known is False where only the name was given: then the recorded spec stays (started, stopped, absent).
    ignore names the keys whose recorded value is left alone; recreate is `auto`, `always` or `never`.
    """

    spec: Container
    state: str = "started"
    known: bool = True
    ignore: tuple[str, ...] = ()
    recreate: str = "auto"
    restart: bool = False
    force: bool = False


class Declaration(NamedTuple):
    """A whole host's, or one resource's, wanted state.

    project "" is a declaration of single resources; else everything labelled with the project and not declared is an
    orphan, removed when remove_orphans. Volumes are never removed but where a WantedVolume says absent.
    """

    project: str = ""
    images: tuple[WantedImage, ...] = ()
    networks: tuple[WantedNetwork, ...] = ()
    volumes: tuple[WantedVolume, ...] = ()
    containers: tuple[WantedContainer, ...] = ()
    remove_orphans: bool = True
    wait: bool = False
    wait_timeout: int = 120_000_000_000
