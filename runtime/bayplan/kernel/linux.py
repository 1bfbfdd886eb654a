"""System calls that `os` does not have. The only file that calls libc.

Every wrapper raises OSError with errno, its text and the path or name concerned, and does nothing else.
Numbers are the kernel's for x86-64 and aarch64; calls from 424 on have one number on both.
"""

from __future__ import annotations

import os
import struct

from bayplan.kernel import foreign

CLONE_NEWTIME = 0x00000080
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC = 32, 1024, 2048, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE = 1 << 18, 1 << 19, 1 << 20, 1 << 17
MS_RELATIME, MS_STRICTATIME = 1 << 21, 1 << 24
MS_SYNCHRONOUS, MS_MANDLOCK, MS_DIRSYNC, MS_NOSYMFOLLOW = 16, 64, 128, 256
MS_SILENT, MS_I_VERSION, MS_LAZYTIME = 1 << 15, 1 << 23, 1 << 25
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_ATIME = 1, 2, 4, 8, 0x70
MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_NODIRATIME = 0x10, 0x20, 0x80
MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x100000, 0x200000

PROC_MAGIC, TMPFS_MAGIC, DEVPTS_MAGIC, NSFS_MAGIC = 0x9FA0, 0x01021994, 0x1CD1, 0x6E736673
CGROUP2_MAGIC, CGROUP_MAGIC, OVERLAY_MAGIC, SYSFS_MAGIC = 0x63677270, 0x27E0EB, 0x794C7630, 0x62656572

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
O_PATH = 0o10000000
AT_EMPTY_PATH, AT_RECURSIVE, OPEN_TREE_CLONE = 0x1000, 0x8000, 1
FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 1, 6

SECCOMP_SPEC_ALLOW, SECCOMP_NEW_LISTENER = 4, 8
PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 4, 8, 23, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = (
    36,
    38,
    47,
    2,
    4,
)
PR_SET_TIMERSLACK = 29

MACHINE = os.uname().machine
_ARM = MACHINE == "aarch64"
_CLONE = 220 if _ARM else 56
_CAPGET, _CAPSET = (90, 91) if _ARM else (125, 126)
_PIVOT_ROOT = 41 if _ARM else 155
_KEYCTL = 219 if _ARM else 250
_SECCOMP = 277 if _ARM else 317
_MEMFD_CREATE = 279 if _ARM else 319
_BPF = 280 if _ARM else 321
_PRLIMIT64 = 261 if _ARM else 302
_EXECVEAT = 281 if _ARM else 322
_SETRESUID, _SETRESGID, _SETGROUPS = (147, 149, 159) if _ARM else (117, 119, 116)
_RT_SIGACTION = 134 if _ARM else 13
_RT_SIGPROCMASK = 135 if _ARM else 14
_SCHED_SETAFFINITY, _SCHED_SETATTR = (122, 274) if _ARM else (203, 314)
_IOPRIO_SET, _PERSONALITY = (30, 92) if _ARM else (251, 135)
_SIGKILL, _SIGSTOP = 9, 19
_PIDFD_SEND_SIGNAL, _OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 424, 428, 429, 430, 431, 432
_PIDFD_OPEN, _CLONE3, _CLOSE_RANGE, _OPENAT2, _PIDFD_GETFD, _MOUNT_SETATTR = 434, 435, 436, 437, 438, 442

_libc, _libc_locked = foreign.libc, foreign.libc_locked
_libc.syscall.restype = _libc_locked.syscall.restype = foreign.c_long
_before_fork, _after_fork = foreign.interpreter.PyOS_BeforeFork, foreign.interpreter.PyOS_AfterFork_Parent
_after_fork_in_child = foreign.interpreter.PyOS_AfterFork_Child


def _check(result: int, name: str) -> int:
    if result < 0:
        number = foreign.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def _words(number: int, args: tuple[object, ...]) -> list[object]:
    # a bare int would be passed as 32 bits; bytes and None are pointers already
    return [foreign.c_long(arg) if isinstance(arg, int) else arg for arg in (number, *args)]


def _call(number: int, *args: object, name: str = "") -> int:
    return _check(_libc.syscall(*_words(number, args)), name)


