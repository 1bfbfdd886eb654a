"""A statement's words as the value of its instruction.

    instruction = reading.read(statement, escape=file.escape)

Words stay as they are written, until expansion.expand makes what they mean of them. Source: Dockerfile reference; which of several forms a
text is, and how many arguments are wrong, is decided as BuildKit's frontend does.
"""

from __future__ import annotations

import re

from bayplan.build import lexer, run_mounts, syntax, words
from bayplan.build.flags import BOOLEAN, MANY, TEXT, Flags, parse_flags
from bayplan.build.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Health,
    Inline,
    Label,
    Maintainer,
    OnBuild,
    Place,
    Run,
    RunMount,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)  # fmt: skip
from bayplan.errors import Invalid
from bayplan.model import units
from bayplan.model.container import Healthcheck
from bayplan.model.node import Node
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bayplan.build.instructions import Instruction, Pairs
    from bayplan.build.syntax import Here, Statement

_COPY = {"chown": TEXT, "chmod": TEXT, "link": BOOLEAN, "exclude": MANY}
FLAGS = {
    "ADD": {**_COPY, "checksum": TEXT, "keep-git-dir": BOOLEAN, "unpack": BOOLEAN},
    "COPY": {"from": TEXT, **_COPY, "parents": BOOLEAN},
    "FROM": {"platform": TEXT},
    "HEALTHCHECK": {"interval": TEXT, "timeout": TEXT, "start-period": TEXT, "start-interval": TEXT, "retries": TEXT},
    "RUN": {"mount": MANY, "network": TEXT, "security": TEXT},
}
_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")
_MILLISECOND = 1_000_000
_STAGE_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-_."


def read(statement: Statement, *, escape: str) -> Instruction:
    """The instruction that a statement of syntax.parse is. Raises Invalid with file, line and text."""
    place = statement.place
    found = parse_flags(statement.flags, FLAGS.get(statement.name, {}), place=place, name=statement.name)
    try:
        return _READERS[statement.name](statement, found, escape)
    except Invalid as error:
        raise error if str(error).startswith(f"{place.file}:{place.line}:") else place.wrong(f"{statement.name}: {error}") from None


def trigger(text: str, name: str, *, escape: str = "\\") -> Instruction:
    """The instruction that an image's ONBUILD keeps as text; `name` is what messages call the text. Raises Invalid."""
    statements = syntax.parse(text.encode("utf-8", "surrogatepass"), name).statements
    if len(statements) != 1:
        raise Invalid(f"{name}: an ONBUILD trigger is one instruction, and this holds {len(statements)}")
    if statements[0].name in ("FROM", "ONBUILD", "MAINTAINER"):
        raise statements[0].place.wrong(f"{statements[0].name} is not allowed as an ONBUILD trigger")
    return read(statements[0], escape=escape)


def _from(statement: Statement, found: Flags, escape: str) -> From:
    given = words.blank(statement.rest)
    name = ""
    if len(given) == 3 and given[1].lower() == "as":
        name = given[2].lower()
        if not ("a" <= name[0] <= "z") or name.strip(_STAGE_NAME):
            raise Invalid(f"{given[2]!r} is no name for a stage: it begins with a letter and has letters, digits and - _ . only")
    elif len(given) != 1:
        raise Invalid("one or three arguments are needed: FROM image [AS name]")
    return From(statement.place, given[0], found.text("platform"), name)


def _arg(statement: Statement, found: Flags, escape: str) -> Arg:
    arguments: list[tuple[str, str | None]] = []
    for word in _some(words.quoted(statement.rest, escape)):
        name, equals, value = word.partition("=")
        if not name:
            raise Invalid("a name is empty")
        arguments.append((name, value if equals else None))
    return Arg(statement.place, tuple(arguments))


def _pairs(statement: Statement, escape: str) -> Pairs:
    """`name=value` many times, or the old form: a name, a space, and a value to the end of the line."""
    given = _some(words.quoted(statement.rest, escape))
    if "=" not in given[0]:
        name, value = words.first(statement.rest)
        if not value:
            raise Invalid(f"a name and a value are needed: {statement.name} name=value")
        return ((name, value),)
    for word in given:
        if "=" not in word:
            raise Invalid(f"there is no = in {word!r}: name=value is the form, and a value with spaces is quoted")
        if word.startswith("="):
            raise Invalid("a name is empty")
    return tuple((name, value) for name, _, value in (word.partition("=") for word in given))


