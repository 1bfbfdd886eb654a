"""What ARGs are worth before the first FROM: --build-arg, defaults, and what is there without a declaration.

Source: Dockerfile reference, "ARG", "Predefined ARGs" and "Automatic platform ARGs in the global scope".
"""

from __future__ import annotations

from bayplan.build import lexer, reading
from bayplan.build.instructions import Arg, OnBuild, Place
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bayplan.build.instructions import Instruction

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


def text(word: str, variables: Mapping[str, str], escape: str, place: Place) -> str:
    """What a word stands for; raises Invalid with the place."""
    try:
        return lexer.process(word, variables, lexer.Rules(escape)).text
    except Invalid as error:
        raise place.wrong(str(error)) from None


def unset(word: str, arguments: Mapping[str, str], escape: str) -> str:
    """The end of a message that says which variables of a word nobody set."""
    missing = sorted(lexer.process(word, arguments, lexer.Rules(escape)).unset)
    return f": {', '.join(missing)} is set by no ARG before the first FROM and no build argument" if missing else ""


def automatic(platform: str, build_platform: str, target: str) -> dict[str, str]:
    """The ARGs that are there without a declaration before the first FROM; a stage has them when it declares them."""
    found: dict[str, str] = {}
    for prefix, written in (("BUILD", build_platform), ("TARGET", platform)):
        system, architecture, variant, *_ = [*written.split("/"), "", ""]
        found |= {f"{prefix}PLATFORM": written, f"{prefix}OS": system, f"{prefix}ARCH": architecture, f"{prefix}VARIANT": variant}
    return {**found, "TARGETSTAGE": target or "default"}


def before_from(first: Iterable[Arg], build_args: Mapping[str, str], own: Mapping[str, str], escape: str) -> dict[str, str]:
    """What FROM is expanded with: the `own` ones of a build, and those that are declared before it."""
    values = {name: build_args.get(name, value) for name, value in own.items()}
    for arg in first:
        for name, default in arg.arguments:
            if name in build_args:
                values[name] = build_args[name]
            elif default is not None:
                values[name] = text(default, values, escape, arg.place)
    return values


def proxies(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Both spellings of each proxy that is given in any."""
    given = {name.upper(): value for name, value in build_args.items() if name.upper() in PROXIES and value}
    return tuple((name, value) for upper, value in given.items() for name in (upper, upper.lower()))


def unused(instructions: Sequence[Instruction], build_args: Mapping[str, str], known: Iterable[str]) -> tuple[str, ...]:
    """The build arguments that no ARG of the file takes, and that are not `known` without one."""
    taken = {name for one in instructions if isinstance(one, Arg) for name, _ in one.arguments}
    for one in instructions:
        if isinstance(one, OnBuild):
            kept = reading.trigger(one.instruction, one.place.file)
            taken |= {name for name, _ in kept.arguments} if isinstance(kept, Arg) else set()
    free = (*known, "SOURCE_DATE_EPOCH")
    return tuple(sorted(name for name in build_args if name not in taken and name not in free and not _predefined(name)))


def _predefined(name: str) -> bool:
    return name.upper() in PROXIES or name.startswith("BUILDKIT_")
