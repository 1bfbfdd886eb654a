"""kill -9 of whatever works, at any moment: the next converge reaches what is declared, and nothing is left over.

KILLS in the environment says how often (1,000 in `make soak`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_lab import RUNTIME, Lab, places, service

from bayplan.engine import containers, publications
from bayplan.kernel import firewall, interfaces
from bayplan.plan import addresses
from bayplan.store import records, status

KILLS = int(os.environ.get("KILLS", "40"))
FIRST = 20_000 + os.getpid() % 10_000  # several runs may go on at once
PORTS = (FIRST, FIRST + 1)
CONVERGE = """
import json, sys
from bayplan import dispatch
from bayplan.model.result import Request
request = json.load(sys.stdin)
response = dispatch.handle(Request("converge", request["want"], False, False, request["root"]))
sys.exit(0 if response.error is None else str(response.error))
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    yield found
    found.close()


def wanted(turn: int) -> dict[str, object]:
    """Two declarations in turn, so that each converge creates, changes, replaces and removes something."""
    odd = turn % 2
    services = {
        "one": service("sleep", str(1000 + odd), ports=[f"{PORTS[odd]}:80"], volumes=["data:/data"]),
        "two": service(mem_limit="64m" if odd else "96m", restart="always"),
        ("three" if odd else "four"): service(networks={"side": {}, "default": {}}),
        "five": service("sleep", str(2000 + odd), ports=[f"{PORTS[0] + 10 + odd}:80"]),
        "six": service(ports=[f"{PORTS[0] + 20 + odd}:80"], networks={"side": {}} if odd else {"default": {}, "side": {}}),
    }
    return {"name": "kill", "services": services, "networks": {"side": {}}, "volumes": {"data": {}}}


def converging(lab: Lab, want: dict[str, object]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CONVERGE], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(RUNTIME)},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps({"want": want, "root": lab.path}))
    process.stdin.close()
    return process


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in children for found in (int(child), *descendants(int(child)))]


def monitors(lab: Lab) -> list[int]:
    state = lab.state()
    found = [status.read_started(state.root.container(record.id)) for record in containers.all_records(state)]
    boot = status.boot_id()
    return [each.monitor for each in found if each and status.monitor_alive(each, boot)]


def kill_something(lab: Lab, process: subprocess.Popen[str], dice: random.Random) -> None:
    """The converge with its builder, the builder alone, or a monitor that is running a container."""
    own = descendants(process.pid)
    victims = {0: [process.pid, *own], 1: own[:1] or [process.pid], 2: monitors(lab)[:1] or [process.pid]}[dice.randrange(3)]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for pid in victims:
        lab.wait(f"process {pid} is dead", lambda pid=pid: status.start_time(pid) == 0)


def test_whatever_is_killed_the_next_converge_reaches_the_declared_state(lab: Lab) -> None:
    dice = random.Random(int(os.environ.get("KILLSEED", "7")))
    whole = time.monotonic()
    with converging(lab, wanted(0)) as first:
        assert first.wait(60) == 0, first.stderr.read() if first.stderr else ""
    longest = time.monotonic() - whole
    for turn in range(1, KILLS + 1):
        with converging(lab, wanted(turn)) as process:
            time.sleep(dice.uniform(0.0, longest))
            kill_something(lab, process, dice)
            process.wait(60)
        if turn % 4 == 0:
            reached(lab, wanted(turn), turn)
    reached(lab, wanted(KILLS), KILLS)


def reached(lab: Lab, want: dict[str, object], turn: int) -> None:
    response = lab.converge(want)
    assert response.error is None, f"after kill {turn}: {response.error}"
    again = lab.converge(want)
    assert again.steps == (), f"after kill {turn} and a converge, a second one still finds {again.steps}"
    state = lab.state()
    known = containers.all_records(state)
    assert {each.name for each in known} == {f"kill-{name}-1" for name in want["services"]}, "what is declared is there, and no more"
    assert all(containers.run_of(state, each.id).status == "running" for each in known), "and it runs"
    ports = {(port.published, port.target) for each in known for port in each.spec.ports}
    assert {(row.port, row.target) for row in records.ports(state.records)} == ports, "the ports that are declared are claimed, no others"
    deadline = time.monotonic() + 15
    while leftovers(lab) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(lab) == [], f"after kill {turn}, nothing is left over"


def leftovers(lab: Lab) -> list[str]:
    """What of this state is in the kernel or on the disk that no record explains."""
    state = lab.state()
    ids = {each.id for each in containers.all_records(state)}
    leases = records.endpoints(state.records)
    links = {addresses.link_name(state.id, lease.ipv4) for lease in leases} | {row.bridge for row in records.networks(state.records)}
    found = [f"link {name}" for name in interfaces.observe() if name.startswith(addresses.prefix_of(state.id)) and name not in links]
    found += [f"directory {name}" for name in os.listdir(state.root.containers) if name not in ids]
    cgroups = [path for place in places(state.id) for path in place.iterdir() if path.is_dir()]
    found += [f"cgroup {path}" for path in cgroups if path.name not in {*ids, "monitors"}]
    there = firewall.observe(state.id)
    published = there.publications if there else frozenset()
    found += [f"port {each}" for each in published ^ publications.of_running(state)]
    mounts = Path("/proc/self/mounts").read_text()
    found += [f"mount under {lab.path}"] if lab.path in mounts else []
    found += [f"process {pid}" for pid in strays(lab, ids)]
    return found


def strays(lab: Lab, ids: set[str]) -> list[str]:
    """Monitors of this state whose container is not recorded, or that are two for one container."""
    found, seen = [], set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            root = os.readlink(f"/proc/{entry}/fd/2")
        except OSError:
            continue
        if not any(word.endswith(b"supervise/monitor.py") for word in words) or root != "/dev/null":
            continue
        container = next((word.decode() for word in words if len(word) == 64), "")
        mine = container in ids or Path(lab.path, "containers", container).exists()
        if mine and (container not in ids or container in seen):
            found.append(entry)
        seen.add(container)
    return found
