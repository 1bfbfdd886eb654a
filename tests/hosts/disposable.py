"""A disposable host: an sshd of its own network, mount, pid, uts, ipc and cgroup namespaces, over this machine's files.

Its root is an overlay of `/`, so whatever is written on it goes with it; its /var/lib is a plain directory, because an
overlay's upper directory cannot lie on another overlay. Killing its first process ends everything that runs on it.

    python tests/hosts/disposable.py up DIRECTORY [NUMBER]     a host at 10.213.NUMBER.2, this side is 10.213.NUMBER.1
    python tests/hosts/disposable.py down DIRECTORY
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

REGISTRY_PORT = 5077
CGROUPS = Path("/sys/fs/cgroup")

SSHD_CONFIG = """\
Port 22
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/key.pub
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""

# The host's boot. Its working directory is the disposable directory; $1 is where the new root is put together.
BOOT = r"""
set -e
d=$PWD
mount --make-rprivate /
new_root() {
  mkdir -p $d/disk/upper $d/disk/work $d/disk/state
  mount -t overlay overlay -o lowerdir=/,upperdir=$d/disk/upper,workdir=$d/disk/work $d/root
}
new_root 2>/dev/null || { mount -t tmpfs tmpfs $d/disk; new_root; }  # here is an overlay already
cd $d/root
mount -t proc proc proc
mount -t sysfs sysfs sys
{cgroups}
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/sshd run/lock usr/local/bin root etc/containers .$d
mount --bind $d/disk/state var/lib
mount --bind $d .$d
rm -rf usr/local/bin/bayplan etc/bayplan
cp $d/registries.conf etc/containers/registries.conf
hostname {name}
ip link set lo up
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
exec python3 -I -S {init} /usr/sbin/sshd -D -E {directory}/sshd.log -f {directory}/sshd_config
"""

INIT = """\
import os, sys, time
sshd = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
while True:
    try:
        if os.wait()[0] == sshd:
            break
    except ChildProcessError:
        time.sleep(1)
"""


