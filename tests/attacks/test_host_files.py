"""Other users of the host, names that can be foretold, and what is replaced between its check and its use."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from base64 import b64encode
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, RUNTIME, Host
from engine_lab import service

from bayplan import install
from bayplan.errors import BayplanError
from bayplan.store import status
from bayplan.store.root import StateRoot
from bayplan.supervise import launch

SECRET = "b64" + os.urandom(9).hex()


def as_nobody(script: str) -> str:
    """What a program of another user's prints; the interpreter is one that this user may execute."""
    become = "import os,sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])"
    return subprocess.run([sys.executable, "-c", become, script], capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def secretive(host: Host) -> str:
    """The name of a container with a secret, a log, a volume and a set-user-ID file."""
    web = service(network_mode="none", secrets=["key"], volumes=["data:/d"], image=IMAGE,
                  command=["sh", "-c", "echo $0 said; cp /bin/busybox /d/su;"
                           " chmod 6755 /d/su; cat /run/secrets/key >/d/c; exec sleep 1000"])  # fmt: skip
    carried = {"files": {"./s": b64encode(SECRET.encode()).decode()}}
    host.done(
        {"name": "shop", "services": {"web": web}, "volumes": {"data": {}}, "secrets": {"key": {"file": "./s"}}, "x-bayplan": carried}
    )
    host.wait("it has written", lambda: "said" in host.output("shop-web-1"))
    return "shop-web-1"


def test_another_user_reads_nothing_of_the_state(host: Host, secretive: str) -> None:
    for parent in Path(host.path).parents:  # the way there is open, as to /var/lib/bayplan
        if parent.stat().st_mode & 0o001 == 0 and str(parent).startswith(("/tmp/", "/var/tmp/")):
            parent.chmod(parent.stat().st_mode | 0o055)
    directory = host.directory(secretive)
    said = as_nobody(
        f"ls {host.path} {directory}; cat {directory}/* {directory}/files/0 {host.path}/db.sqlite; {directory}/rootfs/bin/su; echo tried"
    )
    assert said == "tried\n", f"state, log, secret, records and set-user-ID files: {said}"
    run = status.read_started(str(directory))
    assert run is not None
    show = "; ".join(
        f"cat /proc/{pid}/environ; ls /proc/{pid}/root/ /proc/{pid}/fd/; readlink /proc/{pid}/cwd" for pid in (run.pid, run.monitor)
    )
    assert as_nobody(f"{show}; echo tried") == "tried\n", "nor through its processes"
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{directory}/monitor.sock')"
    assert "reached" not in as_nobody(f'/usr/bin/python3 -c "{connect}" && echo reached'), "nor its monitor"


def test_each_file_is_closed_even_where_the_directory_above_it_is_opened(host: Host, secretive: str) -> None:
    """A second line: somebody has opened the state's directory up, for a backup say."""
    tree = Path(host.path)
    open_to_others = []
    for path in (p for p in tree.rglob("*") if "layers" not in p.parts and "upper" not in p.parts and "_data" not in p.parts):
        mode = path.lstat().st_mode
        harmless = path.name in ("resolv.conf", "hosts", "hostname", "driver") or path.relative_to(tree).parts[0] in (
            "l",
            "blobs",
            "runtimes",
        )
        secret = path.parent.name == "files" and stat.S_IMODE(path.parent.stat().st_mode) == 0o700  # its mode is what a container sees
        if stat.S_ISREG(mode) and mode & 0o077 and not harmless and not secret:
            open_to_others.append(f"{path.relative_to(tree)} {mode:o}")
    assert not open_to_others, f"only what is in every container or image anyway is readable: {open_to_others}"


def test_a_secret_is_in_no_command_line_and_no_environment(host: Host) -> None:
    """Looked at all the time while a stack is made, entered and taken away."""
    seen, stop = set(), threading.Event()

    def look() -> None:
        while not stop.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                for name in ("cmdline", "environ"):
                    try:
                        if SECRET.encode() in Path(f"/proc/{pid}/{name}").read_bytes():
                            seen.add((pid, name))
                    except OSError:
                        continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        carried = {"files": {"./s": b64encode(SECRET.encode()).decode()}}
        web = service(network_mode="none", secrets=["key"], image=IMAGE)
        host.done({"name": "shop", "services": {"web": web}, "secrets": {"key": {"file": "./s"}}, "x-bayplan": carried})
        assert host.inside("shop-web-1", "cat", "/run/secrets/key") == SECRET
    finally:
        stop.set()
        watcher.join()
    assert not seen, f"{seen}"


def test_nothing_is_made_where_everybody_may_make_things(host: Host, tmp_path: Path) -> None:
    """Predictable names: traced, every file that is made lies in our own directories, whatever TMPDIR says."""
    trace = tmp_path / "trace"
    words = host.argv("run", "--rm", *NET, "-v", "some:/v", IMAGE, "true")
    calls = "trace=open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,rename,renameat,renameat2,link,linkat,bind"
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", str(trace), *words], capture_output=True, timeout=60, env={**os.environ, "TMPDIR": "/tmp"}
    )
    if done.returncode:
        pytest.skip(f"strace does not run here: {done.stderr!r}")
    public = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/", "/var/run/")
    made = [
        line
        for line in trace.read_text(errors="replace").splitlines()
        if "O_CREAT" in line or not line.partition("(")[0].endswith(("open", "openat", "openat2"))
    ]
    public_ones = [
        line for line in made if any(f'"{each}' in line for each in public) and host.path not in line and str(RUNTIME) not in line
    ]
    assert made and not public_ones, f"{public_ones}"


