"""The OCI runtime-spec 1.2 `config.json`, read: bundle_document.py is the way back.

What the specification refuses is Invalid here, and what runc's specconv and validator refuse beyond it. What depends on the
host (paths that exist, controllers, modules for labels) is left to those who apply it.
"""

from __future__ import annotations

from bayplan.model import bundle_linux, bundle_resources
from bayplan.model.fields import INT32, UINT32, UINT64, Fields, shown
from bayplan.model.runtime import (
    HOOK_NAMES,
    INIT_ANNOTATION,
    SECCOMP_ANNOTATION,
    USER_ANNOTATION,
    Capabilities,
    Config,
    CpuAffinity,
    Hook,
    Hooks,
    IoPriority,
    Mount,
    Process,
    Resources,
    Rlimit,
    Root,
    Scheduler,
    User,
)
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RLIMITS = frozenset(
    f"RLIMIT_{name}"
    for name in "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK".split()
)
POLICIES = tuple(f"SCHED_{name}" for name in ("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"))
SCHEDULER_FLAGS = tuple(
    f"SCHED_FLAG_{name}" for name in "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX".split()
)
IO_CLASSES = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")
_IDS = range(UINT32.stop - 1)  # the last one is -1, which is nobody and means "unchanged" to setuid(2)
_CONSOLE = range(1 << 16)  # TIOCSWINSZ(2const)
_NUMBER_LIST = set("0123456789,- ")
_CAPABILITY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")


def parse_config(document: object) -> Config:
    """The whole of a config.json, from this program's `config_document` or another tool.

    Invalid says which member is wrong, as a path. Unknown members are ignored, as the specification demands.
    """
    given = Fields(document, reading="reading config.json")
    given.need("ociVersion", "process", "root")
    _check_version(given)
    annotations = dict(given.pairs("annotations"))
    user = annotations.pop(USER_ANNOTATION, "").split("\n")
    init = annotations.pop(INIT_ANNOTATION, "") == "true"
    builtin = annotations.pop(SECCOMP_ANNOTATION, "") == "default"
    process = _read_process(given.inside("process"))
    config = Config(
        process=process._replace(user=process.user._replace(username=user[0], additional_groups=tuple(user[1:]))),
        root=_read_root(given.inside("root")),
        hostname=given.text("hostname"),
        domainname=given.text("domainname"),
        mounts=tuple(_read_mount(mount) for mount in given.objects("mounts")),
        linux=bundle_linux.read_linux(given.inside("linux"), builtin=builtin),
        annotations=tuple(annotations.items()),
        init=init,
        hooks=_read_hooks(given.inside("hooks")),
    )
    _check_namespaces(given, config)
    return config


def parse_process(document: object, *, reading: str = "reading process.json") -> Process:
    """A `process` object on its own, which is what `exec --process` takes; Invalid as for `parse_config`, after `reading`."""
    return _read_process(Fields(document, reading=reading))


def parse_resources(document: object, *, reading: str = "reading the resources") -> Resources:
    """A `linux.resources` object on its own, which is what `update --resources` takes; Invalid as for `parse_config`."""
    return bundle_resources.read_resources(Fields(document, reading=reading))


def _check_version(given: Fields) -> None:
    version = given.text("ociVersion")
    numbers = version.split("-")[0].split("+")[0].split(".")
    if len(numbers) != 3 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise given.wrong("ociVersion", f"{shown(version)} is not a version such as 1.2.0")
    if numbers[0] != "1":
        raise given.wrong("ociVersion", f"{shown(version)} is of another major version than 1, which is understood here")


def _check_namespaces(given: Fields, config: Config) -> None:
    """What acts on a namespace needs one that is not the host's."""
    linux, there = config.linux, {namespace.type: namespace.path for namespace in config.linux.namespaces}
    needed: Mapping[str, tuple[str, object]] = {
        "hostname": ("uts", config.hostname),
        "domainname": ("uts", config.domainname),
        "linux.maskedPaths": ("mount", linux.masked_paths),
        "linux.readonlyPaths": ("mount", linux.readonly_paths),
        "linux.uidMappings": ("user", linux.uid_mappings),
        "linux.gidMappings": ("user", linux.gid_mappings),
        "linux.timeOffsets": ("time", linux.time_offsets),
    }
    for path, (kind, value) in needed.items():
        if value and kind not in there:
            raise given.wrong(path, f"it needs a namespace of type {kind}, which is not in linux.namespaces")
    if config.domainname and any(name.replace("/", ".") == "kernel.domainname" for name, _ in linux.sysctl):
        raise given.wrong("linux.sysctl.kernel.domainname", "domainname says it already; leave one of them out")
    for name, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        if there.get("user") == "" and not mappings:
            raise given.wrong(f"linux.{name}", "it is missing, and a new user namespace needs it")
    if there.get("time") and linux.time_offsets:
        raise given.wrong("linux.timeOffsets", "the namespace to join has offsets of its own")


def _read_root(root: Fields) -> Root:
    root.need("path")
    return Root(root.text("path"), root.flag("readonly"))


def _read_process(process: Fields) -> Process:
    process.need("cwd", "args")
    args, cwd = process.texts("args"), process.text("cwd")
    if not args or not args[0]:
        raise process.wrong("args[0]" if args else "args", "it is empty")
    if not cwd.startswith("/"):
        raise process.wrong("cwd", f"{shown(cwd)} is not absolute")
    terminal, size = process.flag("terminal"), _read_console_size(process)
    return Process(
        args=args,
        env=_read_env(process),
        cwd=cwd,
        user=_read_user(process.inside("user")),
        terminal=terminal,
        console_size=size if terminal else None,
        capabilities=_read_capabilities(process.inside("capabilities")),
        rlimits=_read_rlimits(process),
        no_new_privileges=process.flag("noNewPrivileges"),
        oom_score_adj=process.number("oomScoreAdj", range(-1000, 1001)),
        apparmor_profile=process.text("apparmorProfile"),
        selinux_label=process.text("selinuxLabel"),
        scheduler=_read_scheduler(process.inside("scheduler")) if process.has("scheduler") else None,
        io_priority=_read_io_priority(process.inside("ioPriority")) if process.has("ioPriority") else None,
        cpu_affinity=_read_affinity(process.inside("execCPUAffinity")) if process.has("execCPUAffinity") else None,
    )


