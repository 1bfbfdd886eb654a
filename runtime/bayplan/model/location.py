"""Where an image is copied from or to, as people write it.

    docker://REFERENCE            a repository at a registry
    oci:DIRECTORY[:TAG]           an OCI layout
    oci-archive:FILE[:NAME]       the same in a tar archive
    docker-archive:FILE[:NAME]    what `docker save` writes
    store:NAME                    the images of a state

The spelling of the first four is that of containers-transports(5).
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.reference import Reference, parse_reference
from bayplan.model.value import NamedTuple

REGISTRY, LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE, STORE = "docker", "oci", "oci-archive", "docker-archive", "store"
TRANSPORTS = (REGISTRY, LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE, STORE)
_LONGEST = 4096


class Location(NamedTuple):
    """`path` is a directory or a file, "" where there is none; `name` is what the image is called there, "" for the only one.

    `reference` is there for a registry and for the store.
    """

    transport: str
    path: str
    name: str
    reference: Reference | None = None

    def __str__(self) -> str:
        if self.transport == REGISTRY:
            return f"docker://{self.name}"
        return f"{self.transport}:{self.path or self.name}" + (f":{self.name}" if self.path and self.name else "")


def parse_location(text: str) -> Location:
    """Read a location; raises Invalid and says how one is written."""
    transport, colon, rest = text.partition(":")
    if not colon or transport not in TRANSPORTS or "\0" in text or len(text) > _LONGEST:
        raise Invalid(
            f"reading the location {text[:100]!r}: it begins with none of docker://, oci:, oci-archive:, docker-archive:, store:"
        )
    if transport == REGISTRY:
        if not rest.startswith("//"):
            raise Invalid(f"reading the location {text[:100]!r}: a registry's is docker://NAME")
        return Location(REGISTRY, "", rest[2:], parse_reference(rest[2:]))
    if transport == STORE:
        return Location(STORE, "", rest, parse_reference(rest))
    path, _, name = rest.partition(":")
    if not path:
        raise Invalid(f"reading the location {text[:100]!r}: it names no {'directory' if transport == LAYOUT else 'file'}")
    return Location(transport, path, parse_reference(name).familiar if name and transport == DOCKER_ARCHIVE else name)
