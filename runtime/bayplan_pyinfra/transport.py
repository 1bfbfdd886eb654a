"""Carries a request to a host of pyinfra, and the runtime's archive to one that does not have it yet.

A request may hold secrets, so it travels as a file in a directory that only the connecting user may enter, and not on a
command line.
"""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.api.exceptions import OperationError
from pyinfra.api.host import Host

CODE = "import sys; sys.path.insert(0, sys.argv[1]); from bayplan.task import run_in_place; run_in_place(sys.argv[1], sys.argv[2:])"
INSTALL = """\
import hashlib, sys
archive = open(sys.argv[1], "rb").read()
assert hashlib.sha256(archive).hexdigest() == sys.argv[2], "the runtime that arrived is not the one that was sent"
sys.path.insert(0, sys.argv[1])
from bayplan.install import install
install(archive, sys.argv[2], sys.argv[3])
"""
MISSING = "bayplan-runtime-is-missing"


def find_archive() -> tuple[Path, str]:
    """The archive to send and its digest: what pip installed with the collection, or built from a checkout."""
    import bayplan

    packages = Path(str(bayplan.__file__)).resolve().parent.parent
    shipped = packages / "ansible_collections" / "bayplan" / "containers" / "files" / "bayplan.zip"
    if shipped.exists():
        return shipped, shipped.with_suffix(".zip.sha256").read_text().split()[0]
    import archive

    path = archive.cached()
    return path, path.stem


def call(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Have `host` run a request; returns the task's result. Raises OperationError with the host's message where it failed.

    With `check` nothing of it stays on a host that has no runtime: the archive runs from where it was sent, and goes.
    """
    _, digest = find_archive()
    runtime = shlex.quote(f"{request['root']}/runtime/{digest}")
    directory = _run(host, "mktemp -d", own=True)
    try:
        _put(host, io.BytesIO(json.dumps(request).encode()), f"{directory}/request")
        told = run_command(runtime, request["root"], "request", f"{directory}/request")
        answer = _run(host, f"if [ -e {runtime}/lock ]; then {told}; else echo {MISSING}; fi")
        if answer == MISSING:
            answer = _send_and_run(host, request, directory, runtime)
    finally:
        _run(host, f"rm -rf {shlex.quote(directory)}")
    result: dict[str, Any] = json.loads(answer)
    if result.get("failed"):
        raise OperationError(result["msg"])
    return result


def run_command(runtime: str, root: str, *arguments: str) -> str:
    """A shell command that runs a runtime with the interpreter on record; `runtime` is a word of the shell: quoted, or "$r"."""
    recorded = shlex.quote(f"{root}/runtime/interpreter")
    words = " ".join(shlex.quote(word) for word in arguments)
    return f'python=$(cat {recorded} 2>/dev/null); "${{python:-python3}}" -I -S -c {shlex.quote(CODE)} {runtime} {words}'


def put_archive(host: Host, path: Path) -> str:
    """Send a file into a directory of its own on the host; returns its path there. The caller removes the directory."""
    directory = _run(host, "mktemp -d", own=True)
    _put(host, str(path), f"{directory}/{path.name}")
    return f"{directory}/{path.name}"


def _send_and_run(host: Host, request: dict[str, Any], directory: str, runtime: str) -> str:
    path, digest = find_archive()
    sent = f"{directory}/bayplan.zip"
    _put(host, str(path), sent)
    if not request["check"]:
        words = ("-I", "-S", "-c", INSTALL, sent, digest, request["root"])
        _run(host, "python3 " + " ".join(shlex.quote(word) for word in words))
    runs_from = shlex.quote(sent) if request["check"] else runtime
    return _run(host, run_command(runs_from, request["root"], "request", f"{directory}/request"))


def _put(host: Host, source: io.BytesIO | str, target: str) -> None:
    if not host.put_file(source, target):
        raise OperationError(f"sending a file to {host.name}: it did not arrive")


def _run(host: Host, command: str, *, own: bool = False) -> str:
    """Run a command with the operation's sudo or su, or as the connecting user (`own`); returns its output."""
    given = {} if own else dict(host.current_op_global_arguments or {})
    arguments = {key: value for key, value in given.items() if key in CONNECTOR_ARGUMENT_KEYS}
    status, output = host.run_shell_command(command, print_output=False, print_input=False, **arguments)
    if not status:
        raise OperationError("\n".join(output.stderr_lines[-5:]) or f"{command.split()[0]} did not work on {host.name}")
    return "\n".join(output.stdout_lines)
