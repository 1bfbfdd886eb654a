"""Converges that have nothing to do, over SSH, beside playbooks that only ping the same host: seconds and ratios.

    python tests/bench/converge.py [ROUNDS]

Makes a disposable host with 20 containers from one stack and 20 from a loop, and a registry for it; both go at the end. Takes root.
The two playbooks of a pair run in turns, so that what else the machine does hits both. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests" / "hosts"))
import disposable  # noqa: E402
import images  # noqa: E402

NUMBER = 251
REGISTRY = f"10.213.{NUMBER}.1:5079"
SERVICE = {
    "image": f"{REGISTRY}/busybox:1",
    "command": ["sleep", "1000000"],
    "environment": {"A": "b"},
    "networks": ["net"],
    "volumes": ["data:/data"],
}
STACK = {
    "bayplan.containers.stack": {
        "project_name": "many",
        "definition": {"services": {f"s{number}": SERVICE for number in range(20)}, "networks": {"net": {}}, "volumes": {"data": {}}},
    }
}
CONTAINERS = {"bayplan.containers.container": {"name": "single-{{ item }}", **SERVICE}, "loop": list(range(20))}
PAIRS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], int]] = {
    "stack of 20": ([{"ping": {}}], [STACK], 1),
    "20 tasks": ([{"ping": {}, "loop": list(range(20))}], [CONTAINERS], 3),
}


def play(place: Path, tasks: list[dict[str, Any]], *, pipelining: bool) -> tuple[float, str]:
    """Seconds of a playbook, and its recap."""
    (place / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(place / "inventory.json"), str(place / "play.yml")]
    environment = {**os.environ, "ANSIBLE_PIPELINING": str(pipelining), "ANSIBLE_HOME": str(place / "ansible")}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stdout)
    return seconds, done.stdout.strip().splitlines()[-1]


def measure(place: Path, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for pipelining in (True, False):
        for name, (ping, converge, divisor) in PAIRS.items():
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(max(2, rounds // divisor)):
                times[0].append(play(place, ping, pipelining=pipelining)[0])
                seconds, recap = play(place, converge, pipelining=pipelining)
                if "changed=0" not in recap:
                    raise RuntimeError(f"there was something to do: {recap}")
                times[1].append(seconds)
            pings, converges = (statistics.median(each) for each in times)
            row = {"what": name, "pipelining": pipelining, "ping": round(pings, 2), "converge": round(converges, 2)}
            rows.append({**row, "ratio": round(converges / pings, 2), "least": round(min(times[1]) / min(times[0]), 2)})
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def measured(rounds: int) -> list[dict[str, Any]]:
    """Make the host, measure on it and remove it: one row for each pair, with medians in seconds and their ratio."""
    place = Path(tempfile.mkdtemp(prefix="bp-bench-"))
    try:
        host = disposable.up(place / "host", number=NUMBER)
        images.start_registry(place / "registry", REGISTRY)
        images.push(REGISTRY, "busybox", "1", Cmd=["sh"])
        (place / "inventory.json").write_text(host.inventory())
        play(place, [{"bayplan.containers.network": {"name": "net"}}, STACK, CONTAINERS], pipelining=True)
        return measure(place, rounds)
    finally:
        disposable.down(place / "host")
        images.stop_registry(place / "registry")
        shutil.rmtree(place, ignore_errors=True)


def main(arguments: list[str]) -> int:
    print(json.dumps({"converge": measured(int(arguments[0]) if arguments else 7)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
