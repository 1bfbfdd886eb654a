"""What the words of an instruction mean: variables replaced, quotes and escapes taken away.

    settled = expansion.expand(instruction, {"VERSION": "1"}, escape=file.escape)

`variables` are those that the stage knows before the instruction: its ENV, and its ARGs. RUN, CMD, ENTRYPOINT, SHELL, HEALTHCHECK, ONBUILD
and MAINTAINER keep their words: a shell reads those, or nobody does; of a RUN only the mounts are expanded. FROM is settled by
stages.plan, from the ARGs before the first one. Source: Dockerfile reference, "Environment replacement" and "Here-Documents".
"""

from __future__ import annotations

from bayplan.build import lexer, run_mounts
from bayplan.build.instructions import Arg, Copy, Env, Expose, Label, Run, StopSignal, User, Volume, Workdir
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bayplan.build.instructions import Instruction, Pairs

    Expand = Callable[[str], str]


class Expanded(NamedTuple):
    """The instruction, and the variables that it named without their having a value."""

    instruction: Instruction
    unset: frozenset[str]


def word(text: str, variables: Mapping[str, str], *, escape: str) -> str:
    """`text` with its variables replaced and its quotes removed, as one word. Raises Invalid."""
    return lexer.process(text, variables, lexer.Rules(escape)).text


def split(text: str, variables: Mapping[str, str], *, escape: str) -> tuple[str, ...]:
    """As `word`, but spaces outside quotes, also those that a variable brings, separate words."""
    return lexer.process(text, variables, lexer.Rules(escape)).words


def expand(instruction: Instruction, variables: Mapping[str, str], *, escape: str) -> Instruction:
    """The instruction as it is carried out. Raises Invalid with file, line and text."""
    return expand_known(instruction, variables, escape=escape).instruction


def expand_known(instruction: Instruction, variables: Mapping[str, str], *, escape: str) -> Expanded:
    """As `expand`, with the variables that are not set."""
    unset: set[str] = set()

    def one(text: str) -> str:
        found = lexer.process(text, variables, lexer.Rules(escape))
        unset.update(found.unset)
        return found.text

    def document(text: str) -> str:
        """A here-document's escape character is \\, whatever the file's is."""
        found = lexer.process(text, variables, lexer.Rules(quotes=False))
        unset.update(found.unset)
        return found.text

    try:
        return Expanded(_expand(instruction, one, document, variables, escape), frozenset(unset))
    except Invalid as error:
        raise instruction.place.wrong(str(error)) from None


def _expand(instruction: Instruction, one: Expand, document: Expand, variables: Mapping[str, str], escape: str) -> Instruction:
    if isinstance(instruction, Env):
        return instruction._replace(variables=_pairs(instruction.variables, one))
    if isinstance(instruction, Label):
        return instruction._replace(labels=_pairs(instruction.labels, one))
    if isinstance(instruction, Arg):
        arguments = tuple((one(name), value if value is None else one(value)) for name, value in instruction.arguments)
        return instruction._replace(arguments=arguments)
    if isinstance(instruction, Copy):
        return _copy(instruction, one, document)
    if isinstance(instruction, Run):
        return instruction._replace(mounts=tuple(run_mounts.parse_mount(text, one) for text in instruction.options))
    if isinstance(instruction, Expose):
        ports = tuple(port for written in instruction.ports for port in split(written, variables, escape=escape))
        return instruction._replace(ports=ports)
    if isinstance(instruction, Volume):
        return instruction._replace(paths=_paths(one(path) for path in instruction.paths))
    if isinstance(instruction, Workdir):
        return instruction._replace(path=one(instruction.path))
    if isinstance(instruction, User):
        return instruction._replace(user=one(instruction.user))
    if isinstance(instruction, StopSignal):
        return instruction._replace(signal=one(instruction.signal))
    return instruction


def _paths(paths: Iterable[str]) -> tuple[str, ...]:
    found = tuple(paths)
    if "" in found:
        raise Invalid("VOLUME: a volume's path is empty")
    return found


def _pairs(pairs: Pairs, one: Expand) -> Pairs:
    return tuple((one(name), one(value)) for name, value in pairs)


def _copy(copy: Copy, one: Expand, document: Expand) -> Copy:
    return copy._replace(
        sources=tuple(one(source) for source in copy.sources),
        destination=one(copy.destination),
        inline=tuple(inline._replace(content=document(inline.content)) if inline.expands else inline for inline in copy.inline),
        chown=one(copy.chown),
        chmod=one(copy.chmod),
        exclude=tuple(one(pattern) for pattern in copy.exclude),
        checksum=one(copy.checksum),
    )
