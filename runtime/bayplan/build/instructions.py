"""What the instructions of a Dockerfile say, as values. Sources: Dockerfile reference (docs.docker.com/reference/dockerfile), BuildKit's
frontend, syntax 1.x.

Words are as they stand in the file, with quotes, escapes and variables, until `expand` (build/expansion.py) makes what they mean of them.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.container import Healthcheck
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    Pairs: TypeAlias = tuple[tuple[str, str], ...]


class Place(NamedTuple):
    """Where an instruction stands: first and last line, from 1, its text as it is written there, the file's name, and the text as `one`
    line: joined, without comments and here-documents."""

    line: int
    last: int
    text: str
    file: str = "Dockerfile"
    one: str = ""

    def wrong(self, message: str) -> Invalid:
        """The error to raise: what is wrong here, with the line as it is written."""
        first = self.text.partition("\n")[0].strip()
        shown = first if len(first) <= 100 else first[:97] + "..."
        return Invalid(f"{self.file}:{self.line}: {message} (in {shown!r})")


class Inline(NamedTuple):
    """A here-document: its name, its content, whether variables in it are expanded (the delimiter is not quoted), and the number of the
    descriptor that a shell reads it from."""

    name: str
    content: str
    expands: bool
    descriptor: int = 0


class Command(NamedTuple):
    """A command in shell form (`shell`: one string, for SHELL to run) or in exec form (the words themselves)."""

    words: tuple[str, ...]
    shell: bool


class RunMount(NamedTuple):
    """RUN --mount; what does not apply to its type has its default. `mode` is octal text, sizes are bytes; `environment` is for secrets."""

    type: str  # bind, cache, tmpfs, secret, ssh
    target: str = ""
    source: str = ""
    origin: str = ""  # from=: a stage, an image, or ""
    id: str = ""
    readonly: bool = False
    sharing: str = "shared"  # cache: shared, private, locked
    required: bool = False
    mode: str = ""
    uid: str = ""
    gid: str = ""
    size: int = 0
    environment: str = ""


class From(NamedTuple):
    place: Place
    image: str
    platform: str = ""
    name: str = ""  # AS


class Arg(NamedTuple):
    """None: declared, without a default."""

    place: Place
    arguments: tuple[tuple[str, str | None], ...]


class Env(NamedTuple):
    place: Place
    variables: Pairs


class Label(NamedTuple):
    place: Place
    labels: Pairs


class Run(NamedTuple):
    """Here-documents are part of the command's text, as the shell reads them; one that is the whole command is that text itself. But one
    that begins with "#!" is a program: `inline` then holds it, and the command is its path, /dev/pipes/NAME (mode 0755, read-only).

    `options` are the mounts as they are written; where these hold variables, `mounts` know nothing but their `origin` before `expand`."""

    place: Place
    command: Command
    inline: tuple[Inline, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"  # default, none, host
    security: str = "sandbox"  # sandbox, insecure
    options: tuple[str, ...] = ()


class Copy(NamedTuple):
    """COPY and ADD. `inline` are sources that are here-documents; `checksum`, `keep_git` (--keep-git-dir) and `unpack` are ADD's: None is
    what follows from the source."""

    place: Place
    sources: tuple[str, ...]
    destination: str
    inline: tuple[Inline, ...] = ()
    add: bool = False
    origin: str = ""  # --from
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git: bool = False
    unpack: bool | None = None


class Cmd(NamedTuple):
    place: Place
    command: Command


class Entrypoint(NamedTuple):
    place: Place
    command: Command


class Shell(NamedTuple):
    place: Place
    words: tuple[str, ...]


class Workdir(NamedTuple):
    place: Place
    path: str


class User(NamedTuple):
    place: Place
    user: str


class Expose(NamedTuple):
    place: Place
    ports: tuple[str, ...]


class Volume(NamedTuple):
    place: Place
    paths: tuple[str, ...]


class StopSignal(NamedTuple):
    place: Place
    signal: str


class Health(NamedTuple):
    """HEALTHCHECK; `test` is ("NONE",), ("CMD", word, ...) or ("CMD-SHELL", text)."""

    place: Place
    healthcheck: Healthcheck


class OnBuild(NamedTuple):
    """The instruction that it keeps, as text."""

    place: Place
    instruction: str


class Maintainer(NamedTuple):
    place: Place
    author: str


if TYPE_CHECKING:
    from typing import Union

    Instruction: TypeAlias = Union[
        From, Arg, Env, Label, Run, Copy, Cmd, Entrypoint, Shell, Workdir, User, Expose, Volume, StopSignal, Health, OnBuild, Maintainer
    ]
