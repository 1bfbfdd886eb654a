"""From a command line to an exit status: find the verb, read its options, call its handler, show its error."""

from __future__ import annotations

import os
import sys

from bayplan import verbs
from bayplan.cli.call import Call, Verb, bounds
from bayplan.cli.options import nearest, split
from bayplan.errors import BayplanError, Invalid, explain
from bayplan.model.result import DEFAULT_ROOT
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Sequence
    from typing import NoReturn
else:
    import _signal  # without the enumerations of `signal`

_DEFAULT_CODE = 1


def main(argv: Sequence[str]) -> NoReturn:
    """Run one command line and end the process, without the interpreter's long good-bye.

    A caller that ignores SIGCHLD hands that on (sigaction(2)), and then nobody is told how a child of ours ended: a container's
    monitor would wait for ever for one that was quick.
    """
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    code = run(argv)
    try:
        sys.stdout.flush()
    except OSError:  # the reader has gone, and has what it wanted
        code = code or _DEFAULT_CODE
    os._exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit status, and has shown its error on stderr. Raises nothing."""
    debug = "--debug" in argv or "-D" in argv
    code = _DEFAULT_CODE
    try:
        globals_, name, rest = find_verb(argv)
        if name is None or globals_.get("help") or globals_.get("version"):
            return _general_help(globals_, rest)
        verb = verbs.names()[name]
        code = verb.code
        return invoke(verb, rest, globals_)
    except BayplanError as error:
        return _show(str(error), debug, code=getattr(error, "exit_code", code))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return code
    except ImportError as error:
        return _show(_missing_module(error), debug, code=code)
    except OSError as error:
        return _show(_system_error(error), debug, code=code)
    except Exception as error:
        kind, message = explain(error)
        if kind != "bug":
            return _show(message, debug, code=code)
        hint = "" if debug else " (--debug shows the trace)"
        return _show(f"this is a bug: {type(error).__name__}: {error}{hint}", debug, code=code)


def find_verb(argv: Sequence[str]) -> tuple[dict[str, str], str | None, list[str]]:
    """Split a command line into global options, the verb's name (one or two words) and the rest; raises Invalid."""
    known = verbs.names()
    read = split(argv, (*verbs.GLOBAL, verbs.VERSION), interspersed=False)
    given = {name: values[-1] for name, values in read.values.items()}
    words = list(read.arguments)
    if not words:
        return given, None, []
    pair = " ".join(words[:2])
    if pair in known:
        return given, pair, words[2:]
    if words[0] in known:
        return given, words[0], words[1:]
    if words[0] == "help" or given.get("help"):
        return given, None, words[1:]
    nouns = {name.split()[0] for name in known if " " in name}
    if words[0] in nouns:
        below = {name.split()[1]: None for name in known if name.startswith(f"{words[0]} ")}
        if len(words) > 1 and not words[1].startswith("-"):
            raise Invalid(f"{words[0]!r} has no verb {words[1]!r}{nearest(words[1], below)}; it has {', '.join(sorted(below))}")
        if "--help" in words[1:]:
            return {**given, "help": "true"}, None, words[:1]
        raise Invalid(f"{words[0]!r} needs a verb: {', '.join(sorted(below))}")
    raise Invalid(f"there is no verb {words[0]!r}{nearest(words[0], dict.fromkeys((*known, *nouns)))}; `bayplan --help` lists them")


def invoke(verb: Verb, argv: Sequence[str], globals_: dict[str, str]) -> int:
    """Read the verb's options and arguments and call its handler; raises what the handler raises, and Invalid."""
    taken = {option.short for option in verb.options}
    common = [each._replace(short="" if each.short in taken else each.short) for each in verbs.GLOBAL]
    read = split(argv, (*verb.options, *common), interspersed=not verb.options_first)
    if "help" in read.values or (verb.options_first and argv[:1] == ["--help"]):
        from bayplan.cli.help import usage

        print(usage(verb))
        return 0
    least, most = bounds(verb.arguments)
    if len(read.arguments) < least or (most >= 0 and len(read.arguments) > most):
        wanted = f"takes {verb.arguments}" if verb.arguments else "takes no argument"
        raise Invalid(f"`bayplan {verb.name}` {wanted}; see `bayplan {verb.name} --help`")
    root = read.values.get("root", (globals_.get("root") or os.environ.get("BAYPLAN_ROOT") or DEFAULT_ROOT,))[-1]
    driver = read.values.get("storage-driver", (globals_.get("storage-driver", ""),))[-1]
    if driver:
        os.environ["BAYPLAN_STORAGE_DRIVER"] = driver
    debug = "debug" in read.values or "debug" in globals_
    return _handler(verb)(Call(verb, read.values, read.arguments, os.path.abspath(root), debug))


def _handler(verb: Verb) -> Callable[[Call], int]:
    module, _, function = verb.handler.partition(":")
    found: Callable[[Call], int] = getattr(__import__(f"bayplan.cli.{module}", fromlist=[function]), function)
    return found


def _general_help(globals_: dict[str, str], words: list[str]) -> int:
    if globals_.get("version"):
        from bayplan.cli.system import version_text

        print(f"bayplan {version_text()}")
        return 0
    from bayplan.cli.help import overview

    print(overview(words))
    return 0


def _system_error(error: OSError) -> str:
    import errno

    where = f"{error.filename}: " if error.filename else ""
    remedy = "; free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{where}{(error.strerror or str(error)).lower()}{remedy}"


def _missing_module(error: ImportError) -> str:
    name = (error.name or str(error)).partition(".")[0].lstrip("_")
    if name == "bayplan":
        return f"this is a bug: {error}"
    return f"this Python ({sys.executable}) has no module {name!r}; install all of its standard library (Debian: the package python3)"


def _show(message: str, debug: bool, *, code: int) -> int:
    """Write the message to stderr, its control characters escaped: parts of a message may come from an image or a registry."""
    if debug:
        import traceback

        traceback.print_exc()
    shown = "".join(char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in message)
    os.write(2, f"bayplan: {shown}\n".encode("utf-8", "backslashreplace"))
    return code
