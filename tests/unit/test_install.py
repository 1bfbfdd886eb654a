"""Unpacking the runtime on a host, and sweeping older ones."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "runtime"))
import archive as builder  # noqa: E402
from bayplan import install  # noqa: E402
from bayplan.errors import Invalid, Unavailable  # noqa: E402
from bayplan.store.root import StateRoot  # noqa: E402

BEFORE = time.time() - 2 * install.RECENT


@pytest.fixture(scope="module")
def archive() -> bytes:
    return builder.build()


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def test_it_is_unpacked_once_and_compiled_and_has_a_launcher(archive: bytes, root: str) -> None:
    digest = builder.digest(archive)
    old = os.umask(0o077)
    try:
        directory = install.install(archive, digest, root)
    finally:
        os.umask(old)
    assert directory == StateRoot(root).runtime(digest)
    assert list(Path(directory, "bayplan", "__pycache__").glob("*.pyc")), "bytecode is cached"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in Path(directory, "bayplan").rglob("*.py")}
    assert modes == {0o644}, "modes are the same whatever the umask"
    stamp = Path(directory, "lock").stat().st_mtime_ns
    install.install(archive, digest, root)
    assert Path(directory, "lock").stat().st_mtime_ns == stamp, "a second time changes nothing"
    told = subprocess.run([StateRoot(root).launcher, "version"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    first = Path(StateRoot(root).launcher).read_text().splitlines()[0]
    assert first == f"#!{os.path.realpath(sys.executable)} -IS", "the real interpreter, without the site module"


def test_an_archive_with_another_digest_is_refused_and_leaves_nothing(archive: bytes, root: str) -> None:
    with pytest.raises(Invalid):
        install.install(archive + b"x", builder.digest(archive), root)
    assert not os.path.exists(root), "nothing is made before the digest is checked"


def test_a_path_that_leaves_the_archive_is_refused_and_leaves_nothing(root: str) -> None:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bad:
        bad.writestr("bayplan/../../../evil.py", b"")
    with pytest.raises(Invalid):
        install.install(buffer.getvalue(), builder.digest(buffer.getvalue()), root)
    assert os.listdir(StateRoot(root).runtimes) == [], "no half of it stays"


def test_ten_installs_at_once_end_with_one_whole_runtime(archive: bytes, root: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from bayplan.install import install; "
    code += "install(open(sys.argv[2], 'rb').read(), *sys.argv[3:])"
    arguments = [sys.executable, "-c", code, str(PROJECT / "runtime"), str(tmp_path / "a.zip"), builder.digest(archive), root]
    running = [subprocess.Popen(arguments) for _ in range(10)]
    assert [process.wait() for process in running] == [0] * 10
    assert sorted(os.listdir(StateRoot(root).runtimes)) == sorted([builder.digest(archive), "interpreter"])


def test_only_what_nothing_uses_is_swept(archive: bytes, root: str) -> None:
    digest, runtimes = builder.digest(archive), Path(root, "runtime")
    install.install(archive, digest, root)
    for name in ("0" * 64, "1" * 64, "2" * 64, "3" * 64, ".new-killed"):
        (runtimes / name).mkdir()
        (runtimes / name / "lock").touch()
        os.utime(runtimes / name / "lock", (BEFORE, BEFORE))
    held = os.open(runtimes / ("1" * 64) / "lock", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    process = subprocess.Popen(
        [sys.executable, "-c", "input()", str(runtimes / ("2" * 64) / "bayplan/supervise/monitor.py")], stdin=subprocess.PIPE
    )
    launcher = Path(StateRoot(root).launcher)
    launcher.write_text(launcher.read_text().replace(digest, "3" * 64))
    try:
        assert install.sweep(root, keep=digest) == ("0" * 64,), "a call, a monitor and a launcher keep theirs"
        with pytest.raises(Unavailable):
            install.remove(root)
    finally:
        os.close(held)
        process.communicate(b"\n")
    assert sorted(os.listdir(runtimes)) == sorted(["1" * 64, "2" * 64, "3" * 64, digest, "interpreter"]), "and remains of a kill go"


def test_what_a_task_used_within_a_day_is_kept_for_the_other_controller_that_has_that_version(archive: bytes, root: str) -> None:
    digest, runtimes = builder.digest(archive), Path(root, "runtime")
    install.install(archive, digest, root)
    (runtimes / ("4" * 64)).mkdir()
    (runtimes / ("4" * 64) / "lock").touch()
    assert install.sweep(root, keep=digest) == (), "it may be wanted again"
    os.utime(runtimes / ("4" * 64) / "lock", (BEFORE, BEFORE))
    assert install.sweep(root, keep=digest) == ("4" * 64,), "a day later nobody wants it"


def test_an_interpreter_that_has_vanished_is_replaced_by_the_one_that_runs(archive: bytes, root: str) -> None:
    install.install(archive, builder.digest(archive), root)
    (Path(root) / "runtime" / "interpreter").write_text("/nowhere/python3\n")
    install.write_launcher(StateRoot(root), builder.digest(archive))
    assert os.path.realpath(sys.executable) in Path(StateRoot(root).launcher).read_text()


def test_removing_it_leaves_nothing_and_a_second_time_finds_nothing(archive: bytes, root: str) -> None:
    install.install(archive, builder.digest(archive), root)
    assert install.remove(root) and not install.remove(root)
    assert not os.path.exists(StateRoot(root).launcher) and not os.path.exists(StateRoot(root).runtimes)
