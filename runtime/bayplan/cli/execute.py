"""`exec`: one more process in a running container."""

from __future__ import annotations

import os

from bayplan.cli.call import Call
from bayplan.cli.variables import environment
from bayplan.errors import Invalid


def execute(call: Call) -> int:
    """Run the command; its exit status is ours, unless it is detached."""
    if call.flag("tty") and call.flag("interactive") and not call.flag("detach") and not os.isatty(0):
        raise Invalid("exec: standard input is not a terminal; leave out --tty")
    variables = environment(call.many("env"), call.many("env-file"), os.environ)
    state = call.state()
    from bayplan.engine import containers
    from bayplan.engine import execute as engine

    return engine.run(
        state,
        containers.find(state, call.arguments[0]),
        call.arguments[1:],
        user=call.text("user") or None,
        environment=tuple(sorted(variables.items())),
        working_dir=call.text("workdir") or None,
        tty=call.flag("tty"),
        interactive=call.flag("interactive"),
        privileged=call.flag("privileged"),
        detach=call.flag("detach"),
    )
