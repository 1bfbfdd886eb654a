"""The OCI bundle of a container: its declaration and its image's config become one runtime-spec Config. Pure."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.capabilities import granted
from bayplan.model.container import Container, File, Limits, Mount
from bayplan.model.image import ImageConfig
from bayplan.model.runtime import (
    Capabilities,
    Config,
    Device,
    DeviceRule,
    IdMapping,
    Linux,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    User,
)
from bayplan.model.runtime import Mount as OciMount
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan import privileges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bayplan.model.cdi import Edits

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD = 100_000
UNNAMED_USER = "0"
HOST_FILES = ("hosts", "hostname", "resolv.conf")


class Source(NamedTuple):
    """Where a volume's content is: a directory of the host, or a file system that is mounted inside only."""

    path: str
    type: str = "bind"
    options: tuple[str, ...] = ()


class Surroundings(NamedTuple):
    """What the host adds to a declaration. `directory` is the container's own; `sources` maps the path where a
    volume is mounted to its content; that of the image's own volumes too.

    `namespaces` maps a namespace's type to the path of the one to join (container:NAME); `cpus` counts the host's processors.
    `edits` are those of devices by their CDI name; `ids` are those of a user namespace of its own.
    """

    id: str
    directory: str
    cgroups_path: str
    sources: Mapping[str, Source] = {}
    namespaces: Mapping[str, str] = {}
    devices: tuple[Device, ...] = ()
    cpus: int = 0
    edits: tuple[Edits, ...] = ()
    ids: tuple[IdMapping, ...] = ()


def bundle(spec: Container, image: ImageConfig, around: Surroundings) -> Config:
    """The Config to run; raises Invalid where the declaration and the image together name no command."""
    config = Config(
        process=process(spec, image, around.id, arguments(spec, image)),
        root=Root(f"{around.directory}/rootfs", spec.read_only),
        hostname=hostname(spec, around.id) if spec.uts == "private" else "",
        domainname=spec.domainname if spec.uts == "private" else "",
        mounts=_mapped(mounts(spec, around)) if around.ids else mounts(spec, around),
        linux=_linux(spec, around),
        annotations=spec.annotations,
        init=spec.init,
    )
    if not around.edits:
        return config
    from bayplan.model import cdi  # for those who have such devices

    return cdi.inject(config, around.edits)


def hostname(spec: Container, container_id: str) -> str:
    return spec.hostname or container_id[:12]


def arguments(spec: Container, image: ImageConfig) -> tuple[str, ...]:
    """Entry point and command: a declared entry point leaves the image's command behind, as Docker does."""
    entrypoint = spec.entrypoint if spec.entrypoint is not None else image.entrypoint or ()
    inherited = () if spec.entrypoint else image.cmd or ()
    command = spec.command if spec.command is not None else inherited
    if not (*entrypoint, *command):
        raise Invalid(f"making container {spec.name}: neither it nor its image {spec.image} names a command")
    return (*entrypoint, *command)


def environment(spec: Container, image: ImageConfig, container_id: str) -> tuple[str, ...]:
    """PATH and HOSTNAME, then the image's, then the declared; a later value of a name replaces an earlier one in place."""
    merged = dict(entry.partition("=")[::2] for entry in (PATH, f"HOSTNAME={hostname(spec, container_id)}"))
    if spec.tty:
        merged["TERM"] = "xterm"
    merged.update(entry.partition("=")[::2] for entry in image.env if entry.partition("=")[0])
    merged.update(spec.environment)
    return tuple(f"{name}={value}" for name, value in merged.items())


