"""Jobs in processes of their own: errors travel, nobody is left, and no worker ever runs its caller's code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayplan.errors import BayplanError, Conflict, Denied, Invalid, Kernel, NotFound, Unavailable
from bayplan.store import workers
from bayplan.store.workers import Advance


def test_jobs_run_a_few_at_a_time_and_all_of_them_run(tmp_path: Path) -> None:
    def job(advance: Advance, number: int) -> None:
        (tmp_path / f"start-{number}").write_text(str(time.monotonic()))
        time.sleep(0.1)
        advance(number)
        (tmp_path / f"end-{number}").write_text(str(time.monotonic()))

    seen: list[tuple[int, ...]] = []
    workers.run([lambda advance, number=number: job(advance, number) for number in range(5)], at_once=2, watch=seen.append)  # type: ignore[misc]
    starts = [float((tmp_path / f"start-{number}").read_text()) for number in range(5)]
    ends = [float((tmp_path / f"end-{number}").read_text()) for number in range(5)]
    assert max(sum(start <= at < end for start, end in zip(starts, ends)) for at in starts) == 2
    assert seen[-1] == (0, 1, 2, 3, 4), "the watcher sees every job's count"


@pytest.mark.parametrize(
    "error", [Invalid("a"), NotFound("b"), Conflict("c"), Denied("d"), Unavailable("e"), Kernel("f", OSError(28, "full"))]
)
def test_an_error_of_a_job_is_raised_as_what_it_was(error: BayplanError) -> None:
    def job(advance: Advance) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        workers.run([job], at_once=1)
    assert str(raised.value) == str(error) and getattr(raised.value, "errno", 0) == getattr(error, "errno", 0)


def test_a_job_that_is_killed_is_an_error_and_not_a_success() -> None:
    with pytest.raises(Kernel, match="killed"):
        workers.run([lambda advance: os.kill(os.getpid(), 9)], at_once=1)


def test_a_full_disk_and_an_endless_message_travel_too() -> None:
    def full(advance: Advance) -> None:
        raise OSError(28, "No space left on device", "x" * 1_000_000)

    with pytest.raises(Kernel) as raised:
        workers.run([full], at_once=1)
    assert raised.value.errno == 28


def test_a_job_that_does_not_end_when_it_is_told_to_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PATIENCE_SECONDS", 0.2)

    def deaf(advance: Advance) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(100)

    def failing(advance: Advance) -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        raise Denied("no")

    with pytest.raises(Denied):
        workers.run([deaf, failing], at_once=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_first_error_ends_the_other_jobs_which_clean_up(tmp_path: Path) -> None:
    def slow(advance: Advance) -> None:
        (tmp_path / "started").touch()
        try:
            time.sleep(30)
        finally:
            (tmp_path / "cleaned").touch()

    def wrong(advance: Advance) -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        raise Invalid("wrong")

    started = time.monotonic()
    with pytest.raises(Invalid):
        workers.run([slow, wrong], at_once=2)
    assert (tmp_path / "cleaned").exists() and time.monotonic() - started < 5


RACE = """
import os, random, sys, time
from bayplan.errors import Invalid
from bayplan.store import workers
def wrong(advance):
    raise Invalid("x")
def quick(advance):
    time.sleep(random.random() * 0.002)
for _ in range(150):
    try:
        workers.run([wrong, quick, quick, quick], at_once=4)
    except Invalid:
        pass
os.write(1, b"%d\\n" % os.getpid())
"""


def test_no_worker_ever_runs_on_into_its_caller_s_code() -> None:
    """Errors end workers at every moment of their life, also while they report."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "runtime")}
    done = subprocess.run([sys.executable, "-c", RACE], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and not done.stderr, done.stdout + done.stderr
