"""The options of `run`, `create` and `update`: Docker's spellings of what a container is declared with."""

from __future__ import annotations

from bayplan.cli.options import flag, many, number, text

LIMITS = (
    text("memory -m", "SIZE", "most memory: 512m, 2g"),
    text("memory-swap", "SIZE", "most memory and swap together; -1 is no limit"),
    text("memory-reservation", "SIZE", "memory that is kept for it when the host runs short"),
    text("cpus", "N", "most CPUs: 1.5"),
    number("cpu-shares -c", "weight of its share of the CPUs; 1024 is the usual one"),
    number("cpu-period", "length of a period of CPU time, in microseconds"),
    number("cpu-quota", "CPU time in each period, in microseconds"),
    text("cpuset-cpus", "LIST", "the CPUs that it may use: 0-3, 0,1"),
    text("cpuset-mems", "LIST", "the memory nodes that it may use"),
    number("pids-limit", "most processes; -1 is no limit"),
)

RESTART = (text("restart", "POLICY", "no, on-failure[:N], always, unless-stopped"),)

HEALTH = (
    text("health-cmd", "COMMAND", "command that tells whether it is healthy"),
    text("health-interval", "DURATION", "time between two checks: 30s, 1m30s"),
    text("health-timeout", "DURATION", "longest time that one check may take"),
    number("health-retries", "failures in a row that make it unhealthy"),
    text("health-start-period", "DURATION", "time after its start in which failures do not count"),
    text("health-start-interval", "DURATION", "time between two checks in the start period"),
    flag("no-healthcheck", "no health check, whatever the image says"),
)

NETWORK = (
    many("network", "NETWORK", "network: a name, bridge, host, none, container:NAME, name=NAME,alias=A,ip=ADDRESS"),
    many("net", "NETWORK", "the same as --network"),
    many("network-alias", "NAME", "another name on its first network"),
    text("ip", "ADDRESS", "its IPv4 address on its first network"),
    text("ip6", "ADDRESS", "its IPv6 address on its first network"),
    text("mac-address", "ADDRESS", "its hardware address on its first network"),
    many("publish -p", "PORT", "publish a port: [[ADDRESS:]HOST:]PORT[/udp]"),
    flag("publish-all -P", "publish all ports that the image exposes, each at a free port of the host"),
    many("expose", "PORT", "a port that it serves"),
    text("hostname -h", "NAME", "its host name"),
    text("domainname", "NAME", "its NIS domain name"),
    many("add-host", "NAME:ADDRESS", "a line for /etc/hosts; host-gateway is the host"),
    many("dns", "ADDRESS", "resolver instead of the host's"),
    many("dns-search", "DOMAIN", "search domain instead of the host's"),
    many("dns-option", "OPTION", "option for resolv.conf"),
    many("dns-opt", "OPTION", "the same as --dns-option"),
)

FILES = (
    many("volume -v", "VOLUME", "mount a volume or a path: [SOURCE:]TARGET[:ro]"),
    many("mount", "KEY=VALUE,...", "mount: type=volume|bind|tmpfs,source=S,target=T,readonly"),
    many("tmpfs", "TARGET[:OPTIONS]", "mount a tmpfs: /run:size=64m,mode=1777"),
    many("volumes-from", "CONTAINER[:ro]", "all mounts of another container"),
    flag("read-only", "root file system read-only"),
    text("shm-size", "SIZE", "size of /dev/shm"),
    many("device", "PATH[:PATH[:rwm]]", "a device of the host, or its CDI name: vendor.com/class=name"),
    many("device-cgroup-rule", "RULE", "devices that may be used: c 42:* rmw"),
)

PROCESS = (
    many("env -e", "KEY[=VALUE]", "environment variable; without a value, that of this environment"),
    many("env-file", "FILE", "file of environment variables"),
    text("workdir -w", "PATH", "working directory"),
    text("user -u", "USER[:GROUP]", "user, by name or number"),
    many("group-add", "GROUP", "one more group"),
    text("entrypoint", "COMMAND", "instead of the image's entry point"),
    text("systemd", "MODE", "prepared for systemd as its first process: auto (by its command), always, false"),
    flag("init", "run a small init that forwards signals and reaps processes"),
    flag("tty -t", "give it a terminal"),
    flag("interactive -i", "keep its standard input open"),
    text("stop-signal", "SIGNAL", "signal that stops it"),
    number("stop-timeout", "seconds from the stop signal to KILL"),
    many("ulimit", "NAME=SOFT[:HARD]", "resource limit: nofile=1024:4096"),
    many("sysctl", "KEY=VALUE", "kernel parameter of its namespaces"),
    number("oom-score-adj", "its preference when the kernel must kill something, -1000 to 1000"),
)

SECURITY = (
    text("profile", "NAME", "default, or strict: no_new_privs, nosuid, eleven capabilities"),
    flag("privileged", "all capabilities, all devices, no seccomp filter"),
    many("cap-add", "CAPABILITY", "add a capability"),
    many("cap-drop", "CAPABILITY", "drop a capability; ALL drops all"),
    many("security-opt", "OPTION", "no-new-privileges, seccomp=unconfined"),
    text("pid", "MODE", "process namespace: host, container:NAME"),
    text("ipc", "MODE", "IPC namespace: private, host, shareable, container:NAME"),
    text("uts", "MODE", "UTS namespace: host, container:NAME"),
    text("userns", "MODE", "user namespace: host, or private: user ids of its own"),
    text("cgroupns", "MODE", "cgroup namespace: private, host"),
    text("runtime", "NAME", "OCI runtime of the host instead of our own: runc, crun, or an absolute path"),
)

ABOUT = (
    text("name", "NAME", "its name; made up if not given"),
    many("label -l", "KEY=VALUE", "a label"),
    many("label-file", "FILE", "file of labels"),
    many("annotation", "KEY=VALUE", "an annotation of the OCI config"),
    text("log-driver", "NAME", "json-file, journald, syslog, none"),
    many("log-opt", "KEY=VALUE", "option of the log driver: max-size=10m"),
    text("pull", "WHEN", "when to pull the image: missing, always, never"),
    text("platform", "OS/ARCH", "platform of the image"),
    text("cidfile", "FILE", "write the container's id to this file, which must not be there"),
    flag("rm", "remove the container when it ends"),
    flag("quiet -q", "do not show the progress of a pull"),
    many("attach -a", "STREAM", "only these of stdin, stdout, stderr"),
)

CREATE = (*ABOUT, *PROCESS, *NETWORK, *FILES, *LIMITS, *RESTART, *HEALTH, *SECURITY)

RUN = (
    flag("detach -d", "run in the background and print the id"),
    flag("sig-proxy", "pass signals on to the container (the default)"),
    text("detach-keys", "KEYS", "keys that detach from a terminal: ctrl-p,ctrl-q"),
    *CREATE,
)

UPDATE = (*LIMITS, *RESTART)
