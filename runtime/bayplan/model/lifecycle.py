"""How a service starts, ends, is watched and restarted: `restart`, `healthcheck`, `depends_on`, `stop_signal`, `logging`."""

from __future__ import annotations

from bayplan.model import names, units
from bayplan.model.container import Dependency, Healthcheck, Logging, Restart
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
POLICIES = ("no", "always", "on-failure", "unless-stopped")
_HEALTHCHECK = ("test", "interval", "timeout", "retries", "start_period", "start_interval", "disable")
_SIGNALS = frozenset(
    "HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CLD CONT STOP TSTP TTIN TTOU URG"
    " XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS".split()
)
_REALTIME = r"RTM(?:IN(?:\+\d{1,2})?|AX(?:-\d{1,2})?)"
_LOG_OPTIONS = {
    "json-file": frozenset({"max-size", "max-file"}),
    "journald": frozenset({"tag"}),
    "syslog": frozenset({"syslog-address", "syslog-facility", "syslog-format", "tag"}),
    "none": frozenset(),
}


def parse_restart(node: Node, scope: Scope) -> Restart:
    """`no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`; false is what YAML 1.1 makes of `no`."""
    if node.value is False or node.value == "":
        return Restart()
    name, colon, attempts = node.text().partition(":")
    if name not in POLICIES or (colon and name != "on-failure"):
        raise node.expected(f"one of {', '.join(POLICIES)} or on-failure:N")
    return Restart(name, Node(attempts, node.place).integer(0, 2**31) if colon else 0)


def restart_text(restart: Restart) -> str:
    return f"{restart.name}:{restart.attempts}" if restart.attempts else restart.name


def parse_healthcheck(node: Node, scope: Scope) -> Healthcheck:
    """Docker's health check; `disable: true` is the test NONE. Without a test it is the image's, with other times."""
    members = node.members(_HEALTHCHECK)
    test = _test(members["test"]) if "test" in members else ()
    if "disable" in members and members["disable"].boolean():
        test = ("NONE",)
    times = {key: units.duration(members[key]) for key in ("interval", "timeout", "start_period", "start_interval") if key in members}
    times = {key: value for key, value in times.items() if value or key == "start_period"}  # Docker: 0 is the default
    retries = members["retries"].integer(0, 2**31) if "retries" in members else 0
    return Healthcheck(test=test, **times, **({"retries": retries} if retries else {}))


def _test(node: Node) -> tuple[str, ...]:
    if isinstance(node.value, str):
        return ("NONE",) if node.value == "NONE" else ("CMD-SHELL", node.text())
    words = tuple(element.scalar() for element in node.elements())
    if words and (words[0] not in ("NONE", "CMD", "CMD-SHELL") or (len(words) == 1) != (words[0] == "NONE")):
        raise node.expected("[NONE], [CMD, program, arguments...] or [CMD-SHELL, command]")
    if words[:1] == ("CMD-SHELL",) and len(words) != 2:
        raise node.expected("one command after CMD-SHELL")
    return words


def healthcheck_document(check: Healthcheck | None) -> dict[str, Any] | None:
    if check is None:
        return None
    document: dict[str, Any] = {"test": list(check.test)} if check.test else {}
    for key in ("interval", "timeout", "start_period", "start_interval"):
        if getattr(check, key) != Healthcheck._field_defaults[key]:
            document[key] = units.duration_text(getattr(check, key))
    return {**document, **({"retries": check.retries} if check.retries != 3 else {})}


def parse_depends_on(node: Node, scope: Scope) -> tuple[Dependency, ...]:
    """Sorted by the container's name."""
    if isinstance(node.value, (list, tuple)):
        entries = [(element.word(), Node(None, element.place)) for element in node.elements()]
    else:
        entries = node.entries()
    return tuple(sorted({_dependency(key, options, scope) for key, options in entries}))


def _dependency(key: str, node: Node, scope: Scope) -> Dependency:
    members = node.members(("condition", "restart", "required"))
    required = members["required"].boolean() if "required" in members else True
    known = scope.containers is None or key in scope.containers or required
    return Dependency(
        scope.container(node, names.service(Node(key, node.place))) if known else key,
        members["condition"].choice(*CONDITIONS) if "condition" in members else "service_started",
        members["restart"].boolean() if "restart" in members else False,
        required,
    )


def depends_on_document(dependencies: tuple[Dependency, ...]) -> dict[str, Any]:
    return {
        each.container: {
            "condition": each.condition,
            **({"restart": True} if each.restart else {}),
            **({} if each.required else {"required": False}),
        }
        for each in dependencies
    }


def parse_stop_signal(node: Node, scope: Scope) -> str:
    """A signal as SIGTERM or as its number (signal(7)), in one spelling."""
    text = node.word().upper()
    if text.isdecimal():
        return str(node.integer(1, 64))
    name = text[3:] if text.startswith("SIG") else text
    if name not in _SIGNALS and not fullmatch(_REALTIME, name):
        raise node.expected("a signal such as SIGTERM or 15")
    return f"SIG{name}"


def parse_logging(node: Node, scope: Scope) -> Logging:
    """driver and its options; an option that the driver does not know is an error."""
    members = node.members(("driver", "options"))
    driver = members["driver"].choice(*_LOG_OPTIONS) if "driver" in members else "json-file"
    options = members["options"].members(_LOG_OPTIONS[driver]) if "options" in members else {}
    if "max-size" in options and units.size(options["max-size"]) < 1:
        raise options["max-size"].expected("a size of at least one byte")
    if "max-file" in options:
        options["max-file"].integer(1, 1000)
    return Logging(driver, tuple(sorted((key, each.line()) for key, each in options.items())))


def logging_document(logging: Logging) -> dict[str, Any]:
    return {"driver": logging.driver, **({"options": dict(logging.options)} if logging.options else {})}