def _fork(number: int, *args: object, name: str) -> int:
    """`_call` for what returns twice: told of it as os.fork tells it, the interpreter makes the child one of a single thread.

    Between the three calls other threads run no Python, nor begin or end: one that waits for a lock of the interpreter's would
    have the child wait for ever, and from Python 3.13 the caller too.
    """
    words, result = _words(number, args), -1
    _before_fork()
    try:
        result = _libc_locked.syscall(*words)
    finally:
        (_after_fork if result else _after_fork_in_child)()
    return _check(result, name)


def clone(flags: int) -> int:
    """Fork with namespace `flags` (clone(2) without a stack); 0 in the child, which has this thread only."""
    return _fork(_CLONE, flags | 17, 0, 0, 0, 0, name="clone")


def clone_into_cgroup(flags: int, cgroup: int) -> int:
    """As `clone`, with the child born in the v2 cgroup whose directory `cgroup` is a descriptor of (clone3, Linux 5.7)."""
    arguments = struct.pack("=11Q", flags | CLONE_INTO_CGROUP, 0, 0, 0, 17, 0, 0, 0, 0, 0, cgroup)
    return _fork(_CLONE3, arguments, len(arguments), name="clone3")


def set_identity(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Groups, group and user of this thread. libc's calls tell all threads that it knows of: in a clone, those of the caller too."""
    _call(_SETGROUPS, len(groups), struct.pack(f"={len(groups)}I", *groups), name="setgroups")
    _call(_SETRESGID, gid, gid, gid, name="setresgid")
    _call(_SETRESUID, uid, uid, uid, name="setresuid")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Join the namespace behind `fd`; EINVAL unless it is of `kind` (a CLONE_NEW flag)."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(_name(source), _name(target), _name(kind), foreign.c_ulong(flags), _name(data) or None)
    _check(result, target if not target.startswith("/proc/self/fd/") else source)


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(_name(target), flags), target)


def pivot_root(new: str, old: str) -> None:
    _call(_PIVOT_ROOT, _name(new), _name(old), name=new)


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), Linux 5.6; ENOSYS before. The descriptor is close-on-exec."""
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    return _call(_OPENAT2, directory, _name(path), how, len(how), name=path)


def open_tree(path: str, flags: int, directory: int = -100) -> int:
    """A descriptor of the mount at `path`, detached from the tree with OPEN_TREE_CLONE (Linux 5.2); with AT_EMPTY_PATH
    and no path that of the descriptor `directory`."""
    return _call(_OPEN_TREE, directory, _name(path), flags | os.O_CLOEXEC, name=path)


def move_mount(mount_fd: int, target_fd: int) -> None:
    """Attach the detached mount `mount_fd` on the directory or file `target_fd` (both O_PATH will do)."""
    _call(_MOVE_MOUNT, mount_fd, b"", target_fd, b"", 0x4 | 0x40, name="move_mount")


def fsopen(kind: str) -> int:
    """A descriptor for making a file system of this kind (Linux 5.2)."""
    return _call(_FSOPEN, _name(kind), 1, name=kind)


def fsconfig(context: int, command: int, key: str = "", value: str = "") -> None:
    """Set an option of the file system that is being made, or make it. A value has 255 bytes at most."""
    _call(_FSCONFIG, context, command, _name(key) or None, _name(value) or None, 0, name=value or key or "fsconfig")


def fsmount(context: int, attributes: int) -> int:
    """A detached mount, with MOUNT_ATTR_*, of the file system that was made."""
    return _call(_FSMOUNT, context, 1, attributes, name="fsmount")


def mount_setattr(fd: int, *, set_flags: int, recursive: bool, clear: int = 0, propagation: int = 0, userns: int = 0) -> None:
    """Set and clear MOUNT_ATTR_* and set propagation of the mount behind `fd` (Linux 5.12); `userns` is for MOUNT_ATTR_IDMAP."""
    attributes = struct.pack("=4Q", set_flags, clear, propagation, userns)
    _call(_MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0), attributes, len(attributes), name="mount_setattr")


def prctl(option: int, *args: int) -> int:
    words = [foreign.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(option, *words), f"prctl {option}")


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three sets, given as bit masks, of this process (version 3 of the interface, 64 bits)."""
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "=6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    _call(_CAPSET, struct.pack("=Ii", 0x20080522, 0), data, name="capset")


