"""A container as it is declared: the Compose Specification's service, every value parsed and in one unit.

Sizes are bytes, durations nanoseconds, CPUs nano-CPUs (1_500_000_000 is one and a half), as Docker's API counts them.
Mappings are tuples of pairs sorted by key, so that two equal declarations are equal values.
"""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    pass

Pairs = tuple[tuple[str, str], ...]


class Endpoint(NamedTuple):
    """Membership of one network. Empty strings mean: chosen for you."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    mac_address: str = ""
    priority: int = 0


class Port(NamedTuple):
    """One published port; host_ip "" is every address of the host, published 0 is any free port."""

    target: int
    published: int
    protocol: str = "tcp"
    host_ip: str = ""


class Mount(NamedTuple):
    """One mount. kind: volume, bind, tmpfs. source: volume's name ("" is anonymous), host path, or ""."""

    kind: str
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = "rprivate"
    create_host_path: bool = True
    nocopy: bool = False
    subpath: str = ""
    size: int = 0
    mode: int = 0
    options: tuple[str, ...] = ()


class File(NamedTuple):
    """A secret or config as a file inside; content is base64, and a Secret where kind is `secret`.

    digest is the sha256 of the content ("sha256:…"): what the record keeps and compares.
    """

    kind: str
    name: str
    target: str
    digest: str
    content: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


class Restart(NamedTuple):
    """name: no, on-failure, always, unless-stopped; attempts 0 is without end."""

    name: str = "no"
    attempts: int = 0


class Healthcheck(NamedTuple):
    """Docker's health check; test ("NONE",) switches the image's off, () takes the image's."""

    test: tuple[str, ...] = ()
    interval: int = 30_000_000_000
    timeout: int = 30_000_000_000
    retries: int = 3
    start_period: int = 0
    start_interval: int = 5_000_000_000


class Logging(NamedTuple):
    """driver: json-file, journald, syslog, none."""

    driver: str = "json-file"
    options: Pairs = ()


class Device(NamedTuple):
    """A node of the host's, or, without a target, what CDI calls `vendor.com/class=name` (model/cdi.py)."""

    source: str
    target: str
    permissions: str = "rwm"


class Ulimit(NamedTuple):
    name: str
    soft: int
    hard: int


class Limits(NamedTuple):
    """What the kernel bounds, all of it changeable on a live container. 0 is: no limit, or the kernel's default.

    memory_swap counts memory and swap together, -1 is unlimited. cpus is nano-CPUs.
    """

    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    cpus: int = 0
    cpu_shares: int = 0
    cpuset: str = ""
    cpuset_mems: str = ""
    pids: int = 0


class Dependency(NamedTuple):
    """condition: service_started, service_healthy, service_completed_successfully."""

    container: str
    condition: str = "service_started"
    restart: bool = False
    required: bool = True


class Container(NamedTuple):
    """Everything that is declared of one container. Optional values that are None take the image's."""

    name: str
    image: str
    pull: str = "missing"
    platform: str = ""
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Pairs = ()
    labels: Pairs = ()
    annotations: Pairs = ()
    working_dir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    stdin_open: bool = False
    init: bool = False
    network_mode: str = "bridge"
    networks: tuple[Endpoint, ...] = ()
    ports: tuple[Port, ...] = ()
    expose: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    files: tuple[File, ...] = ()
    restart: Restart = Restart()
    healthcheck: Healthcheck | None = None
    stop_signal: str | None = None
    stop_grace_period: int = 10_000_000_000
    logging: Logging = Logging()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    profile: str = "default"
    systemd: str = "auto"
    no_new_privileges: bool = False
    seccomp: str = "default"
    read_only: bool = False
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    sysctls: Pairs = ()
    ulimits: tuple[Ulimit, ...] = ()
    limits: Limits = Limits()
    shm_size: int = 67_108_864
    oom_score_adj: int = 0
    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cgroup: str = "private"
    userns: str = "host"
    runtime: str = ""
    extra_hosts: Pairs = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    auto_remove: bool = False
    project: str = ""
    service: str = ""
