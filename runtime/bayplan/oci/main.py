"""The door of `bayplan-oci`: an OCI runtime with runc's command line, for podman, Docker, containerd and CRI-O to call.

An error is one line on stderr, and one in the file of `--log`, where an engine looks for it; its exit status is 1, `exec`'s 255.
"""

from __future__ import annotations

import os
import sys

from bayplan.cli.options import nearest, split
from bayplan.errors import BayplanError, Invalid, explain
from bayplan.kernel.process import ProgramNotFound
from bayplan.model.value import TYPE_CHECKING
from bayplan.oci.commands import COMMANDS, GLOBAL, Command, Invocation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main(argv: Sequence[str]) -> NoReturn:
    """Run one command line and end the process."""
    code = run(argv)
    try:
        sys.stdout.flush()
    except OSError:  # the reader has gone
        code = code or 1
    os._exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line; its exit status. Errors have been shown and logged."""
    given: dict[str, str] = {}
    code = 1
    try:
        read = split(argv, GLOBAL, interspersed=False)
        given = {name: values[-1] for name, values in read.values.items()}
        if given.get("log-format", "text") not in ("text", "json"):
            raise Invalid(f"--log-format {given['log-format']}: it is text or json")
        if not read.arguments or given.keys() & {"help", "version"}:
            return _describe(given, read.arguments)
        command = _find(read.arguments[0])
        code = command.code
        return invoke(command, read.arguments[1:], given)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        return _fail(error, given, code)


def invoke(command: Command, argv: Sequence[str], given: dict[str, str]) -> int:
    """Read the command's options and call its handler. Raises what that raises, and Invalid for a wrong command line."""
    read = split(argv, (*command.options, *GLOBAL[:1]), interspersed=not command.options_first)
    if read.values.get("help"):
        from bayplan.oci import describe

        return describe.usage(command)
    least, most = command.arguments
    if len(read.arguments) < least or (0 <= most < len(read.arguments)):
        raise Invalid(f"{command.name}: {len(read.arguments)} arguments were given; usage: bayplan-oci {command.name} {command.usage}")
    if os.geteuid() != 0 and not command.anyone:
        raise BayplanError(f"{command.name}: only root can do that")
    module, _, name = command.handler.partition(":")
    handler = getattr(__import__(f"bayplan.oci.{module}", fromlist=[name]), name)
    status = handler(Invocation(read.values, read.arguments, given))
    return int(status or 0)


def _find(name: str) -> Command:
    known = {command.name: command for command in COMMANDS}
    if name not in known:
        raise Invalid(f"{name!r} is not a command{nearest(name, known)}")
    return known[name]


def _describe(given: dict[str, str], words: Sequence[str]) -> int:
    from bayplan.oci import describe

    return describe.version() if "version" in given else describe.usage(_find(words[0]) if words else None)


def _fail(error: BaseException, given: dict[str, str], code: int) -> int:
    message = explain(error)[1]
    if isinstance(error, ProgramNotFound):  # engines read the exit status 127 out of these words
        message += " (executable file not found in $PATH, or no such file or directory)"
    sys.stderr.write(f"bayplan-oci: {message}\n")
    if given.get("log"):
        from bayplan.oci import log

        log.write(given["log"], "error", message, form=given.get("log-format", "text"))
    return code
