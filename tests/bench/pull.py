"""Pull a large image from a local registry with bayplan, Docker and Podman, in turns: seconds, CPU and memory.

    python tests/bench/pull.py [ROUNDS]

Starts a docker-registry of its own. Docker is measured where DOCKER_HOST or its socket answers. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIME = str(HERE.parents[1] / "runtime")
PULL = """
import sys
from bayplan.engine import pull
from bayplan.model.reference import parse_reference
from bayplan.store.root import StateRoot
pull.pull(parse_reference(sys.argv[1]), root=StateRoot(sys.argv[2]))
"""


@contextlib.contextmanager
def registry(directory: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = Path(directory) / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/storage}}}}\nhttp: {{addr: '{address}', secret: x}}\n"
    )
    process = subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield address
    finally:
        process.kill()
        process.wait()


def descendants(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += descendants(int(child))
    return found


def pss(pid: int) -> int:
    """Proportional set size in kB; 0 where the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def measure(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall-clock seconds, and the peak memory of all its processes in MiB."""
    os.sync()
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(map(pss, descendants(process.pid))))
        time.sleep(0.1)
    assert process.returncode == 0, command
    return {"seconds": round(time.monotonic() - started, 2), "peak_mib": round(peak / 1024, 1)}


def main(rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as directory, registry(directory) as address:
        name = f"{address}/large:1"
        subprocess.run([sys.executable, str(HERE / "large_image.py"), name], check=True, stdout=sys.stderr)
        environment = {**os.environ, "PYTHONPATH": RUNTIME}
        for _ in range(rounds):
            state = f"{directory}/state"
            found.setdefault("bayplan", []).append(measure([sys.executable, "-c", PULL, name, state], environment))
            shutil.rmtree(state)
            if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
                found.setdefault("docker", []).append(measure(["docker", "pull", "-q", name], environment))
                subprocess.run(["docker", "rmi", name], check=True, capture_output=True)
            if shutil.which("podman"):
                podman = ["podman", "--root", f"{directory}/podman", "--runroot", f"{directory}/run"]
                found.setdefault("podman", []).append(measure([*podman, "pull", "-q", "--tls-verify=false", name], environment))
                subprocess.run([*podman, "rmi", "-f", name], check=True, capture_output=True)
        subprocess.run(["rm", "-rf", f"{directory}/podman", f"{directory}/run"], check=True)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
