"""exec: one more process in a container that runs."""

from __future__ import annotations

import os

from bayplan.errors import Conflict, Invalid
from bayplan.kernel import sandbox
from bayplan.kernel.cgroups import Cgroup
from bayplan.model import bundle_parser
from bayplan.model.runtime import Capabilities, Config, Process, User
from bayplan.oci import agent, bundle, cgroup, console, control, filters, record
from bayplan.oci.commands import Invocation
from bayplan.oci.record import Record


def execute(call: Invocation) -> int:
    """Run a process; its exit status is ours, unless it is detached. Conflict where the container does not run."""
    console.forget_inherited(keep=call.number("preserve-fds"))
    found = record.read(call.root, call.arguments[0])
    said = control.status(call.root, found)
    if said == "paused" and not call.flag("ignore-paused"):
        raise Conflict(f"executing in container {found.id}: it is paused; resume it first, or give --ignore-paused")
    if said not in ("running", "paused"):  # in a created one process 1 is the interpreter still, which it could trace
        raise Conflict(f"executing in container {found.id}: it is {said}; container not running")
    config = bundle.load_kept(call.root, found)
    wanted = _process(call, config.process)
    detached, console_path = call.flag("detach"), call.text("console-socket")
    streams = console.Streams()
    created = _enter(call, found, config, wanted, streams.open(wanted, console_path, detached=detached))
    created, terminal = sandbox.wait_ready(created)
    try:
        if terminal >= 0 and console_path:
            console.give(console_path, terminal)
        if call.text("pid-file"):
            record.write_file(os.path.abspath(call.text("pid-file")), str(created.pid), 0o644)
    except BaseException:
        sandbox.abandon(created)
        raise
    streams.fit(-1 if console_path else terminal)
    sandbox.release(created)
    return 0 if detached else streams.attend(created.pid, created.pidfd, -1 if console_path else terminal)


def _enter(call: Invocation, found: Record, config: Config, wanted: Process, stdio: console.Stdio) -> sandbox.Created:
    from bayplan.kernel.pids import is_alive, open_pidfd

    pidfd = open_pidfd(found.pid)
    try:
        if not is_alive(found.handle):  # looked at once the pidfd is held: it cannot become another's in between
            raise Conflict(f"executing in container {found.id}: it has just ended; container not running")
        return sandbox.enter(
            found.pid,
            wanted,
            pidfd=pidfd,
            cgroup=_place(call, found),
            stdio=stdio,
            seccomp=filters.program(call.root, config.linux.seccomp, wanted.capabilities),
            personality=config.linux.personality,
            preserve_fds=call.number("preserve-fds"),
            profile=config.linux.seccomp,
            listen=agent.listening(found, config, "running"),
        )
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _place(call: Invocation, found: Record) -> Cgroup:
    own = cgroup.find(found)
    if own is None:
        raise Conflict(f"executing in container {found.id}: its cgroup is gone; container not running")
    return cgroup.inside(own, found.pid, call.many("cgroup"))


def _process(call: Invocation, own: Process) -> Process:
    """What --process says, or the container's own process with what the options change."""
    if call.given("process"):
        path = call.text("process")
        return bundle_parser.parse_process(bundle.document(bundle.read(path), path), reading=f"reading {path}")
    words = call.arguments[1:]
    if not words:
        raise Invalid("exec: neither a command nor --process says what to execute")
    names = tuple(name.upper() for name in call.many("cap"))
    return own._replace(
        args=words,
        cwd=call.text("cwd") or own.cwd,
        env=(*own.env, *call.many("env")),
        terminal=call.flag("tty"),
        console_size=None,
        user=_user(call, own),
        no_new_privileges=own.no_new_privileges or call.flag("no-new-privs"),
        apparmor_profile=call.text("apparmor") or own.apparmor_profile,
        selinux_label=call.text("process-label") or own.selinux_label,
        capabilities=_with(own.capabilities, names),
    )


def _with(own: Capabilities, names: tuple[str, ...]) -> Capabilities:
    """runc(8): a further capability goes into all sets but the inheritable, which stays as it is (CVE-2022-29162)."""
    if not names:
        return own
    add = {field: tuple(dict.fromkeys((*getattr(own, field), *names))) for field in ("bounding", "effective", "permitted")}
    return own._replace(**add)


def _user(call: Invocation, own: Process) -> User:
    user = own.user
    if call.given("user"):
        uid, colon, gid = call.text("user").partition(":")
        user = user._replace(uid=_number(uid, "--user"), gid=_number(gid, "--user") if colon else user.gid)
    groups = tuple(_number(gid, "--additional-gids") for gid in call.many("additional-gids"))
    return user._replace(additional_gids=(*user.additional_gids, *groups))


def _number(text: str, option: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 32):
        raise Invalid(f"{option} {text}: numbers from 0 to 4294967295 are users and groups here")
    return int(text)