def _env(statement: Statement, found: Flags, escape: str) -> Env:
    return Env(statement.place, _pairs(statement, escape))


def _label(statement: Statement, found: Flags, escape: str) -> Label:
    return Label(statement.place, _pairs(statement, escape))


def _command(text: str) -> Command:
    listed = words.json_list(text)
    return Command((text,), shell=True) if listed is None else Command(listed, shell=False)


def _run(statement: Statement, found: Flags, escape: str) -> Run:
    network, security = found.text("network") or _NETWORKS[0], found.text("security") or _SECURITY[0]
    if network not in _NETWORKS:
        raise Invalid(f"--network is one of {', '.join(_NETWORKS)}, not {network!r}")
    if security not in _SECURITY:
        raise Invalid(f"--security is one of {', '.join(_SECURITY)}, not {security!r}")
    command, inline = _with_here_documents(_command(statement.rest), statement.here)
    if not command.words:
        raise Invalid("the list is empty: there is nothing to run")
    options = found.all("mount")
    return Run(statement.place, command, inline, tuple(_mount(text, escape) for text in options), network, security, options)


def _mount(text: str, escape: str) -> RunMount:
    if run_mounts.settled(text, escape):
        return run_mounts.parse_mount(text, lambda value: value)
    return RunMount("", origin=run_mounts.origin(text))


def _with_here_documents(command: Command, here: tuple[Here, ...]) -> tuple[Command, tuple[Inline, ...]]:
    """The command with its here-documents in it: one alone is the script itself, or a program if it says so in its first line."""
    if not here:
        return command, ()
    text, first = command.words[0], here[0]
    if words.marker(text) is None:
        return command._replace(words=("\n".join([text, *(one.content + one.name for one in here)]),)), ()
    content = words.stripped(first.content) if first.strips else first.content
    if not content.startswith("#!"):
        return command._replace(words=(content,)), ()
    return command._replace(words=(f"/dev/pipes/{first.name}",)), (Inline(first.name, content, expands=False, descriptor=first.descriptor),)


def _copy(statement: Statement, found: Flags, escape: str) -> Copy:
    listed = words.json_list(statement.rest)
    given = (
        list(listed)
        if listed is not None
        else words.joined(words.quoted(statement.rest, escape))
        if statement.here
        else words.blank(statement.rest)
    )
    if len(given) < 2:
        raise Invalid(f"at least two arguments are needed, sources and destination, and there {'is one' if given else 'are none'}")
    marked = [listed is None and words.marker(word) is not None for word in given]
    if marked[-1]:
        raise Invalid("a here-document is a source, not a destination")
    origin = found.text("from")
    if lexer.process(origin, {}, lexer.Rules(escape)).text != origin:
        raise Invalid("--from takes no variables: name a stage, FROM the variable, and copy from that stage")
    return Copy(
        statement.place, tuple(word for word, here in zip(given[:-1], marked) if not here), given[-1], tuple(map(_inline, statement.here)),
        statement.name == "ADD", origin, found.text("chown"), found.text("chmod"), found.true("link"), found.true("parents"),
        found.all("exclude"), found.text("checksum"), found.true("keep-git-dir"), found.true("unpack") if found.all("unpack") else None,
    )  # fmt: skip


def _inline(here: Here) -> Inline:
    return Inline(here.name, words.stripped(here.content) if here.strips else here.content, here.expands, here.descriptor)


def _cmd(statement: Statement, found: Flags, escape: str) -> Cmd:
    return Cmd(statement.place, _command(statement.rest))


def _entrypoint(statement: Statement, found: Flags, escape: str) -> Entrypoint:
    return Entrypoint(statement.place, _command(statement.rest))


