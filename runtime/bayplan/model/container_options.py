"""A container's options that are Compose's keys of a service, in Compose's words, with the peers' spellings as aliases."""

from __future__ import annotations

from bayplan.model.option import Option

_HEALTHCHECK = (
    Option("test", "raw", "A shell command, or a list that starts with C(CMD), C(CMD-SHELL) or C(NONE)."),
    Option("interval", "str", "Time between two checks, such as C(30s)."),
    Option("timeout", "str", "What a check may take."),
    Option("retries", "int", "How many checks in a row make it unhealthy."),
    Option("start_period", "str", "Time after the start in which a failure does not count."),
    Option("start_interval", "str", "Time between two checks in that time."),
    Option("disable", "bool", "Switch the image's own health check off."),
)
_LOGGING = (
    Option("driver", "str", "The driver.", choices=("json-file", "journald", "syslog", "none")),
    Option("options", "dict", "Options of the driver, such as C(max-size) and C(max-file)."),
)

SERVICE = (
    # what runs
    Option("command", "raw", "What to run, as a list or as one string that is split as a shell would; the image's if left out."),
    Option("entrypoint", "raw", "What runs the command; the image's if left out."),
    Option("environment", "raw", "Variables, as a mapping or as a list of C(KEY=VALUE).", aliases=("env",)),
    Option("env_file", "raw", "Files of variables on the controller: a path, a list of paths, or a list of mappings with C(path), C(required), C(format)."),
    Option("working_dir", "str", "The directory that the command starts in.", aliases=("workdir",)),
    Option("user", "str", "User and group, by name or number: C(USER[:GROUP])."),
    Option("group_add", "list", "Further groups, by name or number.", elements="str", aliases=("groups",)),
    Option("init", "bool", "Run a small init as first process that reaps orphans and passes signals on."),
    Option("tty", "bool", "Give it a terminal."),
    Option("stdin_open", "bool", "Keep its standard input open.", aliases=("interactive",)),
    Option("stop_signal", "str", "The signal that asks it to end."),
    Option("stop_grace_period", "str", "Time between that signal and KILL, such as C(10s).", aliases=("stop_timeout",)),
    Option("platform", "str", "The platform to choose of an image's index."),
    Option("labels", "raw", "Labels, as a mapping or as a list of C(KEY=VALUE)."),
    Option("annotations", "raw", "Annotations of the OCI configuration, as a mapping or a list."),
    Option("depends_on", "raw", "Containers that must be there first: a list, or a mapping with conditions as in Compose."),
    Option("healthcheck", "dict", "How to see whether it works.", options=_HEALTHCHECK),
    Option("logging", "dict", "Where its output goes; C(json-file), three files of 10 MB, if left out.", options=_LOGGING),
    # networks
    Option("network_mode", "str", "C(bridge), C(host), C(none) or C(container:NAME)."),
    Option("networks", "raw", "Networks to join: a list of names, a mapping as in Compose, or a list of mappings with C(name), C(aliases), C(ipv4_address), C(ipv6_address)."),
    Option("ports", "list", "Published ports, C([[IP:]HOST:]CONTAINER[/PROTOCOL]) or Compose's long form. Quote them.", elements="raw", aliases=("published_ports", "publish")),
    Option("expose", "list", "Ports that it listens on; a note only.", elements="raw", aliases=("exposed_ports",)),
    Option("hostname", "str", "Its host name."),
    Option("domainname", "str", "Its NIS domain name."),
    Option("extra_hosts", "raw", "Entries for its C(/etc/hosts), as a mapping or as a list of C(NAME=ADDRESS).", aliases=("etc_hosts",)),
    Option("dns", "raw", "Name servers to use instead of the host's.", aliases=("dns_servers",)),
    Option("dns_search", "raw", "Domains to search.", aliases=("dns_search_domains",)),
    Option("dns_opt", "list", "Resolver options.", elements="str", aliases=("dns_opts",)),
    # storage
    Option("volumes", "list", "Mounts: C(SOURCE:TARGET[:OPTIONS]) or Compose's long form. A named volume that is not there is made.", elements="raw", aliases=("mounts",)),
    Option("tmpfs", "raw", "Directories in memory, C(TARGET[:OPTIONS])."),
    Option("read_only", "bool", "Mount its root file system read-only."),
    Option("shm_size", "str", "The size of C(/dev/shm), such as C(64m)."),
    Option("secrets", "list", "Files with a secret, read on the controller: mappings with C(source) (a path), C(target), C(uid), C(gid), C(mode).", elements="dict", options=(
        Option("source", "path", "The file on the controller.", required=True),
        Option("target", "str", "The file's name or path inside; below C(/run/secrets) where it is a name.", required=True),
        Option("uid", "str", "Its owner."),
        Option("gid", "str", "Its group."),
        Option("mode", "raw", "Its mode, C('0400')."),
    )),
    Option("configs", "list", "The same for files that are no secret.", elements="dict", options=(
        Option("source", "path", "The file on the controller.", required=True),
        Option("target", "str", "The file's path inside.", required=True),
        Option("uid", "str", "Its owner."),
        Option("gid", "str", "Its group."),
        Option("mode", "raw", "Its mode, C('0444')."),
    )),
    # limits
    Option("mem_limit", "str", "Memory, such as C(512m).", aliases=("memory",)),
    Option("mem_reservation", "str", "Memory that is left to it under pressure.", aliases=("memory_reservation",)),
    Option("memswap_limit", "str", "Memory and swap together; C(-1) is without limit.", aliases=("memory_swap",)),
    Option("cpus", "str", "Processors, such as C(1.5)."),
    Option("cpu_shares", "int", "Its weight beside others; 1024 is the usual."),
    Option("cpu_quota", "raw", "Processor time in a period, in microseconds."),
    Option("cpu_period", "raw", "That period, in microseconds."),
    Option("cpuset", "str", "Processors that it may use, such as C(0-3).", aliases=("cpuset_cpus",)),
    Option("pids_limit", "int", "How many processes it may have."),
    Option("ulimits", "raw", "Resource limits: a mapping as in Compose, or a list of C(NAME:SOFT:HARD)."),
    Option("oom_score_adj", "int", "How readily the kernel kills it when memory runs out."),
    Option("deploy", "dict", "Compose's C(resources.limits) and C(resources.reservations)."),
    # privileges
    Option("privileged", "bool", "Give it every capability and device."),
    Option("cap_add", "list", "Capabilities to add.", elements="str", aliases=("capabilities",)),
    Option("cap_drop", "list", "Capabilities to take away.", elements="str"),
    Option("security_opt", "list", "C(no-new-privileges), C(seccomp=unconfined).", elements="str", aliases=("security_opts",)),
    Option("devices", "list", "Devices, C(HOST[:INSIDE[:PERMISSIONS]]), or their CDI names, C(VENDOR/CLASS=NAME).", elements="str"),
    Option("device_cgroup_rules", "list", "Rules of the device controller.", elements="str"),
    Option("sysctls", "raw", "Kernel parameters of its namespaces."),
    Option("pid", "str", "C(host) or C(container:NAME) share that process namespace.", aliases=("pid_mode",)),
    Option("ipc", "str", "The same for IPC.", aliases=("ipc_mode",)),
    Option("uts", "str", "C(host) or C(container:NAME) share that host name.", aliases=("uts_mode",)),
    Option("cgroup", "str", "C(private) or C(host).", choices=("private", "host")),
    Option("userns_mode", "str", "C(private) gives it user ids of its own: its root is nobody on the host.",
           choices=("host", "private"), aliases=("userns",)),
    Option("runtime", "str", "An OCI runtime of the host's that runs it instead of our own: C(runc), C(crun), or an absolute path."),
)  # fmt: skip