@pytest.mark.parametrize("write", ["status", "settings", "launcher"])
def test_a_link_that_waits_at_a_temporary_name_is_not_followed(tmp_path: Path, write: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("the host's")
    writers = {
        "status": (f"started.{os.getpid()}.new", lambda: status.write_file(str(tmp_path / "started"), "x")),
        "settings": (f"monitor.settings.{os.getpid()}", lambda: launch.write_settings(str(tmp_path), launch.MonitorSettings())),
        "launcher": (f"bayplan.{os.getpid()}.new", lambda: install._replace(str(tmp_path / "bayplan"), "x", mode=0o755)),
    }
    name, action = writers[write]
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(OSError):
        action()
    assert victim.read_text() == "the host's", "what it leads to is as it was"


@pytest.fixture(scope="module")
def archive() -> bytes:
    sys.path.insert(0, str(RUNTIME))
    import archive as builder

    return bytes(builder.build())


def test_an_archive_that_is_not_the_one_named_is_refused_before_anything_is_written(archive: bytes, tmp_path: Path) -> None:
    import hashlib

    named = hashlib.sha256(archive).hexdigest()
    for wrong in (archive[:-1], archive + b"\0", b"", archive.replace(b"bayplan", b"baypIan", 1)):
        with pytest.raises(BayplanError):
            install.install(wrong, named, str(tmp_path / "state"))
        assert not (tmp_path / "state").exists()
    for odd in ("../../x", "", "A" * 64, named.upper(), named[:63], "/" + named):
        with pytest.raises((BayplanError, AssertionError)):
            install.install(archive, odd, str(tmp_path / "state"))


def test_a_runtime_whose_directory_was_made_by_another_is_not_run(archive: bytes, tmp_path: Path) -> None:
    """The state, or the directory of runtimes in it, belongs to somebody else, or is a link to what does."""
    import hashlib

    named, theirs = hashlib.sha256(archive).hexdigest(), tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 1000, 1000)
    for make in (
        lambda state: state.symlink_to(theirs),
        lambda state: (state.mkdir(), os.chown(state, 1000, 1000)),
        lambda state: (state.mkdir(), state.chmod(0o777)),
    ):
        state = tmp_path / f"state{len(os.listdir(tmp_path))}"
        make(state)
        refused = False
        try:
            install.install(archive, named, str(state))
        except BayplanError:
            refused = True
        closed = state.stat().st_uid == 0 and not state.stat().st_mode & 0o022
        assert refused or closed, f"refused, or taken into possession: {oct(state.stat().st_mode)} of {state.stat().st_uid}"
    assert not os.listdir(theirs), "nothing of ours is in a place where its owner can replace it"


def test_a_link_in_place_of_a_digest_s_directory_is_not_taken_for_the_runtime(archive: bytes, tmp_path: Path) -> None:
    import hashlib

    named, elsewhere = hashlib.sha256(archive).hexdigest(), tmp_path / "elsewhere"
    state = StateRoot(str(tmp_path / "state"))
    directory = install.install(archive, named, state.path)
    assert Path(directory).stat().st_uid == 0 and not Path(directory).stat().st_mode & 0o022
    writable = [str(path) for path in Path(directory).rglob("*") if path.lstat().st_mode & 0o022 and not path.is_symlink()]
    assert not writable, f"nobody but root replaces a file of it: {writable}"
    assert not elsewhere.exists()
