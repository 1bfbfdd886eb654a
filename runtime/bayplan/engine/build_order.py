"""What is to be copied where: the values of COPY and ADD, once their sources are found."""

from __future__ import annotations

from bayplan.engine.build_content import Source
from bayplan.model.value import NamedTuple


class Order(NamedTuple):
    """What to copy where: `destination` is absolute; `into` says that it is a directory, whatever is there. `chown` as in the file, "" for
    the usual. `names` are those of the sources beneath the destination (--parents), or none. `only_directory`: WORKDIR, which
    makes its directory and nothing in it."""

    sources: tuple[Source, ...]
    destination: str
    into: bool = False
    chown: str = ""
    chmod: str = ""
    link: bool = False
    names: tuple[str, ...] = ()
    only_directory: bool = False
