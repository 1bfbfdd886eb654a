"""What a container's monitor is told: descriptors, commands to become, and the settings that may change while it runs."""

from __future__ import annotations

import os
import sys

from bayplan.engine import endpoints, files
from bayplan.engine.containers import Record
from bayplan.engine.endpoints import Held
from bayplan.engine.state import State
from bayplan.errors import Invalid, Unavailable
from bayplan.model.container import Container, Healthcheck
from bayplan.model.image import ImageConfig
from bayplan.store.records import EndpointRow
from bayplan.store.status import Started
from bayplan.supervise import client
from bayplan.supervise.launch import HealthCheck, MonitorConfig, MonitorSettings

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}
LOG_MAX_SIZE = 10 << 20
LOG_MAX_FILES = 3
_FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp security console solaris-cron"
    " local0 local1 local2 local3 local4 local5 local6 local7"
).split()


def runtime() -> tuple[str, str]:
    """(interpreter, directory that holds bayplan/): what this very process runs on, with links resolved."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.realpath(sys.executable), os.path.dirname(package)


def command(state: State, *words: str) -> tuple[str, ...]:
    """A command line of this runtime on this state."""
    interpreter, directory = runtime()
    return (interpreter, "-I", "-S", f"{directory}/bayplan/__main__.py", "--root", state.root.path, *words)


def healthcheck(spec: Container, image: ImageConfig) -> Healthcheck | None:
    """The check that applies: the declared one, with the image's test where it names none, else the image's."""
    declared, inherited = spec.healthcheck, image.healthcheck
    found = inherited if declared is None else declared
    if declared is not None and not declared.test and inherited is not None:
        found = declared._replace(test=inherited.test)
    return None if found is None or not found.test or found.test[0] == "NONE" else found


def settings(state: State, record: Record, image: ImageConfig, leases: tuple[EndpointRow, ...]) -> MonitorSettings:
    """What follows a change of the declaration without a restart."""
    spec = record.spec
    check = healthcheck(spec, image)
    options = dict(spec.logging.options)
    return MonitorSettings(
        restart=spec.restart.name,
        restart_limit=spec.restart.attempts,
        health=_health(check) if check else None,
        log_max_size=size(options.get("max-size", "")) or LOG_MAX_SIZE,
        log_max_files=int(options.get("max-file", LOG_MAX_FILES)),
        name_files=tuple(state.root.network_names(lease.network) for lease in leases),
        upstreams=files.upstreams(spec),
        internal=endpoints.internal_only(state, leases),
    )


def _health(check: Healthcheck) -> HealthCheck:
    return HealthCheck(
        check.interval / 1e9, check.timeout / 1e9, check.start_period / 1e9, check.start_interval / 1e9, check.retries
    )


def size(text: str) -> int:
    """Bytes of "10m", "1g" or "512k"; 0 for ""; raises Invalid."""
    digits = text.rstrip("bkmgBKMG")
    unit = text[len(digits) :].lower()
    if not text:
        return 0
    if not digits.isdigit() or unit not in _UNITS:
        raise Invalid(f"reading the log option max-size {text!r}: it is a number with k, m or g, such as 10m")
    return int(digits) * _UNITS[unit]


def config(
    state: State, record: Record, image: ImageConfig, leases: tuple[EndpointRow, ...], held: Held, started: Started
) -> MonitorConfig:
    """All but the descriptors of the container's own input and output."""
    check = healthcheck(record.spec, image)
    directory = state.root.container(record.id)
    driver, options = record.spec.logging.driver, dict(record.spec.logging.options)
    return MonitorConfig(
        id=record.id,
        name=record.name,
        directory=directory,
        pid=started.pid,
        settings=settings(state, record, image, leases),
        after_argv=command(state, "_exited", record.id),
        restart_argv=command(state, "_restart", record.id),
        health_argv=command(state, "_health", record.id) if check else (),
        started_ns=started.at,
        control_fd=client.listen(directory),
        ephemeral=record.spec.auto_remove,
        log_driver=driver,
        log_tag=options.get("tag", ""),
        log_target=_syslog_target(options.get("syslog-address", "")),
        log_format=options.get("syslog-format", ""),
        log_facility=_facility(options.get("syslog-facility", "daemon")),
        dns_udp_fds=held.dns_udp,
        dns_tcp_fds=held.dns_tcp,
        relays=held.relays,
        held_fds=held.fds,
    )


def _syslog_target(address: str) -> tuple[str, str, int]:
    """Docker's syslog-address: unix:///dev/log, udp://10.0.0.1:514, tcp://[::1]:601. Raises Invalid."""
    if not address:
        return "unix", "/dev/log", 0
    kind, _, rest = address.partition("://")
    if kind in ("unix", "unixgram"):
        return "unix", rest, 0
    host, _, port = rest.rpartition(":") if rest.count(":") == 1 or "]:" in rest else (rest, "", "514")
    if kind not in ("udp", "tcp") or not port.isdigit():
        raise Invalid(f"reading the log option syslog-address {address!r}: it is unix://PATH, udp://ADDRESS:PORT or tcp://ADDRESS:PORT")
    return kind, _numeric(host.strip("[]")), int(port)


def _numeric(host: str) -> str:
    """The address of a log server: the monitor itself looks no names up."""
    import _socket

    try:
        return str(_socket.getaddrinfo(host, None)[0][4][0])
    except OSError as error:
        raise Unavailable(f"looking up the log server {host}: {error.strerror}") from error


def _facility(name: str) -> int:
    if name.isdigit() and int(name) < 24:
        return int(name)
    if name not in _FACILITIES:
        raise Invalid(f"reading the log option syslog-facility {name!r}: it is none of {', '.join(_FACILITIES)}")
    return _FACILITIES.index(name)
