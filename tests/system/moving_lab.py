"""Pushes and copies in processes of their own, as a user's calls are, with settings that a test chooses; and small images for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layer_lab import archive, directory, entry
from registry_lab import RUNTIME

from bayplan.engine import images
from bayplan.engine.state import State, open_state

MOVE = """
import json, os, sys
from bayplan.engine import copying, looking, multiplatform, push
from bayplan.engine.state import open_state
from bayplan.errors import BayplanError, explain
from bayplan.model.location import parse_location
from bayplan.model.reference import parse_reference
from bayplan.registry import protocol_push
from bayplan.registry.http import Settings
ask = json.loads(sys.argv[1])
settings = Settings({"PATH": os.environ["PATH"], **ask["environment"]}, tuple(ask["certificates"]), ask["registries_conf"],
                    attempts=ask["attempts"], first_pause=0.01)
protocol_push.push_blob.__kwdefaults__.update(whole=ask["whole"], chunk=ask["chunk"])
def tell(what, outcome):
    name = what if isinstance(what, str) else what.digest.short
    os.write(1, f"{name} {outcome.how} {outcome.source}\\n".encode())
state = lambda: open_state(ask["root"], create=True)
try:
    if ask["verb"] == "push":
        options = {key: ask[key] for key in ("every_tag", "format", "compression", "auth") if key in ask}
        done = push.push(state(), ask["name"], settings=settings, tell=tell, **options)
        answer = {"pushed": [[each.reference.canonical, str(each.digest), each.size] for each in done]}
    elif ask["verb"] == "copy":
        options = {key: ask[key] for key in ("every", "platform", "format") if key in ask}
        source, target = map(parse_location, (ask["source"], ask["target"]))
        done = copying.copy(source, target, state=state, settings=settings, tell=tell, **options)
        answer = {"digest": str(done.digest), "exact": done.exact, "foreign": done.foreign}
    elif ask["verb"] == "tags":
        answer = {"tags": looking.tags(parse_reference(ask["name"]), settings=settings)}
    else:
        done = multiplatform.push(state(), ask["name"], settings=settings, tell=tell)
        answer = {"digest": str(done.digest)}
except (BayplanError, OSError) as error:
    kind, message = explain(error)
    answer = {"error": kind, "message": message}
os.write(1, (json.dumps(answer) + "\\n").encode())
"""


def move(verb: str, *, root: str = "/nonexistent", environment: Mapping[str, str] = {}, user: int = 0, **ask: Any) -> dict[str, Any]:
    """What came of it, or its error; `told` are the words about each blob."""
    defaults = {"certificates": (), "registries_conf": "/nonexistent", "attempts": 4, "whole": 1 << 20, "chunk": 1 << 20}
    document = {**defaults, "verb": verb, "root": root, "environment": {"HOME": "/nonexistent", **environment}, **ask}
    command = ["/usr/bin/python3" if user else sys.executable, "-W", "error", "-c", MOVE, json.dumps(document)]
    settings = {**os.environ, "PYTHONPATH": RUNTIME, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120, user=user or None, cwd="/")
    assert done.returncode == 0 and not done.stderr, done.stderr
    *told, answer = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(answer)
    return {**found, "told": sorted(line.strip() for line in told)}


def hows(answer: Mapping[str, Any]) -> list[str]:
    """What was done for each blob, sorted."""
    assert "error" not in answer, answer
    return sorted(line.split()[1] for line in answer["told"])


def docker_archive(path: Path, layers: list[bytes], name: str, *, machine: str = "amd64", command: tuple[str, ...] = ("sh",)) -> str:
    """What `docker save` wrote for long, of these plain layers."""
    import hashlib

    diff_ids = [hashlib.sha256(each).hexdigest() for each in layers]
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{each}" for each in diff_ids]}
    config = json.dumps({"os": "linux", "architecture": machine, "config": {"Cmd": command}, "rootfs": rootfs}).encode()
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [f"{each}/layer.tar" for each in diff_ids]}]
    files = [entry(f"{each}/layer.tar", data) for each, data in zip(diff_ids, layers)]
    path.write_bytes(archive([*files, entry("config.json", config), entry("manifest.json", json.dumps(manifest).encode())]))
    return str(path)


def load(root: str, source: str, *names: str) -> State:
    """Take an archive into a state, under its own names and these."""
    state = open_state(root, create=True)
    row = images.load(state, source)[0]
    for name in names:
        images.tag(state, row.id, name)
    return state


def noise(size: int, seed: int) -> bytes:
    import random

    return random.Random(seed).randbytes(size)


def layer(name: str, size: int, seed: int) -> bytes:
    return archive([directory("data"), entry(f"data/{name}", noise(size, seed))])
