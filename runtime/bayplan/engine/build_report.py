"""What a build says while it goes on: plain lines on standard error, each with its step's name, so that stages may go on at once."""

from __future__ import annotations

import os

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayplan.build.instructions import Instruction
    from bayplan.build.stages import Plan
    from bayplan.build.syntax import File

_LONGEST = 160
_WORTH_TELLING = 0.1  # seconds
MADE, CACHED = "made", "cached"


def warn(file: File, plan: Plan, environments: Mapping[str, tuple[str, ...]]) -> None:
    """Say what Docker warns of. Raises Invalid where the Dockerfile wants that to end the build."""
    from bayplan.build import checks, stages

    found = checks.check(file, plan, environments=environments)
    lines = [f"warning: {each.rule}: {each.message} ({file.name}:{each.line})" for each in found.findings]
    unused = stages.unused_warning(plan)
    for line in (*lines, *([f"warning: {unused}"] if unused else [])):
        os.write(2, f"{printable(line)}\n".encode("utf-8", "replace"))
    if found.fatal:
        raise Invalid(f"building {file.name}: {found.violation}")


class Report:
    """`shows` says whether there is anybody to read it."""

    def __init__(self, *, shows: bool) -> None:
        self._shows = shows
        self._name, self._text = "", ""
        self._line = b""

    def begin(self, name: str, instruction: Instruction) -> None:
        text = " ".join((instruction.place.one or instruction.place.text).split())
        self._name, self._text = name, text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

    def work(self) -> None:
        """The step is not in the cache: it may take a while."""
        self._say(self._text)

    def output(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._say("| " + printable(line))
        if len(self._line) > 1 << 16:
            self._end_line()

    def end(self, ended: str, seconds: float) -> None:
        self._end_line()
        if ended != MADE:
            self._say(f"{self._text}{' (cached)' if ended else ''}")
        elif seconds >= _WORTH_TELLING:
            self._say(f"{seconds:.1f} s")

    def _end_line(self) -> None:
        if self._line:
            self._say("| " + printable(self._line))
            self._line = b""

    def _say(self, text: str) -> None:
        if self._shows:
            os.write(2, f"{self._name} {text}\n".encode("utf-8", "replace"))


def printable(line: bytes | str) -> str:
    """A command's output is no way to the terminal's controls, but for the carriage return of progress bars: what is after it counts."""
    text = (line.decode("utf-8", "replace") if isinstance(line, bytes) else line).rstrip("\r").rpartition("\r")[2]
    return "".join(character if character.isprintable() or character == "\t" else "·" for character in text)
