"""What the runtime is: features, a configuration to start from, version and usage."""

from __future__ import annotations

import errno
import os

from bayplan.cli.output import json_text
from bayplan.cli.version import VERSION
from bayplan.errors import Conflict, Unavailable
from bayplan.kernel import linux, mountoptions, namespaces
from bayplan.model.bundle_document import config_document
from bayplan.model.capabilities import NAMES
from bayplan.model.runtime import (
    OCI_VERSION,
    Capabilities,
    Config,
    DeviceRule,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    User,
)
from bayplan.oci.commands import COMMANDS, GLOBAL, Command, Invocation

_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_ACTIONS = ("ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "NOTIFY", "TRACE", "TRAP")
_OPERATORS = ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE")
_ARCHITECTURES = (
    "AARCH64", "ARM", "LOONGARCH64", "M68K", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PARISC", "PARISC64",
    "PPC", "PPC64", "PPC64LE", "RISCV64", "S390", "S390X", "SH", "SHEB", "X32", "X86", "X86_64",
)  # fmt: skip
_FLAGS = {"LOG": 2, "SPEC_ALLOW": 4, "TSYNC": 1, "WAIT_KILLABLE_RECV": 32 | 8}  # the last one goes with a listener (seccomp(2))
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GRANTED = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_KERNEL = ("nosuid", "noexec", "nodev")
_MOUNTS = (
    Mount("/proc", "proc", "proc", ()),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Mount("/dev/shm", "tmpfs", "shm", (*_KERNEL, "mode=1777", "size=65536k")),
    Mount("/dev/mqueue", "mqueue", "mqueue", _KERNEL),
    Mount("/sys", "sysfs", "sysfs", (*_KERNEL, "ro")),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_KERNEL, "relatime", "ro")),
)
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def version() -> int:
    """As engines read it: runc's lines."""
    print(f"bayplan-oci version {VERSION}\nspec: {OCI_VERSION}")
    return 0


def features(call: Invocation) -> None:
    """The specification's features document (features.md)."""
    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": _HOOKS,
        "mountOptions": sorted(mountoptions.OPTIONS),
        "linux": {
            "namespaces": sorted(namespaces.FLAGS),
            "capabilities": NAMES,
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{name}" for name in _ACTIONS],
                "operators": [f"SCMP_CMP_{name}" for name in _OPERATORS],
                "archs": [f"SCMP_ARCH_{name}" for name in _ARCHITECTURES],
                "knownFlags": [f"SECCOMP_FILTER_FLAG_{name}" for name in _FLAGS],
                "supportedFlags": [f"SECCOMP_FILTER_FLAG_{name}" for name, number in _FLAGS.items() if _kernel_knows(number)],
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"bayplan.version": VERSION},
        "potentiallyUnsafeConfigAnnotations": ["bayplan."],  # a prefix
    }
    print(json_text(document, indent=2))


def _kernel_knows(flags: int) -> bool:
    try:
        linux.seccomp_probe(flags)
    except OSError as error:
        return error.errno == errno.EFAULT
    return True


def spec(call: Invocation) -> None:
    """Write config.json into the bundle; Conflict where there is one."""
    if call.flag("rootless"):
        raise Unavailable("spec --rootless: only root can run containers")
    path = os.path.join(call.text("bundle", "."), "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as error:
        raise Conflict(f"writing {path}: it exists; remove it first") from error
    with open(fd, "w", encoding="utf-8") as file:
        file.write(json_text(config_document(example()), indent=2) + "\n")


def example() -> Config:
    """A shell in a terminal, read-only, with little that it may do: what runc's `spec` writes, but for its ambient capabilities."""
    sets = Capabilities(bounding=_GRANTED, effective=_GRANTED, permitted=_GRANTED)
    shell = Process(("sh",), (_PATH, "TERM=xterm"), "/", User(), terminal=True, capabilities=sets, no_new_privileges=True)
    kinds = ("pid", "network", "ipc", "uts", "mount", "cgroup")
    return Config(
        shell._replace(rlimits=(Rlimit("RLIMIT_NOFILE", 1024, 1024),)),
        Root("rootfs", True),
        "bayplan",
        mounts=_MOUNTS,
        linux=Linux(
            tuple(Namespace(kind) for kind in kinds),
            resources=Resources(devices=(DeviceRule(False),)),
            masked_paths=_MASKED,
            readonly_paths=_READONLY,
        ),
    )


def absent(call: Invocation) -> None:
    raise Unavailable("checkpoint and restore are not supported; stop the container, and start it again")


def usage(command: Command | None) -> int:
    """The help of one command, or of all."""
    if command is None:
        rows = [(each.name, each.help) for each in COMMANDS]
        print("Usage: bayplan-oci [OPTIONS] COMMAND ...\n\nAn OCI runtime with runc's command line.\n\nCommands:\n" + _rows(rows))
        print(f"\nOptions:\n{_rows(_options(GLOBAL))}\n\n`bayplan-oci COMMAND --help` shows more.")
        return 0
    print(f"Usage: bayplan-oci {command.name} [OPTIONS] {command.usage}\n\n{command.help}")
    if command.options:
        print(f"\nOptions:\n{_rows(_options(command.options))}")
    return 0


def _options(options: tuple[object, ...]) -> list[tuple[str, str]]:
    from bayplan.cli.options import Option

    rows = []
    for option in options:
        assert isinstance(option, Option)
        short = f"-{option.short}, " if option.short else "    "
        rows.append((f"{short}--{option.name} {option.metavar}".rstrip(), option.help))
    return rows


def _rows(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name.ljust(width)}  {text}" for name, text in rows)