def process(spec: Container, image: ImageConfig, container_id: str, args: tuple[str, ...]) -> Process:
    """The first process's rights around other arguments: what `exec` and health checks run with."""
    return Process(
        args=args,
        env=environment(spec, image, container_id),
        cwd=spec.working_dir or image.working_dir or "/",
        user=User(username=spec.user or image.user or UNNAMED_USER, additional_groups=spec.group_add),
        terminal=spec.tty,
        capabilities=capabilities(spec),
        rlimits=tuple(Rlimit(f"RLIMIT_{limit.name.upper()}", limit.soft, limit.hard) for limit in spec.ulimits),
        no_new_privileges=spec.no_new_privileges or spec.profile == "strict",
        oom_score_adj=spec.oom_score_adj,
    )


def capabilities(spec: Container) -> Capabilities:
    strict = spec.profile == "strict"
    return granted(privileged=spec.privileged, strict=strict, add=spec.cap_add, drop=spec.cap_drop)


def seccomp(spec: Container) -> Seccomp | None:
    return None if spec.privileged or spec.seccomp == "unconfined" else Seccomp()


def _linux(spec: Container, around: Surroundings) -> Linux:
    hidden = () if spec.privileged else (*privileges.MASKED_PATHS, *privileges.thermal_paths(around.cpus))
    return Linux(
        namespaces=_namespaces(spec, around),
        devices=around.devices,
        resources=resources(spec.limits, device_rules(spec, around.devices)),
        cgroups_path=around.cgroups_path,
        rootfs_propagation="private",
        seccomp=seccomp(spec),
        sysctl=_sysctls(spec),
        masked_paths=hidden,
        readonly_paths=() if spec.privileged else privileges.READONLY_PATHS,
        uid_mappings=around.ids,
        gid_mappings=around.ids,
    )


def _namespaces(spec: Container, around: Surroundings) -> tuple[Namespace, ...]:
    shared = {"network": spec.network_mode, "pid": spec.pid, "ipc": spec.ipc, "uts": spec.uts, "cgroup": spec.cgroup}
    return (
        Namespace("mount"),
        *([Namespace("user")] if around.ids else []),
        *(
            Namespace(kind, around.namespaces.get(kind, ""))
            for kind in ("pid", "network", "ipc", "uts", "cgroup")
            if shared[kind] != "host"
        ),
    )


def _sysctls(spec: Container) -> tuple[tuple[str, str], ...]:
    """Docker lets every user of a container bind low ports and ping; the network is the container's own."""
    own_network = spec.network_mode != "host" and not spec.network_mode.startswith("container:")
    defaults = {"net.ipv4.ip_unprivileged_port_start": "0"} if own_network and spec.profile != "strict" else {}
    return tuple({**defaults, **dict(spec.sysctls)}.items())


def resources(limits: Limits, rules: tuple[DeviceRule, ...] = ()) -> Resources:
    """Limits in the runtime-spec's units: CPUs become a quota over 100 ms."""
    return Resources(
        memory_limit=limits.memory or None,
        memory_reservation=limits.memory_reservation or None,
        memory_swap=limits.memory_swap or (2 * limits.memory if limits.memory else None),
        cpu_shares=limits.cpu_shares or None,
        cpu_quota=limits.cpus * CPU_PERIOD // 1_000_000_000 if limits.cpus else None,
        cpu_period=CPU_PERIOD if limits.cpus else None,
        cpuset_cpus=limits.cpuset,
        cpuset_mems=limits.cpuset_mems,
        pids_limit=limits.pids or None,
        devices=rules,
    )


def device_rules(spec: Container, devices: tuple[Device, ...]) -> tuple[DeviceRule, ...]:
    if spec.privileged:
        return privileges.PRIVILEGED_DEVICE_RULES
    access = {device.target: device.permissions for device in spec.devices}
    return (
        *privileges.DEFAULT_DEVICE_RULES,
        *(DeviceRule(True, each.type, each.major, each.minor, access.get(each.path, "rwm")) for each in devices),
        *(privileges.device_rule(rule) for rule in spec.device_cgroup_rules),
    )


