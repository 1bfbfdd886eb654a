"""Valid bundles at random: a configuration, what its process is to look at, and how it is to end.

Everything comes from one seeded generator, so that a bundle is named by its number. `{id}` in a configuration's texts is the
container's, which each runtime gets its own of.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runtime"))
from bayplan.kernel.seccomp_table import ALLOWED

Json = dict[str, Any]

NAMES = {  # the number of a capability is its place (capabilities(7)); CAP_SYS_RESOURCE is not ours to give
    name: f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW IPC_LOCK SYS_CHROOT "
        "SYS_PTRACE SYS_ADMIN SYS_NICE MKNOD AUDIT_WRITE SETFCAP SYSLOG"
    ).split()
}
MASKED = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/sys/firmware",
    "/etc/secret",
    "/data",
    "/absent",
    "/proc/scsi",
    "/link",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/srv", "/etc/passwd", "/missing")
SYSCTLS = (
    ("network", "net.ipv4.ip_forward", ("0", "1")),
    ("network", "net.core.somaxconn", ("128", "4097")),
    ("network", "net/ipv4/ping_group_range", ("0 5", "1 0")),
    ("ipc", "kernel.shmmax", ("65536", "8388608")),
    ("ipc", "kernel.msgmax", ("9000",)),
    ("ipc", "fs.mqueue.msg_max", ("12", "64")),
    ("domain", "kernel.domainname", ("example.org",)),
)
LOOKED = ("/", "/etc/passwd", "/etc/secret", "/data", "/data/inner", "/data/file", "/srv", "/tmp", "/dev", "/dev/shm", "/dev/pts", "/link",
          "/mnt/one", "/mnt/two", "/made/by/mount", "/relative", "/proc/sys", "/proc/kcore", "/proc/keys", "/sys", "/sys/fs/cgroup",
          "/sys/firmware", "/proc/sysrq-trigger", "/mnt/one/sub", "/mnt/two/sub")  # fmt: skip
DEFAULT_MOUNTS: tuple[Json, ...] = (
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
)  # fmt: skip


class Place(NamedTuple):
    """Where the bundles are. `namespaces` maps a type to the path of one to join; `disk` is a block device's number."""

    directory: Path
    namespaces: dict[str, str]
    disk: int

    @property
    def sources(self) -> Path:
        return self.directory / "sources"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def probe(self) -> Path:
        return self.directory / "probe"


class Bundle(NamedTuple):
    """`owner` is the host's id of the container's root, and so of its root file system; `end` as the probe takes it."""

    number: int
    config: Json
    owner: int
    end: int

    @property
    def terminal(self) -> bool:
        return bool(self.config["process"].get("terminal"))