def _read_env(given: Fields) -> tuple[str, ...]:
    entries = given.texts("env")
    for index, entry in enumerate(entries):
        if entry.find("=") < 1:
            raise given.wrong(f"env[{index}]", f"{shown(entry)} is not NAME=value")
    return entries


def _read_user(user: Fields) -> User:
    return User(
        user.whole("uid", _IDS),
        user.whole("gid", _IDS),
        user.numbers("additionalGids", _IDS),
        umask=user.whole("umask", range(0o1000), default=0o022),
    )


def _read_console_size(process: Fields) -> tuple[int, int] | None:
    if not process.has("consoleSize"):
        return None
    size = process.inside("consoleSize")
    size.need("height", "width")
    return size.whole("height", _CONSOLE), size.whole("width", _CONSOLE)


def _read_capabilities(sets: Fields) -> Capabilities:
    return Capabilities(*(_read_capability_names(sets, name) for name in Capabilities._fields))


def _read_capability_names(sets: Fields, kind: str) -> tuple[str, ...]:
    names = sets.texts(kind)
    for index, name in enumerate(names):
        if not name.startswith("CAP_") or not _CAPABILITY.issuperset(name[4:] or "-"):
            raise sets.wrong(f"{kind}[{index}]", f"{shown(name)} is not the name of a capability, such as CAP_CHOWN")
    return names


def _read_rlimits(process: Fields) -> tuple[Rlimit, ...]:
    rlimits: dict[str, Rlimit] = {}
    for rlimit in process.objects("rlimits"):
        rlimit.need("type", "soft", "hard")
        kind, soft, hard = rlimit.choice("type", RLIMITS), rlimit.whole("soft", UINT64), rlimit.whole("hard", UINT64)
        if kind in rlimits:
            raise rlimit.wrong("type", f"{kind} is there twice")
        if soft > hard:
            raise rlimit.wrong("soft", f"{soft} is above the hard limit, {hard}")
        rlimits[kind] = Rlimit(kind, _limit(soft), _limit(hard))
    return tuple(rlimits.values())


def _limit(value: int) -> int:
    return -1 if value == UINT64.stop - 1 else value  # RLIM_INFINITY is all bits set


def _read_scheduler(given: Fields) -> Scheduler:
    given.need("policy")
    wanted = Scheduler(
        given.choice("policy", POLICIES),
        given.whole("nice", range(-20, 20)),
        given.whole("priority", INT32),
        given.choices("flags", SCHEDULER_FLAGS),
        given.whole("runtime", UINT64),
        given.whole("deadline", UINT64),
        given.whole("period", UINT64),
    )
    if wanted.priority and wanted.policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise given.wrong("priority", f"{wanted.policy} has none; SCHED_FIFO and SCHED_RR have")
    for name in ("runtime", "deadline", "period"):
        if getattr(wanted, name) and wanted.policy != "SCHED_DEADLINE":
            raise given.wrong(name, f"{wanted.policy} has none; SCHED_DEADLINE has")
    return wanted


def _read_io_priority(given: Fields) -> IoPriority:
    given.need("class")
    return IoPriority(given.choice("class", IO_CLASSES), given.whole("priority", range(8)))


def _read_affinity(given: Fields) -> CpuAffinity:
    for name in ("initial", "final"):
        if not _NUMBER_LIST.issuperset(given.text(name)):
            raise given.wrong(name, f"{shown(given.text(name))} is not a list of processors such as 0-3,7")
    return CpuAffinity(given.text("initial"), given.text("final"))


def _read_mount(mount: Fields) -> Mount:
    mount.need("destination")
    options, source, destination = mount.texts("options"), mount.text("source"), mount.text("destination")
    kind = mount.text("type")
    if "bind" in options or "rbind" in options:
        kind = "bind"
    if not kind:
        raise mount.wrong("type", "it is missing, and the options have neither bind nor rbind")
    if kind == "bind":
        mount.need("source")
    users, groups = bundle_linux.read_mappings(mount, "uidMappings"), bundle_linux.read_mappings(mount, "gidMappings")
    if bool(users) != bool(groups):
        raise mount.wrong("gidMappings" if users else "uidMappings", "it is missing, while the other ids are mapped")
    if users and kind != "bind":
        raise mount.wrong("uidMappings", "ids can be mapped for a bind mount only")
    # a relative destination is deprecated, and begins at / (config.md, "Mounts")
    absolute = destination if destination.startswith("/") else f"/{destination}"
    return Mount(absolute, kind, source, options, uid_mappings=users, gid_mappings=groups)


def _read_hooks(given: Fields) -> Hooks | None:
    hooks = Hooks(*(tuple(_read_hook(hook) for hook in given.objects(moment)) for moment in HOOK_NAMES))
    return hooks if any(hooks) else None


def _read_hook(hook: Fields) -> Hook:
    hook.need("path")
    path = hook.text("path")
    if not path.startswith("/"):
        raise hook.wrong("path", f"{shown(path)} is not absolute")
    return Hook(path, hook.texts("args"), _read_env(hook), hook.number("timeout", range(1, 1 << 31)))
