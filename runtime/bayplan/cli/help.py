"""Help, made from the table of verbs: the overview, one verb's usage, and docs/commands.md."""

from __future__ import annotations

from bayplan import verbs
from bayplan.cli.call import Call, Verb
from bayplan.cli.options import Option, nearest
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GROUPS = (
    ("Containers", verbs.CONTAINERS),
    ("Images", verbs.IMAGES),
    ("Networks", verbs.NETWORKS),
    ("Volumes", verbs.VOLUMES),
    ("Host", verbs.SYSTEM),
)


def overview(words: Sequence[str] = ()) -> str:
    """All verbs, or what `help VERB` asks for; raises Invalid for a verb that there is not."""
    name = " ".join(words)
    known = verbs.names()
    if name in known:
        return usage(known[name])
    below = [verb for verb in verbs.VERBS for each in (verb.name, *verb.aliases) if name and each.startswith(f"{name} ")]
    if name and not below:
        raise Invalid(f"there is no verb {name!r}{nearest(name, known)}; `bayplan --help` lists them")
    lines = [f"Usage: bayplan [OPTIONS] {name.upper() or 'VERB'} ...", ""]
    for title, group in _GROUPS:
        shown = [verb for verb in group if not verb.hidden and (not name or verb in below)]
        if shown:
            lines += [f"{title}:", *_columns((_called(verb, name), verb.help) for verb in shown), ""]
    lines += ["Options of every verb:", *_option_lines((*verbs.GLOBAL, verbs.VERSION)), ""]
    return "\n".join([*lines, "`bayplan VERB --help` shows more."])


def _called(verb: Verb, noun: str) -> str:
    """By the name that belongs to the noun whose help is shown."""
    return next((name for name in (verb.name, *verb.aliases) if noun and name.startswith(f"{noun} ")), verb.name)


def usage(verb: Verb) -> str:
    """One verb's help."""
    lines = [f"Usage: {_synopsis(verb)}", "", verb.help[0].upper() + verb.help[1:]]
    if verb.aliases:
        lines.append(f"Also: {', '.join(f'bayplan {name}' for name in verb.aliases)}")
    if verb.options:
        lines += ["", "Options:", *_option_lines(verb.options)]
    return "\n".join(lines)


def _synopsis(verb: Verb) -> str:
    return " ".join(filter(None, ("bayplan", verb.name, "[OPTIONS]" if verb.options else "", verb.arguments)))


def _option_lines(options: Iterable[Option]) -> list[str]:
    return _columns((_spelling(option), option.help) for option in sorted(options, key=lambda option: option.name))


def _spelling(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    return f"{short}--{option.name}" + (f" {option.metavar}" if option.metavar else "")


def _columns(pairs: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(pairs)
    width = min(max(len(left) for left, _ in rows), 36)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows]


def manual(call: Call) -> int:
    print(reference(), end="")
    return 0


def reference() -> str:
    """docs/commands.md, whole."""
    lines = [
        "# Commands",
        "",
        "This page is made from the table of verbs (`python3 -m bayplan _manual > docs/commands.md`); a test compares both.",
        "",
        "The spellings are Docker's. An error is one line on standard error, and the exit status is 1; of `run` and `exec` it is 125 for",
        "an error of ours, 126 for a command that cannot be run, 127 for one that is not there, and else the command's own.",
        "",
        "## Options of every verb",
        "",
        *_option_rows((*verbs.GLOBAL, verbs.VERSION)),
    ]
    for title, group in _GROUPS:
        lines += ["", f"## {title}"]
        for verb in (verb for verb in group if not verb.hidden):
            lines += _section(verb)
    return "\n".join(lines) + "\n"


def _section(verb: Verb) -> list[str]:
    lines = ["", f"### bayplan {verb.name}", "", f"    {_synopsis(verb)}", "", f"{verb.help[0].upper()}{verb.help[1:]}."]
    if verb.aliases:
        lines += ["", f"Also: {', '.join(f'`bayplan {name}`' for name in verb.aliases)}."]
    return [*lines, "", *_option_rows(verb.options)] if verb.options else lines


def _option_rows(options: Iterable[Option]) -> list[str]:
    rows = [(_spelling(option).strip(), option.help) for option in sorted(options, key=lambda option: option.name)]
    return ["| option | meaning |", "| --- | --- |", *(f"| `{_cell(left)}` | {_cell(right)} |" for left, right in rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