def capget() -> tuple[int, int, int]:
    """The effective, permitted and inheritable set of this process, as bit masks."""
    data = foreign.create_string_buffer(24)
    _call(_CAPGET, struct.pack("=Ii", 0x20080522, 0), data, name="capget")
    low, high = struct.unpack_from("=3I", data, 0), struct.unpack_from("=3I", data, 12)
    return low[0] | high[0] << 32, low[1] | high[1] << 32, low[2] | high[2] << 32


def seccomp_filter(program: bytes, *, flags: int = 0) -> int:
    """Install a filter of `struct sock_filter`s (8 bytes each); with SECCOMP_FILTER_FLAG_NEW_LISTENER (8) in `flags`, return the
    listener, which is close-on-exec. EACCES without no_new_privs or CAP_SYS_ADMIN; EINVAL for flags that the kernel does not know."""
    buffer = foreign.create_string_buffer(program, len(program))
    return _call(_SECCOMP, 1, flags, struct.pack("=HxxxxxxQ", len(program) // 8, foreign.addressof(buffer)), name="seccomp")


def seccomp_probe(flags: int) -> None:
    """Always an OSError, as no filter is given: EINVAL for flags that the kernel does not know, EFAULT for those that it does."""
    _call(_SECCOMP, 1, flags, 0, name="seccomp")


def bpf(command: int, attributes: bytes) -> int:
    return _call(_BPF, command, attributes, len(attributes), name="bpf")


def bpf_load(kind: int, program: bytes) -> int:
    """A descriptor of the verified eBPF `program` (8 bytes an instruction) of type `kind` (BPF_PROG_LOAD)."""
    code, licence = foreign.create_string_buffer(program, len(program)), foreign.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII", kind, len(program) // 8, foreign.addressof(code), foreign.addressof(licence), 0, 0, 0, 0, 0
    )
    return bpf(5, attributes)


def pidfd_open(pid: int) -> int:
    """Linux 5.3; ENOSYS before."""
    return _call(_PIDFD_OPEN, pid, 0, name=str(pid))


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A close-on-exec copy of the process's descriptor `fd`. Linux 5.6; ENOSYS before."""
    return _call(_PIDFD_GETFD, pidfd, fd, 0, name=f"descriptor {fd}")


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Linux 5.1; ESRCH when that very process has ended."""
    _call(_PIDFD_SEND_SIGNAL, pidfd, number, None, 0, name=f"signal {number}")


def close_from(first: int) -> None:
    """Close every descriptor from `first` on (close_range, Linux 5.9; the list in /proc before)."""
    try:
        _call(_CLOSE_RANGE, first, 0xFFFFFFFF, 0)
    except OSError:
        limit = os.sysconf("SC_OPEN_MAX")
        os.closerange(first, limit if 0 < limit <= 65536 else 65536)


def memfd(name: str, flags: int) -> int:
    return _call(_MEMFD_CREATE, _name(name), flags, name="memfd_create")


def sethostname(name: str) -> None:
    encoded = _name(name)
    _check(_libc.sethostname(encoded, foreign.c_size_t(len(encoded))), name)


def setdomainname(name: str) -> None:
    encoded = _name(name)
    _check(_libc.setdomainname(encoded, foreign.c_size_t(len(encoded))), name)


def join_new_keyring() -> None:
    """Leave the session keyring for a new, nameless one (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING)."""
    _call(_KEYCTL, 1, None, name="keyctl")


def set_rlimit(number: int, soft: int, hard: int) -> None:
    """Both limits of resource `number` for this process; -1 is RLIM_INFINITY."""
    _call(_PRLIMIT64, 0, number, struct.pack("=QQ", soft % (1 << 64), hard % (1 << 64)), None, name="setrlimit")


def get_rlimit(number: int) -> tuple[int, int]:
    """The soft and the hard limit of resource `number`; RLIM_INFINITY is -1."""
    buffer = foreign.create_string_buffer(16)
    _call(_PRLIMIT64, 0, number, None, buffer, name="getrlimit")
    soft, hard = struct.unpack_from("=qq", buffer)
    return soft, hard


def allow_all_processors() -> None:
    """An affinity of this thread for every processor there is; the kernel takes away those that its cpuset does not have."""
    _call(_SCHED_SETAFFINITY, 0, 1024, b"\xff" * 1024, name="sched_setaffinity")


def set_scheduler(attributes: bytes, pid: int = 0) -> None:
    """sched_setattr(2) of this thread or of `pid`, `attributes` being a whole `struct sched_attr`."""
    _call(_SCHED_SETATTR, pid, attributes, 0, name="sched_setattr")


def set_io_priority(value: int) -> None:
    """ioprio_set(2) of this thread: the class from bit 13 on, the level beneath."""
    _call(_IOPRIO_SET, 1, 0, value, name="ioprio_set")


def personality(persona: int) -> int:
    """Set personality(2), and return the one before; 0xFFFFFFFF only asks for it."""
    return _call(_PERSONALITY, persona, name="personality")


def reset_signals() -> None:
    """Every signal's default action, none blocked. By the system call: libc refuses 32 and 33, which a caller may have ignored."""
    for number in range(1, 65):
        if number not in (_SIGKILL, _SIGSTOP):
            _call(_RT_SIGACTION, number, bytes(32), None, 8)
    _call(_RT_SIGPROCMASK, 2, bytes(8), None, 8)


def file_system_magic(fd: int) -> int:
    """`f_type` of fstatfs(2), which tells procfs from a directory that looks like it."""
    buffer = foreign.create_string_buffer(256)
    _check(_libc.fstatfs(fd, buffer), "fstatfs")
    return int(struct.unpack_from("=q", buffer)[0]) & 0xFFFFFFFF


def execveat(fd: int, args: list[bytes], env: list[bytes]) -> None:
    """Become the program behind `fd`. Returns only by OSError. (libc's fexecve may go through /proc, which is not ours.)"""
    argv = (foreign.c_char_p * (len(args) + 1))(*args, None)
    envp = (foreign.c_char_p * (len(env) + 1))(*env, None)
    _call(_EXECVEAT, fd, b"", argv, envp, AT_EMPTY_PATH, name="execveat")


def ioctl(fd: int, request: int, argument: int = 0) -> int:
    return _check(_libc.ioctl(fd, foreign.c_ulong(request), foreign.c_long(argument)), "ioctl")


def ioctl_bytes(fd: int, request: int, argument: bytes) -> bytes:
    """ioctl(2) with a structure in and out."""
    buffer = foreign.create_string_buffer(argument, len(argument))
    _check(_libc.ioctl(fd, foreign.c_ulong(request), buffer), "ioctl")
    return buffer.raw


def _name(text: str) -> bytes:
    # os.fsencode: names of files need not be UTF-8. A null character would cut the path short.
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise OSError(22, "name with a null character", text)
    return encoded


def eventfd() -> int:
    """A counter as a descriptor (eventfd(2)), which reads as eight bytes; close-on-exec, and EAGAIN while it is zero."""
    return _check(_libc.eventfd(0, os.O_CLOEXEC | os.O_NONBLOCK), "eventfd")


def inotify() -> int:
    """A descriptor for `inotify_add_watch`; close-on-exec, and EAGAIN while nothing has happened (inotify(7))."""
    return _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")


def inotify_add_watch(fd: int, path: str, events: int) -> int:
    return _check(_libc.inotify_add_watch(fd, _name(path), foreign.c_uint32(events)), path)


def fcntl(fd: int, command: int, argument: int) -> int:
    return _check(_libc.fcntl(fd, command, foreign.c_long(argument)), "fcntl")


def set_window_size(fd: int, *, rows: int, columns: int) -> None:
    ioctl_bytes(fd, 0x5414, struct.pack("=4H", rows, columns, 0, 0))


def bpf_query(cgroup: int, kind: int, most: int) -> tuple[int, ...]:
    """The identities of the programs of attach type `kind` on a cgroup's descriptor (BPF_PROG_QUERY)."""
    found = (foreign.c_uint32 * most)()
    attributes = foreign.create_string_buffer(
        struct.pack("=IIIIQII", cgroup, kind, 0, 0, foreign.addressof(found), most, 0), 32
    )
    _call(_BPF, 16, attributes, 32, name="bpf")
    return tuple(found[: struct.unpack_from("=I", attributes, 24)[0]])