def mounts(spec: Container, around: Surroundings) -> tuple[OciMount, ...]:
    """The kernel's file systems, the host's three files, then what was declared, parents before children.

    A declared mount takes the place of a default one of the same target.
    """
    declared = {each.target: _declared(each, around) for each in spec.mounts}
    declared.update((each.target, _file(each, index, around)) for index, each in enumerate(spec.files))
    inherited = {target: _volume(Mount("volume", target), source) for target, source in around.sources.items()}
    declared = {**inherited, **declared}
    defaults = [each for each in _default_mounts(spec, around) if each.destination not in declared]
    ordered = sorted(declared.items(), key=lambda item: item[0].rstrip("/").count("/"))
    return (*defaults, *(mount for _, mount in ordered))


def _mapped(mounts: tuple[OciMount, ...]) -> tuple[OciMount, ...]:
    """Files of the host's have the ids inside that they have outside, and what is written there has them, too."""
    return tuple(mount._replace(options=(*mount.options, "idmap")) if mount.type == "bind" else mount for mount in mounts)


def _default_mounts(spec: Container, around: Surroundings) -> tuple[OciMount, ...]:
    writable = "rw" if spec.privileged else "ro"
    kernel = ("nosuid", "noexec", "nodev")
    return (
        OciMount("/proc", "proc", "proc", kernel),
        OciMount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        OciMount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
        OciMount("/sys", "sysfs", "sysfs", (*kernel, writable)),
        OciMount("/sys/fs/cgroup", "cgroup", "cgroup", (*kernel, writable)),
        *_ipc_mounts(spec, kernel),
        *(OciMount(f"/etc/{name}", "bind", f"{around.directory}/{name}", ("rbind", "rprivate")) for name in HOST_FILES),
    )


def _ipc_mounts(spec: Container, kernel: tuple[str, ...]) -> tuple[OciMount, OciMount]:
    """Message queues belong to the namespace, the host's too, which may have them mounted nowhere; shared memory is the host's own
    where its namespace is shared."""
    queues = OciMount("/dev/mqueue", "mqueue", "mqueue", kernel)
    if spec.ipc == "host":
        return queues, OciMount("/dev/shm", "bind", "/dev/shm", ("rbind", "rw"))
    return queues, OciMount("/dev/shm", "tmpfs", "shm", (*kernel, "mode=1777", f"size={spec.shm_size}"))


def _declared(mount: Mount, around: Surroundings) -> OciMount:
    mode = "ro" if mount.read_only else "rw"
    if mount.kind == "tmpfs":
        sized = (f"size={mount.size}",) if mount.size else ()
        moded = (f"mode={mount.mode:o}",) if mount.mode else ()
        options = mount.options or ("noexec", "nosuid", "nodev")
        return OciMount(mount.target, "tmpfs", "tmpfs", (*options, *sized, *moded, mode))
    if mount.kind == "bind":
        return OciMount(mount.target, "bind", mount.source, ("rbind", mount.propagation, mode))
    return _volume(mount, around.sources[mount.target])


def _volume(mount: Mount, source: Source) -> OciMount:
    mode = "ro" if mount.read_only else "rw"
    if source.type != "bind":
        if mount.subpath:
            raise Invalid(f"mounting a volume on {mount.target}: subpath needs a volume of the host's, not one of type {source.type}")
        return OciMount(mount.target, source.type, source.path, (*source.options, mode))
    options = ("rbind", mount.propagation, mode)
    if mount.subpath:  # a container that has the volume too may have made a link of it
        return OciMount(mount.target, "bind", f"{source.path}/{mount.subpath}", options, beneath=source.path)
    return OciMount(mount.target, "bind", source.path, options)


def file_path(directory: str, index: int) -> str:
    """Where the content of a container's index-th secret or config lies on the host."""
    return f"{directory}/files/{index}"


def _file(file: File, index: int, around: Surroundings) -> OciMount:
    return OciMount(file.target, "bind", file_path(around.directory, index), ("bind", "rprivate", "ro"))
