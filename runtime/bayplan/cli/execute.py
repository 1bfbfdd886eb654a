"""`exec`: one more process in a running container."""

from __future__ import annotations

import os
from contextlib import nullcontext

from bayplan.cli.call import Call
from bayplan.cli.variables import environment
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    import signal as _signal

    from bayplan.cli.relay import Ends
    from bayplan.kernel.sandbox import Created
    from bayplan.supervise.pump import Keys
else:
    import _signal  # without the enumerations of `signal`


def execute(call: Call) -> int:
    """Run the command; its exit status is ours, unless it is detached. Raises Conflict where the container does not run."""
    attended = not call.flag("detach")
    terminal = call.flag("tty") and attended
    if terminal and call.flag("interactive") and not os.isatty(0):
        raise Invalid("exec: standard input is not a terminal; leave out --tty")
    variables = environment(call.many("env"), call.many("env-file"), os.environ)
    state = call.state()
    from bayplan.cli.relay import open_ends
    from bayplan.engine import containers
    from bayplan.engine import execute as engine

    record = containers.find(state, call.arguments[0])
    wanted = engine.process(
        state,
        record,
        call.arguments[1:],
        user=call.text("user") if call.given("user") else None,
        environment=tuple(sorted(variables.items())),
        working_dir=call.text("workdir") if call.given("workdir") else None,
        tty=terminal,
        privileged=call.flag("privileged"),
    )
    ends = open_ends(attended=attended, interactive=call.flag("interactive"), terminal=terminal)
    created = engine.enter(state, record, wanted, stdio=None if terminal else ends.inside)
    return _attend(call, created, ends) if attended else _leave(created, ends)


def _attend(call: Call, created: Created, ends: Ends) -> int:
    """Copy both ways, with our signals passed on, until the process has ended, or is left running by the keys that detach."""
    from bayplan.cli.relay import Left, Relay, set_size
    from bayplan.engine.execute import exit_code
    from bayplan.kernel import sandbox

    started = sandbox.start(created)
    ends.close_inside()
    if started.terminal >= 0:
        ends = ends._replace(stdin=os.dup(started.terminal) if call.flag("interactive") else -1, stdout=started.terminal)
    typing = started.terminal >= 0 and call.flag("interactive")
    if typing:
        from bayplan.cli.terminal import Terminal

        lent = Terminal(0).raw(lambda rows, columns: set_size(started.terminal, rows, columns))
    else:
        _pass_signals_on(started.pid, started.pidfd)
    relay = Relay(ends, source=0 if call.flag("interactive") else -1, keys=_detaching(call) if typing else None)
    try:
        with lent if typing else nullcontext():
            return exit_code(relay.run(started.pid, started.pidfd))
    except Left:
        _tend(started.terminal)
        return 0


def _detaching(call: Call) -> Keys:
    from bayplan.cli.streams import detach_keys
    from bayplan.supervise.pump import DETACH, Keys

    keys = call.text("detach-keys")
    return Keys(detach_keys(keys) if keys else DETACH)


def _tend(terminal: int) -> None:
    """Leave a process behind that reads what is written to `terminal` until nobody has it any more: closed, it would hang up on them."""
    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)  # our own terminal hangs up on what is not yet in a session of its own
    if os.fork():
        return
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.set_blocking(terminal, True)
        while os.read(terminal, 65536):
            continue
    finally:
        os._exit(0)


def _leave(created: Created, ends: Ends) -> int:
    from bayplan.kernel import sandbox

    sandbox.start(created)
    ends.close_inside()
    return 0


def _pass_signals_on(pid: int, pidfd: int) -> None:
    """To our child only: once it is reaped its number may become another's. Before Linux 5.3 only the number is there."""
    from bayplan.kernel.linux import pidfd_send_signal

    def forward(number: int, _: object) -> None:
        try:
            if pidfd >= 0:
                pidfd_send_signal(pidfd, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return

    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2"):
        _signal.signal(getattr(_signal, f"SIG{name}"), forward)
