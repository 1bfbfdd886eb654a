"""The OCI runtime-spec 1.2 `config.json` of a Linux container: all that it can say, as values.

`Config` is the whole document; bundle_document.py writes its JSON form, bundle_parser.py reads it. Names are the
specification's, in snake case. What the specification nests and we never vary alone is flat here (`Resources`).

Three things go beyond the specification, all as annotations, which it reserves for that:
`bayplan.user` is a user and group as an image's config spells them ("app", "1000:staff"), resolved
inside the root file system when the process starts; `bayplan.seccomp` is "default" where our own
table is meant; `bayplan.init` is "true" where a process of ours is to be number 1.
"""

from __future__ import annotations

from bayplan.model.value import NamedTuple

OCI_VERSION = "1.2.0"
USER_ANNOTATION = "bayplan.user"
INIT_ANNOTATION = "bayplan.init"
SECCOMP_ANNOTATION = "bayplan.seccomp"
HOOK_NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")  # as Hooks has them
NAMESPACE_TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")


class User(NamedTuple):
    """Who the process is. `username`, if not empty, is an image's spelling (`user`, `uid`, `uid:gid`, `name:group`)
    that overrides `uid` and `gid`; `additional_gids` adds to the groups of the image's own /etc/group;
    `additional_groups` are names or numbers (`--group-add`) looked up in it."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    username: str = ""
    additional_groups: tuple[str, ...] = ()
    umask: int = 0o022


class Capabilities(NamedTuple):
    """Capability names with their `CAP_` prefix, upper case."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(NamedTuple):
    """`type` as in `RLIMIT_NOFILE`; -1 is unlimited."""

    type: str
    soft: int
    hard: int


class Scheduler(NamedTuple):
    """sched_setattr(2): `policy` as `SCHED_BATCH`, `flags` as `SCHED_FLAG_RESET_ON_FORK`; the three times are nanoseconds."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IoPriority(NamedTuple):
    """ioprio_set(2): `type` as `IOPRIO_CLASS_BE`; 0 is the highest `priority`, 7 the lowest."""

    type: str
    priority: int = 0


class CpuAffinity(NamedTuple):
    """The processors of a process that is executed in a container, as lists such as "0-2,4": `initial` while it is still the
    runtime's, `final` before it becomes the program's."""

    initial: str = ""
    final: str = ""


class Process(NamedTuple):
    """`args[0]` is looked up in the environment's PATH inside the container; `env` entries are `NAME=value`.
    `console_size` is (height, width)."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    capabilities: Capabilities = Capabilities()
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    cpu_affinity: CpuAffinity | None = None


class Root(NamedTuple):
    path: str
    readonly: bool = False


class IdMapping(NamedTuple):
    """`size` ids from `container` on, which are those from `host` on outside (user_namespaces(7))."""

    container: int
    host: int
    size: int


class Mount(NamedTuple):
    """One entry of `mounts`, applied in order. `type` is a file system or "bind"; `options` as mount(8) spells them
    (`rbind`, `ro`, `rro`, `rprivate`, `nosuid`, `mode=1777`, ...).

    The mappings are those of an idmapped mount. `beneath`, if given, is a directory that containers have written to, and that the
    way to a bind's `source` inside it must not leave. It is not part of the specification's document.
    """

    destination: str
    type: str = "bind"
    source: str = ""
    options: tuple[str, ...] = ()
    beneath: str = ""
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class Namespace(NamedTuple):
    """A namespace to make, or, with a `path`, to join. A type that is not listed is shared with the host."""

    type: str
    path: str = ""


class Device(NamedTuple):
    """A node to make in the container. `type` is "c", "b", "u" or "p"."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


class DeviceRule(NamedTuple):
    """One line of the device controller's list; the last that matches wins.

    None matches every number; `type` "a" every type."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class BlockDevice(NamedTuple):
    """One block device's weight (10 to 1000), or its throttle: bytes or operations a second."""

    major: int
    minor: int
    value: int | None = None
    leaf_weight: int | None = None


class BlockIo(NamedTuple):
    """Block I/O: weights from 10 to 1000, devices' own weights, and throttles of devices."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_devices: tuple[BlockDevice, ...] = ()
    read_bps: tuple[BlockDevice, ...] = ()
    write_bps: tuple[BlockDevice, ...] = ()
    read_iops: tuple[BlockDevice, ...] = ()
    write_iops: tuple[BlockDevice, ...] = ()


class RdmaLimit(NamedTuple):
    """What a container may have of one RDMA device, such as `mlx5_1`."""

    device: str
    handles: int | None = None
    objects: int | None = None


class Resources(NamedTuple):
    """Limits; None leaves the kernel's default. Bytes, microseconds; `memory_swap` is memory plus swap, -1 unlimited;
    `pids_limit` -1 unlimited; `cpuset_*` are lists such as "0-2,4". `hugepages` holds (page size as "2MB", bytes),
    `network_priorities` (interface, priority), `unified` (file of version 2, content)."""

    memory_limit: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    memory_kernel: int | None = None
    memory_kernel_tcp: int | None = None
    memory_check_before_update: bool = False
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_burst: int | None = None
    cpu_idle: int | None = None
    cpu_realtime_runtime: int | None = None
    cpu_realtime_period: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    devices: tuple[DeviceRule, ...] = ()
    block_io: BlockIo | None = None
    hugepages: tuple[tuple[str, int], ...] = ()
    rdma: tuple[RdmaLimit, ...] = ()
    network_class: int | None = None
    network_priorities: tuple[tuple[str, int], ...] = ()
    unified: tuple[tuple[str, str], ...] = ()


class SyscallRule(NamedTuple):
    """One entry of a custom profile's `syscalls`.

    `args` holds (index, value, value_two, op) with op as `SCMP_CMP_EQ`."""

    names: tuple[str, ...]
    action: str
    errno: int | None = None
    args: tuple[tuple[int, int, int, str], ...] = ()


class Seccomp(NamedTuple):
    """`profile` "default" means the table in kernel/, and the rest is empty;
    "custom" means that the rest is the filter."""

    profile: str = "default"
    default_action: str = ""
    default_errno: int | None = None
    architectures: tuple[str, ...] = ()
    syscalls: tuple[SyscallRule, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""


class IntelRdt(NamedTuple):
    """A resctrl group (cache and memory bandwidth); an empty schema leaves the group's own."""

    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_cmt: bool = False
    enable_mbm: bool = False


class Linux(NamedTuple):
    """`cgroups_path` is relative to each controller's root (`/bayplan-1a2b/ID`), or `slice:prefix:name` under systemd.
    `seccomp` None means no filter. `time_offsets` holds (clock, seconds, nanoseconds) of "monotonic" and "boottime";
    `personality` is "LINUX" or "LINUX32"."""

    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = Resources()
    cgroups_path: str = ""
    rootfs_propagation: str = "private"
    seccomp: Seccomp | None = None
    sysctl: tuple[tuple[str, str], ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    time_offsets: tuple[tuple[str, int, int], ...] = ()
    personality: str = ""
    mount_label: str = ""
    intel_rdt: IntelRdt | None = None


class Hook(NamedTuple):
    """A program of the host's (of the container's, where it starts one), with the whole command line in `args`; `timeout` is
    seconds, None for ever."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Hooks(NamedTuple):
    """The specification's six moments, in the order in which they come."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Config(NamedTuple):
    """The whole document. `init` asks for a small process 1 that forwards signals and reaps (`--init`)."""

    process: Process
    root: Root
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    linux: Linux = Linux()
    annotations: tuple[tuple[str, str], ...] = ()
    init: bool = False
    hooks: Hooks | None = None