class Dice:
    """What is random, in words."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def one(self, *values: Any) -> Any:
        return self._random.choice(values)

    def some(self, values: Any, share: float = 0.5) -> list[Any]:
        return [value for value in values if self.chance(share)]

    def within(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


def generate(seed: int, number: int, place: Place) -> Bundle:
    """Bundle `number` of the series `seed`."""
    dice = Dice(f"{seed}/{number}")
    namespaces = _namespaces(dice, place)
    kinds = {each["type"] for each in namespaces}
    mapped = "user" in kinds
    config: Json = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", **_perhaps(dice, 0.3, readonly=True)},
        "process": _process(dice, mapped=mapped),
        "mounts": _mounts(dice, place, kinds),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": "/{id}",
            **_perhaps(dice, 0.6, maskedPaths=dice.some(MASKED)),
            **_perhaps(dice, 0.6, readonlyPaths=dice.some(READONLY)),
            **_perhaps(dice, 0.25, rootfsPropagation=dice.one("private", "slave", "shared", "rslave", "rshared", "rprivate")),
            **_perhaps(dice, 0.3, sysctl=_sysctls(dice, kinds)),
            **_perhaps(dice, 0.4, seccomp=_seccomp(dice)),
            **_perhaps(dice, 0.6, resources=_resources(dice, place)),
        },
        **_perhaps(dice, 0.3, annotations={"org.example.a": "b"}),
    }
    if "uts" in kinds:
        config |= _perhaps(dice, 0.6, hostname=f"box{number}")
        if "kernel.domainname" not in config["linux"].get("sysctl", {}):
            config |= _perhaps(dice, 0.1, domainname="example.net")
    if not mapped:
        config["linux"] |= _perhaps(dice, 0.4, devices=_devices(dice))
        config["linux"] |= _perhaps(dice, 0.15, personality={"domain": dice.one("LINUX", "LINUX32")})
    else:
        config["linux"] |= {name: [{"containerID": 0, "hostID": 100000, "size": 65536}] for name in ("uidMappings", "gidMappings")}
    if not mapped and dice.chance(0.25):
        _add_hooks(dice, place, config)
    end = dice.one(0, 0, 1, 7, 42, 255, -9, -15)
    process = config["process"]
    looked = [f"path:{path}" for path in LOOKED] + [f"path:{device['path']}" for device in config["linux"].get("devices", ())]
    files = [f"file:/proc/sys/{name.replace('.', '/')}" for _, name, _ in SYSCTLS]
    process["args"] = [dice.one("/probe", "probe", "/bin/tool"), str(end), *looked, *files]
    if dice.chance(0.03):
        process["args"][0] = dice.one("/absent", "absent", "/etc/passwd", "/data")
    if process["args"][0] == "probe" and not any(entry.startswith("PATH=") for entry in process["env"]):
        process["env"].append("PATH=/nowhere:/")
    return Bundle(number, config, 100000 if mapped else 0, end)


def _perhaps(dice: Dice, share: float, **members: Any) -> Json:
    return members if dice.chance(share) else {}


def _namespaces(dice: Dice, place: Place) -> list[Json]:
    namespaces: list[Json] = [{"type": "mount"}]
    for kind, share in (("pid", 0.85), ("network", 0.85), ("ipc", 0.85), ("uts", 0.85), ("cgroup", 0.5)):
        if dice.chance(share):
            joins = kind in place.namespaces and dice.chance(0.15)
            namespaces.append({"type": kind, **({"path": place.namespaces[kind]} if joins else {})})
    made = {each["type"] for each in namespaces if "path" not in each}
    if made >= {"pid", "network", "ipc", "uts"} and dice.chance(0.3):
        namespaces.append({"type": "user"})
    return namespaces


def _process(dice: Dice, *, mapped: bool) -> Json:
    user: Json = {"uid": dice.one(0, 0, 1, 1000), "gid": dice.one(0, 0, 1, 1000)}
    user |= _perhaps(dice, 0.4, additionalGids=dice.some((5, 10, 1000, 4000)))
    user |= _perhaps(dice, 0.4, umask=dice.one(0, 0o022, 0o027, 0o077))
    terminal = dice.chance(0.15)
    return {
        "user": user,
        "cwd": dice.one("/", "/", "/data", "/srv", "/new/directory", "/link"),
        "env": dice.some(("PATH=/bin:/", "TERM=xterm", "EMPTY=", "A=b=c", "HOME=/srv", "LANG=C.UTF-8", "A=again"), 0.6),
        **_perhaps(dice, 0.85, capabilities=_capabilities(dice)),
        **_perhaps(dice, 0.4, rlimits=_rlimits(dice)),
        **_perhaps(dice, 0.6, noNewPrivileges=dice.chance(0.6)),
        **_perhaps(dice, 0.3, oomScoreAdj=dice.one(0, 5, 100, 1000)),
        **_perhaps(dice, 0.1, scheduler={"policy": dice.one("SCHED_BATCH", "SCHED_IDLE", "SCHED_OTHER")}),
        **_perhaps(dice, 0.1, ioPriority={"class": "IOPRIO_CLASS_BE", "priority": dice.within(0, 7)}),
        **({"terminal": True, **_perhaps(dice, 0.7, consoleSize={"height": 33, "width": 101})} if terminal else {}),
    }


def _capabilities(dice: Dice) -> Json:
    bounding = dice.some(NAMES.values())
    permitted = dice.some(bounding, 0.7)
    inheritable = dice.some(bounding, 0.3) if dice.chance(0.4) else []
    both = [name for name in permitted if name in inheritable]
    sets = {"bounding": bounding, "permitted": permitted, "effective": dice.some(permitted, 0.8), "inheritable": inheritable}
    return {**sets, **({"ambient": dice.some(both)} if both and dice.chance(0.7) else {})}


def _rlimits(dice: Dice) -> list[Json]:
    kinds = dice.some(("NOFILE", "CORE", "NPROC", "STACK", "FSIZE", "MEMLOCK", "CPU"), 0.4)
    values = {"NOFILE": 1024, "CORE": 0, "NPROC": 4096, "STACK": 8 << 20, "FSIZE": 1 << 30, "MEMLOCK": 65536, "CPU": 600}
    return [{"type": f"RLIMIT_{kind}", "soft": values[kind] >> dice.one(0, 1), "hard": values[kind]} for kind in kinds]


def _mounts(dice: Dice, place: Place, kinds: set[str]) -> list[Json]:
    proc = {"destination": "/proc", "type": "proc", "source": "proc", **_perhaps(dice, 0.5, options=["nosuid", "noexec", "nodev"])}
    mounts = [proc] if "pid" in kinds else [{"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}]
    for mount in DEFAULT_MOUNTS:
        needed = {"sysfs": "network", "mqueue": "ipc"}.get(mount["type"])
        if (needed is None or needed in kinds) and (mount["destination"] in ("/dev", "/dev/pts") or dice.chance(0.8)):
            mounts.append(_varied(dice, mount))
    if "/sys" not in {mount["destination"] for mount in mounts}:
        mounts = [mount for mount in mounts if mount["destination"] != "/sys/fs/cgroup"]
    more = [_tmpfs(dice), *(_bind(dice, place, destination) for destination in ("/mnt/one", "/mnt/two"))]
    return mounts + dice.some(more)


def _varied(dice: Dice, mount: Json) -> Json:
    options = [*mount["options"]]
    if mount["type"] == "cgroup" and dice.chance(0.3):
        options.remove("ro")
    return {**mount, "options": options}


def _tmpfs(dice: Dice) -> Json:
    options = dice.some(("ro", "nosuid", "nodev", "noexec", "noatime", "size=64k", "mode=1770", "nr_inodes=100"), 0.4)
    where = dice.one("/tmp", "/made/by/mount", "/link", "relative", "/data/../srv", "/data")
    options += ["tmpcopyup"] if where == "/data" else []
    return {"destination": where, "type": "tmpfs", "source": "tmpfs", "options": options}


def _bind(dice: Dice, place: Place, destination: str) -> Json:
    source = place.sources / dice.one("tree", "tree", "file")
    options = [dice.one("bind", "rbind")]
    options += dice.some(("ro", "nosuid", "nodev", "noexec", "noatime"), 0.35)
    options += dice.some((dice.one("private", "rprivate", "slave", "rslave", "shared", "rshared"),))
    options += dice.some((dice.one("rro", "rnosuid", "rnodev", "rnoexec"),), 0.15)
    kind = _perhaps(dice, 0.7, type=dice.one("bind", "none"))
    return {"destination": destination, "source": str(source), "options": options, **kind}


def _sysctls(dice: Dice, kinds: set[str]) -> Json:
    private = kinds | ({"domain"} if "uts" in kinds and "user" not in kinds else set())
    return {name: dice.one(*values) for kind, name, values in SYSCTLS if kind in private and dice.chance(0.4)}


def _devices(dice: Dice) -> list[Json]:
    devices: list[Json] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 0, "gid": 1000},
        {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666},
        {"path": "/dev/loop77", "type": "b", "major": 7, "minor": 77, "fileMode": 0o600, "uid": 1000, "gid": 0},
        {"path": "/dev/plain", "type": "u", "major": 1, "minor": 3},
        {"path": "/srv/pipe", "type": "p", "fileMode": 0o640, "major": 0, "minor": 0},
    ]
    return dice.some(devices, 0.4)


def _seccomp(dice: Dice) -> Json:
    return _allowing(dice) if dice.chance(0.3) else _refusing(dice)


def _allowing(dice: Dice) -> Json:
    """The calls that an ordinary profile allows, but for a few."""
    without = dice.some(("mkdirat", "keyctl", "bpf", "kcmp", "chroot", "unshare", "times", "ptrace"))
    rules: list[Json] = [
        {"names": [name for name in ALLOWED.split() if name not in without], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0xFFFFFFFF, "op": "SCMP_CMP_EQ"}]},
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 40, "op": dice.one("SCMP_CMP_NE", "SCMP_CMP_LT")}],
        },
    ]
    return {"defaultAction": "SCMP_ACT_ERRNO", **_perhaps(dice, 0.5, defaultErrnoRet=dice.one(1, 38)), "syscalls": rules,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}  # fmt: skip


def _refusing(dice: Dice) -> Json:
    errno = _perhaps(dice, 0.6, errnoRet=dice.one(1, 13, 38))
    names = dice.some(("mkdirat", "fchmodat", "keyctl", "add_key", "no_such_call"), 0.7)
    rules: list[Json] = [
        {"names": names or ["bpf"], "action": "SCMP_ACT_ERRNO", **errno},
        {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
         "args": [{"index": 0, "value": dice.one(38, 39), "op": dice.one("SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT")}]},
        {"names": ["ptrace", "kcmp"], "action": dice.one("SCMP_ACT_ERRNO", "SCMP_ACT_LOG")},
        {"names": ["dup"], "action": "SCMP_ACT_ERRNO",
         "args": [{"index": 0, "value": 0xF0000, "valueTwo": 0xF0000, "op": "SCMP_CMP_MASKED_EQ"}]},
    ]  # fmt: skip
    flags = _perhaps(dice, 0.06, flags=["SECCOMP_FILTER_FLAG_LOG"])
    architectures = _perhaps(dice, 0.7, architectures=["SCMP_ARCH_X86_64", *dice.some(("SCMP_ARCH_X86", "SCMP_ARCH_X32"))])
    return {"defaultAction": dice.one("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"), "syscalls": dice.some(rules, 0.7), **architectures, **flags}


def _resources(dice: Dice, place: Place) -> Json:
    limit = dice.one(64, 128, 256) << 20
    memory = {
        "limit": limit,
        **_perhaps(dice, 0.4, swap=dice.one(limit, 2 * limit, -1)),
        **_perhaps(dice, 0.3, reservation=limit // 2),
        **_perhaps(dice, 0.3, swappiness=dice.one(0, 60, 100)),
        **_perhaps(dice, 0.2, disableOOMKiller=dice.chance(0.5)),
    }
    cpu = {
        **_perhaps(dice, 0.5, shares=dice.one(2, 512, 1024, 4096)),
        **_perhaps(dice, 0.5, quota=dice.one(20000, 50000, 150000), period=dice.one(50000, 100000)),
        **_perhaps(dice, 0.3, cpus=dice.one("0", "0-1"), mems="0"),
    }
    rules = [
        {"allow": False, "access": "rwm"},
        *dice.some(
            (
                {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                {"allow": True, "type": "b", "major": 7, "access": "r"},
                {"allow": True, "type": "c", "access": "m"},
            )
        ),
    ]
    return {
        **_perhaps(dice, 0.6, memory=memory),
        **_perhaps(dice, 0.6, cpu=cpu),
        **_perhaps(dice, 0.5, pids={"limit": dice.one(0, 20, 1000)}),
        **_perhaps(dice, 0.6, devices=rules),
        **_perhaps(dice, 0.2, blockIO=_block_io(dice, place)),
        **_perhaps(dice, 0.15, hugepageLimits=[{"pageSize": "2MB", "limit": dice.one(0, 4) << 21}]),
    }


def _block_io(dice: Dice, place: Place) -> Json:
    device = {"major": os.major(place.disk), "minor": os.minor(place.disk), "rate": dice.one(1 << 20, 1 << 30)}
    kinds = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")
    return {kind: [device] for kind in dice.some(kinds)}


def _add_hooks(dice: Dice, place: Place, config: Json) -> None:
    """Hooks that write down what they were told, the container's own at a mount of the same place."""
    config["mounts"].append({"destination": "/log", "type": "bind", "source": str(place.log), "options": ["rbind"]})
    moments = dice.some(("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"), 0.6)
    config["hooks"] = {}
    for moment in moments:
        inside = moment == "startContainer"
        path, log = ("/probe", "/log/told") if inside else (str(place.probe), f"{place.log}/told")
        hook = {"path": path, "args": ["probe", "hook", moment, log], **_perhaps(dice, 0.5, env=["HOOKED=yes"])}
        config["hooks"][moment] = [{**hook, **_perhaps(dice, 0.3, timeout=60)}] * dice.one(1, 1, 2)