def _shell(statement: Statement, found: Flags, escape: str) -> Shell:
    listed = words.json_list(statement.rest)
    if not listed:
        raise Invalid('the shell is a JSON list of at least one word, as in SHELL ["/bin/sh", "-c"]')
    return Shell(statement.place, listed)


def _expose(statement: Statement, found: Flags, escape: str) -> Expose:
    return Expose(statement.place, tuple(_some(words.blank(statement.rest))))


def _volume(statement: Statement, found: Flags, escape: str) -> Volume:
    listed = words.json_list(statement.rest)
    paths = [words.strip(path) for path in _some(words.blank(statement.rest) if listed is None else list(listed))]
    if "" in paths:
        raise Invalid("a volume's path is empty")
    return Volume(statement.place, tuple(paths))


def _single(make: Callable[[Place, str], Instruction]) -> Callable[[Statement, Flags, str], Instruction]:
    """A reader for an instruction whose one argument is the rest of the line."""

    def reader(statement: Statement, found: Flags, escape: str) -> Instruction:
        if not statement.rest:
            raise Invalid("exactly one argument is needed")
        return make(statement.place, statement.rest)

    return reader


def _healthcheck(statement: Statement, found: Flags, escape: str) -> Health:
    kind, rest = words.first(statement.rest)
    if kind.upper() == "NONE":
        if rest:
            raise Invalid("NONE takes no arguments")
        return Health(statement.place, Healthcheck(("NONE",)))
    if kind.upper() != "CMD":
        raise Invalid(f"{kind!r} is neither CMD nor NONE" if kind else "CMD with a command is needed, or NONE")
    command = _command(rest)
    if not any(command.words):
        raise Invalid("a command is missing after CMD")
    plain = Healthcheck()
    return Health(
        statement.place,
        Healthcheck(
            ("CMD-SHELL" if command.shell else "CMD", *command.words),
            _duration(found, "interval") or plain.interval,
            _duration(found, "timeout") or plain.timeout,
            _retries(found) or plain.retries,
            _duration(found, "start-period"),
            _duration(found, "start-interval") or plain.start_interval,
        ),
    )


def _duration(found: Flags, name: str) -> int:
    node = Node(re.sub(r"(?<!\d)\.(?=\d)", "0.", found.text(name)) or "0", f"--{name}")
    if "d" in node.value:  # Go has no days
        raise node.expected("a duration in hours, minutes and seconds")
    value = units.duration(node)
    if 0 < value < _MILLISECOND:
        raise Invalid(f"--{name} is at least 1ms, not {found.text(name)}")
    return value


def _retries(found: Flags) -> int:
    return Node(found.text("retries") or "0", "--retries").integer(0, 2**31 - 1)


def _onbuild(statement: Statement, found: Flags, escape: str) -> OnBuild:
    """What it keeps is read, so that what is wrong with it is said here and not to whoever builds upon the image."""
    name, after = words.first(statement.rest)
    name = name.upper()
    if name in ("", "ONBUILD", "FROM", "MAINTAINER"):
        raise Invalid(f"{name} is not allowed as a trigger" if name else "an instruction is needed")
    if name not in syntax.INSTRUCTIONS:
        raise Invalid(f"unknown instruction {name}")
    given, rest = words.flags(after)
    read(statement._replace(name=name, flags=given, rest=rest), escape=escape)
    return OnBuild(statement.place, "\n".join([statement.rest, *(here.content + here.name for here in statement.here)]))


def _some(given: list[str]) -> list[str]:
    if not given:
        raise Invalid("at least one argument is needed")
    return given


_READERS: dict[str, Callable[[Statement, Flags, str], Instruction]] = {
    "ADD": _copy, "ARG": _arg, "CMD": _cmd, "COPY": _copy, "ENTRYPOINT": _entrypoint, "ENV": _env, "EXPOSE": _expose, "FROM": _from,
    "HEALTHCHECK": _healthcheck, "LABEL": _label, "MAINTAINER": _single(Maintainer), "ONBUILD": _onbuild, "RUN": _run, "SHELL": _shell,
    "STOPSIGNAL": _single(StopSignal), "USER": _single(User), "VOLUME": _volume, "WORKDIR": _single(Workdir),
}  # fmt: skip