class Host(NamedTuple):
    """A running disposable host: `address` answers ssh for root with `directory`/key; `gateway` is this machine."""

    directory: Path
    address: str
    gateway: str
    pid: int

    def ssh(self, command: str, *, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host as root."""
        line = ["ssh", *ssh_options(self.directory), f"root@{self.address}", command]
        return subprocess.run(line, check=check, text=True, capture_output=True, input=input, timeout=300)

    def inventory(self, **variables: object) -> str:
        """An Ansible inventory in YAML (JSON is a part of it) with this one host, called `disposable`."""
        return inventory([("disposable", self)], **variables)


def ssh_options(directory: Path) -> list[str]:
    options = ("IdentitiesOnly=yes", f"UserKnownHostsFile={directory}/known_hosts", "ServerAliveInterval=15")
    return ["-i", f"{directory}/key", *(word for option in options for word in ("-o", option))]


def inventory(hosts: list[tuple[str, Host]], **variables: object) -> str:
    """An inventory for ansible with the real interpreter named: discovery may pick a shim that does not work."""
    import json

    entries = {
        name: {
            "ansible_host": host.address,
            "ansible_user": "root",
            "ansible_python_interpreter": os.path.realpath("/usr/bin/python3"),
            "ansible_ssh_private_key_file": f"{host.directory}/key",
            "ansible_ssh_common_args": " ".join(ssh_options(host.directory)[2:]),
            "gateway": host.gateway,
            **variables,
        }
        for name, host in hosts
    }
    return json.dumps({"all": {"hosts": entries}}, indent=2)


def up(directory: Path, *, number: int) -> Host:
    """Make and start a host whose files are in `directory`; raises RuntimeError with sshd's log where it does not start."""
    directory = directory.absolute()
    for name in ("disk", "root"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    gateway, address = f"10.213.{number}.1", f"10.213.{number}.2"
    _await_no_link(number)
    _write_settings(directory, gateway=gateway, address=address)
    cgroups = _make_cgroups(directory)
    namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
    join = "".join(f"echo $$ > {path}/cgroup.procs; " for path in cgroups)
    outer = spawn(
        ["sh", "-c", f'cd "$1"; {join} exec unshare {" ".join(namespaces)} sh ./boot', "host", str(directory)],
        log=directory / "boot.log",
        environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
    )
    pid = _first_process(outer, directory)
    (directory / "pid").write_text(f"{outer} {pid}\n")
    _connect(pid, number=number, gateway=gateway, address=address)
    host = Host(directory, address, gateway, pid)
    _await_ssh(host)
    return host


def claim_number() -> tuple[int, socket.socket]:
    """A number for `up` that no link of this machine has and no other process has claimed; it is claimed until the socket is closed."""
    numbers = list(range(10, 250))
    random.shuffle(numbers)
    for number in numbers:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0bayplan-disposable-{number}")  # abstract: it goes with its process, and leaves nothing
        except OSError:
            claim.close()
            continue
        if not Path(f"/sys/class/net/disposable{number}").exists():
            return number, claim
        claim.close()
    raise RuntimeError("there are no numbers left for a disposable host: end some of those that run")


def running(directory: Path) -> Host | None:
    """The host in `directory` if it runs."""
    directory = directory.absolute()
    try:
        pid = int((directory / "pid").read_text().split()[1])
        address = (directory / "address").read_text().strip()
    except (OSError, IndexError, ValueError):
        return None
    if not Path(f"/proc/{pid}/root{directory}/address").exists():
        return None
    return Host(directory, address, address[: -len(".2")] + ".1", pid)


def down(directory: Path) -> None:
    """End the host and remove all of it; nothing happens where there is none."""
    directory = directory.absolute()
    with contextlib.suppress(OSError, ValueError):
        outer, first = (int(word) for word in (directory / "pid").read_text().split())
        for pid in (first, outer):
            if _is_ours(pid, directory):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(outer, 0)
    for path in _cgroup_paths(directory):
        _remove_cgroup(path)
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        raise RuntimeError(f"{directory} could not be removed")


def _write_settings(directory: Path, *, gateway: str, address: str) -> None:
    (directory / "init.py").write_text(INIT)
    (directory / "address").write_text(address)
    (directory / "sshd_config").write_text(SSHD_CONFIG.format(directory=directory))
    registry = f'[[registry]]\nprefix = "{gateway}"\nlocation = "{gateway}"\ninsecure = true\n'
    (directory / "registries.conf").write_text(registry)
    boot = BOOT.replace("{cgroups}", "\n".join(_cgroup_mounts())).replace("{directory}", str(directory))
    boot = boot.replace("{name}", directory.name.replace("_", "-")[:60]).replace("{init}", f"{directory}/init.py")
    (directory / "boot").write_text(boot)
    for name in ("key", "host_key"):
        if not (directory / name).exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "disposable", "-f", str(directory / name)]
            subprocess.run(command, check=True)
    host_key = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text(f"{address} {host_key}")


def _cgroup_mounts() -> list[str]:
    """Shell lines that mount this machine's cgroup hierarchies as the host's own: its namespace's roots."""
    if (CGROUPS / "cgroup.controllers").exists():
        procs = "mkdir sys/fs/cgroup/init && echo $$ > sys/fs/cgroup/init/cgroup.procs"
        return ["mount -t cgroup2 cgroup2 sys/fs/cgroup", procs]
    lines = ["mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup"]
    for entry in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind, options, *_ = entry.split()
        if kind not in ("cgroup", "cgroup2") or not target.startswith(f"{CGROUPS}/"):
            continue
        name = target[len(str(CGROUPS)) + 1 :]
        wanted = [o for o in options.split(",") if o not in ("rw", "ro", "relatime", "nosuid", "nodev", "noexec")]
        option = f"-o {','.join(wanted)} " if kind == "cgroup" else ""
        lines += [f"mkdir -p sys/fs/cgroup/{name}", f"mount -t {kind} {option}{kind} sys/fs/cgroup/{name}"]
    return lines


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [
        Path(line.split()[1])
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[2] in ("cgroup", "cgroup2") and line.split()[1].startswith(f"{CGROUPS}/")
    ]


def _cgroup_paths(directory: Path) -> list[Path]:
    return [hierarchy / ("disposable" + str(directory).replace("/", "-")) for hierarchy in _hierarchies()]


def _make_cgroups(directory: Path) -> list[Path]:
    paths = _cgroup_paths(directory)
    if paths[0].parent == CGROUPS and (CGROUPS / "cgroup.subtree_control").exists():
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
        with contextlib.suppress(OSError):
            (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    for path in paths:
        path.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if path.parent.name == "cpuset" and not (path / name).read_text().strip():
                (path / name).write_text((path.parent / name).read_text())
    return paths


def _remove_cgroup(path: Path) -> None:
    for attempt in range(50):
        try:
            for inner, _, _ in os.walk(path, topdown=False):
                os.rmdir(inner)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02 * (attempt + 1))
    raise RuntimeError(f"{path} is still in use")


def spawn(command: list[str], *, log: Path, environment: dict[str, str]) -> int:
    """Start a server in a session of its own, with its output in `log`; returns its pid. Whoever ends it, waits for it."""
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    program = shutil.which(command[0]) or command[0]
    return os.posix_spawn(program, command, environment, file_actions=files, setsid=True)


def _first_process(outer: int, directory: Path) -> int:
    children = Path(f"/proc/{outer}/task/{outer}/children")
    for _ in range(6000):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if os.readlink(f"/proc/{outer}/exe").endswith("unshare"):
                return int(children.read_text().split()[0])
        if os.waitpid(outer, os.WNOHANG)[0]:
            break
        time.sleep(0.01)
    raise RuntimeError(f"the host did not start: {(directory / 'boot.log').read_text()}")


def _await_no_link(number: int) -> None:
    """A host that has just ended may keep its link for a moment; one that runs elsewhere keeps it, and is left alone."""
    for _ in range(100):
        if not Path(f"/sys/class/net/disposable{number}").exists():
            return
        time.sleep(0.1)
    raise RuntimeError(f"another disposable host has the addresses 10.213.{number}.0/24: end that one, or take another number")


def _connect(pid: int, *, number: int, gateway: str, address: str) -> None:
    link = f"disposable{number}"
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip"]
    for command in (
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
        ["ip", "addr", "add", f"{gateway}/24", "dev", link],
        ["ip", "link", "set", link, "up"],
        [*inside, "addr", "add", f"{address}/24", "dev", "eth0"],
        [*inside, "link", "set", "eth0", "up"],
        [*inside, "route", "add", "default", "via", gateway],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)


def _await_ssh(host: Host) -> None:
    for _ in range(1000):
        if host.ssh("true", check=False).returncode == 0:
            return
        time.sleep(0.1)
    logs = [(host.directory / name).read_text() for name in ("boot.log", "sshd.log") if (host.directory / name).exists()]
    raise RuntimeError(f"no ssh to {host.address}: {''.join(logs)}")


def _is_ours(pid: int, directory: Path) -> bool:
    """Whether `pid` is still the process that `up` started, and not a later one of the same number."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", directory) or Path(f"/proc/{pid}/root{directory}/address").exists()
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] not in ("up", "down"):
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(arguments[1])
    if arguments[0] == "down":
        down(directory)
        return 0
    number = int(arguments[2]) if len(arguments) > 2 else 0
    host = running(directory) or up(directory, number=number)
    (directory / "inventory.json").write_text(host.inventory())
    print(host.address)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
