"""The table of `bayplan-oci`'s commands: runc's names, options and usage (runc(8)). Handlers are named, and loaded when called."""

from __future__ import annotations

from bayplan.cli.options import Option, Values, flag, many, number, text
from bayplan.model.value import NamedTuple

ROOT = "/run/bayplan-oci"

GLOBAL = (
    flag("help -h", "show this help"),
    flag("version -v", "show the version"),
    flag("debug", "accepted; what is said does not depend on it"),
    text("log", "FILE", "append errors to this file, too"),
    text("log-format", "FORMAT", "text or json"),
    text("root", "DIR", f"where the state of containers is ({ROOT})"),
    text("criu", "PATH", "accepted; there is no checkpoint"),
    flag("systemd-cgroup", "cgroupsPath is SLICE:PREFIX:NAME, and systemd makes the cgroup"),
    text("cgroup-manager", "NAME", "cgroupfs or systemd, as --systemd-cgroup"),
    text("rootless", "WHEN", "true, false or auto; accepted, and only root can run containers"),
)

_BUNDLE = text("bundle -b", "DIR", "the bundle's directory (the current one)")
_CONSOLE = text("console-socket", "PATH", "the unix socket that is sent the terminal's master")
_PID_FILE = text("pid-file", "FILE", "write the process's number to it")
_PRESERVE = number("preserve-fds", "pass this many descriptors on, from 3 on")
_DETACH = flag("detach -d", "do not wait for the process")
_CREATE = (
    _BUNDLE,
    _CONSOLE,
    _PID_FILE,
    _PRESERVE,
    flag("no-pivot", "refused: a root that was not pivoted to can be left"),
    flag("no-new-keyring", "keep the caller's session keyring"),
)
_FORMAT = text("format -f", "FORMAT", "table or json")
_LIMITS = (
    number("blkio-weight", "weight of block I/O, 10 to 1000"),
    number("cpu-period", "period of the CPU's quota in microseconds"),
    number("cpu-quota", "CPU time in a period in microseconds"),
    number("cpu-burst", "CPU time that may be saved up, in microseconds"),
    number("cpu-share", "CPU shares"),
    number("cpu-rt-period", "period of the realtime quota in microseconds"),
    number("cpu-rt-runtime", "realtime quota in microseconds"),
    number("cpu-idle", "1 makes it run only where nothing else wants to"),
    text("cpuset-cpus", "LIST", "processors"),
    text("cpuset-mems", "LIST", "memory nodes"),
    text("memory", "BYTES", "memory"),
    text("memory-reservation", "BYTES", "memory that is left to it under pressure"),
    text("memory-swap", "BYTES", "memory and swap together, -1 for no limit"),
    text("kernel-memory", "BYTES", "of no effect: the kernel has none any more"),
    text("kernel-memory-tcp", "BYTES", "of no effect: the kernel has none any more"),
    number("pids-limit", "processes and threads"),
    text("l3-cache-schema", "SCHEMA", "refused: groups of resctrl are not supported"),
    text("mem-bw-schema", "SCHEMA", "refused: groups of resctrl are not supported"),
)


class Command(NamedTuple):
    """One command. `handler` is "module:function" beneath bayplan.oci; `code` the exit status of an error."""

    name: str
    handler: str
    usage: str
    help: str
    options: tuple[Option, ...] = ()
    options_first: bool = False
    anyone: bool = False
    code: int = 1

    @property
    def arguments(self) -> tuple[int, int]:
        """The least and the most arguments that `usage` allows; -1 is any number."""
        words = self.usage.split()
        return sum(not word.startswith("[") for word in words), -1 if "..." in self.usage else len(words)


class Invocation(NamedTuple):
    """One call of a command: its options, its arguments, and the global options."""

    values: Values
    arguments: tuple[str, ...]
    globals: dict[str, str]

    def flag(self, name: str) -> bool:
        return self.values.get(name, ("false",))[-1] == "true"

    def given(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, (default,))[-1]

    def number(self, name: str) -> int:
        return int(self.text(name, "0"))

    def many(self, name: str) -> tuple[str, ...]:
        return self.values.get(name, ())

    @property
    def root(self) -> str:
        return self.globals.get("root") or ROOT

    @property
    def systemd(self) -> bool:
        return self.globals.get("systemd-cgroup") == "true" or self.globals.get("cgroup-manager") == "systemd"


COMMANDS = (
    Command("create", "create:create", "ID", "create a container", _CREATE),
    Command("start", "create:start", "ID", "execute the process of a container that was created"),
    Command(
        "run",
        "create:run",
        "ID",
        "create a container and run it",
        (
            *_CREATE,
            _DETACH,
            flag("keep", "do not delete it when it has ended"),
            flag("no-subreaper", "do not reap what it leaves behind"),
        ),
    ),
    Command("state", "control:state", "ID", "show a container's state"),
    Command("kill", "control:kill", "ID [SIGNAL]", "send a signal (TERM) to a container", (flag("all -a", "to all its processes"),)),
    Command("delete", "control:delete", "ID", "delete a container", (flag("force -f", "kill it first, and do not mind if there is none"),)),
    Command(
        "exec",
        "execute:execute",
        "ID [COMMAND] [ARG...]",
        "run one more process in a container",
        (
            _CONSOLE,
            text("cwd", "DIR", "working directory"),
            many("env -e", "NAME=VALUE", "a variable"),
            flag("tty -t", "give it a terminal"),
            text("user -u", "UID[:GID]", "user"),
            many("additional-gids -g", "GID", "a further group"),
            text("process -p", "FILE", "a process object of the specification, instead of all other options"),
            _DETACH,
            _PID_FILE,
            text("process-label", "LABEL", "SELinux label"),
            text("apparmor", "PROFILE", "AppArmor profile"),
            flag("no-new-privs", "set no_new_privs"),
            many("cap -c", "NAME", "a further capability"),
            _PRESERVE,
            many("cgroup", "PATH", "a cgroup beneath the container's"),
            flag("ignore-paused", "although the container is paused"),
        ),
        options_first=True,
        code=255,
    ),
    Command("ps", "control:processes", "ID [OPTION...]", "show a container's processes", (_FORMAT,), options_first=True),
    Command("list", "control:show", "", "list containers", (_FORMAT, flag("quiet -q", "only ids"))),
    Command("pause", "control:pause", "ID", "suspend a container's processes"),
    Command("resume", "control:resume", "ID", "let a paused container go on"),
    Command(
        "update",
        "resources:update",
        "ID",
        "change a container's limits",
        (text("resources -r", "FILE", "a resources object of the specification, - for standard input"), *_LIMITS),
    ),
    Command(
        "events",
        "resources:events",
        "ID",
        "show what a container uses, and when it runs out of memory",
        (text("interval", "SECONDS", "between two measurements (5s)"), flag("stats", "once")),
    ),
    Command("features", "describe:features", "", "show what this runtime can do", anyone=True),
    Command("spec", "describe:spec", "", "write a config.json to start from", (_BUNDLE, flag("rootless", "refused"),), anyone=True),
    Command("checkpoint", "describe:absent", "[ARG...]", "not supported"),
    Command("restore", "describe:absent", "[ARG...]", "not supported"),
)  # fmt: skip
