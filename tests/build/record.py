"""Build the cases with the real builders, and write down what came of it: one line of JSON a case.

    python record.py [--again] [--to DIRECTORY] [--engine NAME] [CASE...]

To tests/build/seen, and only what is not known there yet or has another key than its case, unless `--again` is said. The builders are
Debian sid's, which mmdebstrap puts into a directory that is removed in the end; USERLAND=DIRECTORY takes one that is there already, and
USERLAND=/ the host's own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import image_reader as images
from builders import MAKERS, NAMES, Built, Engine, Lab
from dockerfile_cases import Case, all_cases

SEEN = Path(__file__).resolve().parent / "seen"
PACKAGES = "docker.io,docker-cli,docker-buildx,buildah,netavark,nftables,runc,iptables,iproute2,git,xz-utils,zstd"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--to", type=Path, default=SEEN)
    parser.add_argument("--engine", choices=NAMES)
    parser.add_argument("case", nargs="*")
    said = parser.parse_args()
    cases = all_cases()
    todo = {name: stale(name, cases, said) for name in ([said.engine] if said.engine else NAMES)}
    for name in todo:
        drop_others(said.to, name, {case.name for case in cases})
    if any(todo.values()):
        record_all(todo, said.to)


def stale(engine: str, cases: Sequence[Case], said: argparse.Namespace) -> list[Case]:
    seen = read(said.to, engine)
    wanted = [case for case in cases if not said.case or case.name in said.case]
    return [case for case in wanted if said.again or seen.get(case.name, {}).get("key") != case.key]


def drop_others(place: Path, engine: str, names: set[str]) -> None:
    seen = read(place, engine)
    if set(seen) - names:
        write(place, engine, {name: each for name, each in seen.items() if name in names})


def record_all(todo: dict[str, list[Case]], place: Path) -> None:
    directory = Path(tempfile.mkdtemp(prefix="bayplan-build-", dir="/var/tmp"))
    try:
        lab = Lab(directory, userland(directory))
        try:
            for name, cases in todo.items():
                if cases:
                    record(MAKERS[name](name, lab), cases, place)
        finally:
            lab.close()
    finally:
        shutil.rmtree(directory)


def userland(directory: Path) -> Path:
    said = os.environ.get("USERLAND")
    if said:
        return Path(said)
    made = directory / "userland"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={PACKAGES}", "sid", made], check=True)
    return made


def record(engine: Engine, cases: Sequence[Case], place: Path) -> None:
    seen = read(place, engine.name)
    for case in cases:
        built = engine.build(case)
        seen[case.name] = {"key": case.key, "version": engine.version, **summary(built, engine.lab)}
        write(place, engine.name, seen)
        print(f"{engine.name}: {case.name}: {'built' if built.image else 'failed: ' + last_line(built.said)}", flush=True)


def summary(built: Built, lab: Lab) -> dict[str, Any]:
    """What is compared: the changes of the base's tree (all, of an image that is not made from it), and the config; or why it failed."""
    if built.image is None:
        return {"fails": last_line(built.said).replace(str(lab.directory), "LAB")[:300]}
    from_base = built.image.lowest == lab.lowest
    return {"tree": images.changes(built.image.tree, lab.tree if from_base else {}), "config": images.settings(built.image.config)}


def last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def read(place: Path, engine: str) -> dict[str, Any]:
    path = place / f"{engine}.json"
    seen: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return seen


def write(place: Path, engine: str, seen: dict[str, Any]) -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(seen[name], sort_keys=True, ensure_ascii=False)}" for name in sorted(seen)]
    whole = ("{\n" + ",\n".join(lines) + "\n}\n").encode()  # an error comes before the file is emptied
    (place / f"{engine}.json").write_bytes(whole)


if __name__ == "__main__":
    main()
