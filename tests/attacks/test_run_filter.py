"""What the default filter and capabilities refuse, tried by programs that make the calls themselves."""

from __future__ import annotations

import ctypes
import os
import subprocess

import pytest
from attack_lab import IMAGE, NET, Host

EPERM, ENOSYS = "1", "38"
ALLOWED = {"plain_socket", "ptrace_first", "kcmp", "process_vm_readv", "chroot_nothing"}  # on the container's own, or on nothing
ABSENT = {"clone3", "newer", "newest", "x32", "x32_ptrace"}


def made(said: str) -> dict[str, str]:
    return dict(line.split() for line in said.splitlines())


def outcome(host: Host, verb: str, *options: str, program: str = "calls") -> subprocess.CompletedProcess[bytes]:
    if verb == "run":
        return host.ran("run", "--rm", *NET, *options, IMAGE, program)
    host.up("entered", options=(*NET, *options))
    return host.ran("exec", "entered", program)


@pytest.mark.parametrize("user", ["0", "1000"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_calls_that_broke_others_are_refused(host: Host, verb: str, user: str) -> None:
    """AF_ALG (CVE-2026-31431), AF_VSOCK, keyctl, open_by_handle_at ("shocker"), kexec, modules, bpf, perf, userfaultfd, io_uring, and
    namespaces of one's own (CVE-2022-0185)."""
    calls = made(outcome(host, verb, "--user", user).stdout.decode())
    assert {calls[name] for name in ABSENT} == {ENOSYS}, "what the profile does not know does not exist: libc falls back"
    assert calls["plain_socket"] == "0", "ordinary programs work"
    through = {name: number for name, number in calls.items() if name not in ABSENT | ALLOWED and number != EPERM}
    assert not through, f"all others are forbidden: {through}"


def test_without_the_filter_most_of_them_get_through(host: Host) -> None:
    calls = made(outcome(host, "run", "--security-opt", "seccomp=unconfined", "--user", "1000").stdout.decode())
    for name in ("unshare_user", "keyctl", "add_key", "personality"):
        assert calls[name] == "0", f"{name} works for an ordinary user of this host, so the attack bites: {calls}"
    assert calls["newer"] == ENOSYS


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_entry_for_32_bit_programs_is_no_way_around(host: Host, verb: str) -> None:
    done = outcome(host, verb, program="calls32")
    if done.returncode == 139:
        pytest.skip("this kernel has no 32-bit entry")
    assert done.returncode == 42, f"each of these calls is refused there too; {done.returncode - 100} is the first that is not"


def test_without_the_filter_the_32_bit_entry_is_a_way(host: Host) -> None:
    done = outcome(host, "run", "--security-opt", "seccomp=unconfined", program="calls32")
    assert done.returncode not in (42, 99), "so the attack bites"


def test_no_process_outside_can_be_traced_or_seen(host: Host) -> None:
    """A container that has its own pid namespace names nobody else; one that shares the host's may trace nobody else."""
    host.up("other")
    target = host.first("other")
    shown = host.command("run", "--rm", *NET, IMAGE, "sh", "-c", "ls -d /proc/[0-9]*; ls -l /proc/*/ns/mnt | wc -l")
    assert len(shown.splitlines()) <= 5, f"only itself: {shown}"
    script = f"cat /proc/{target}/environ; readlink /proc/{target}/exe; ls /proc/{target}/root/; cat /proc/{os.getpid()}/mem"
    done = host.ran("run", "--rm", *NET, "--pid", "host", "--user", "1000", IMAGE, "sh", "-c", script)
    assert not done.stdout, f"another's memory, program and root stay closed even to one that shares the pid namespace: {done}"


def test_root_that_shares_the_hosts_pids_still_reaches_no_file_of_the_host(host: Host) -> None:
    script = f"ls /proc/{os.getpid()}/root/ /proc/1/root/ /proc/1/cwd/; cat /proc/{os.getpid()}/environ; readlink /proc/{os.getpid()}/fd/0"
    done = host.ran("run", "--rm", *NET, "--pid", "host", IMAGE, "sh", "-c", script)
    assert not done.stdout, f"its fourteen capabilities are fewer than the host's root has: {done}"


def test_a_key_of_the_callers_session_is_not_in_the_container(host: Host) -> None:
    """The keyring of who starts it would hand its keys on; keyctl is refused, so the look is without the filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    key = libc.syscall(248, b"user", b"bayplan-attack", b"secret", 6, -3)  # add_key into the session keyring
    if key < 0:
        pytest.skip("this kernel gives no keys to this process")
    try:
        done = host.ran("run", "--rm", *NET, "--security-opt", "seccomp=unconfined", "--user", "0", IMAGE, "cat", "/proc/self/status")
        assert done.returncode == 0
        found = host.ran("run", "--rm", *NET, "--security-opt", "seccomp=unconfined", IMAGE, "findkey").stdout
        assert found == b"absent\n", "it is searched for from the session keyring up"
    finally:
        libc.syscall(250, 9, key, -3)  # KEYCTL_UNLINK


def test_a_file_handle_opens_nothing_of_the_host(host: Host) -> None:
    """The "shocker": CAP_DAC_READ_SEARCH and a guessed inode number. Without the capability, with or without the filter."""
    for options in ((), ("--security-opt", "seccomp=unconfined"), ("--cap-add", "DAC_READ_SEARCH", "--user", "1000")):
        calls = made(outcome(host, "run", *options).stdout.decode())
        assert calls["open_by_handle_at"] == EPERM, f"{options}: {calls}"
