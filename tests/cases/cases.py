"""Reading the cases: one YAML file each, {name, applied, then, want, steps | error, warnings}.

`applied` is the Compose mapping (or a list of them) that made the host, simulated; `then` is what happened to it since:
{containers: {NAME: {status, drift, ...}}, networks, volumes: {NAME: {drift}}, images: {REFERENCE: ID or null},
remote: {REFERENCE: ID}, firewall_drift}. A step is "ACTION KIND NAME", or "ACTION KIND NAME: part of its why".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from simulate import simulate

from bayplan.model.compose import parse_declaration
from bayplan.model.host import HaveImage, Host
from bayplan.model.names import image_key
from bayplan.model.yaml12 import load
from bayplan.plan.converge import plan

HERE = Path(__file__).parent


class Case(NamedTuple):
    """have is the host as the case begins; error is part of the message where the plan must fail."""

    file: str
    name: str
    want: dict[str, Any]
    have: Host
    steps: tuple[str, ...]
    error: str
    warnings: tuple[str, ...]


def read_case(path: Path) -> Case:
    document = load(path.read_text(), path.name)
    unknown = set(document) - {"name", "applied", "then", "want", "steps", "error", "warnings"}
    assert not unknown, f"{path.name} has keys that mean nothing: {unknown}"
    have = Host()
    applied = document.get("applied") or []
    for mapping in applied if isinstance(applied, list) else [applied]:
        want = parse_declaration(mapping)
        have = simulate(have, want, plan(want, have).steps)
    return Case(
        path.stem,
        document["name"],
        document["want"],
        _changed(have, document.get("then") or {}),
        tuple(document.get("steps") or ()),
        document.get("error", ""),
        tuple(document.get("warnings") or ()),
    )


def all_cases() -> list[Case]:
    return [read_case(path) for path in sorted(HERE.glob("*.yaml"))]


def _changed(have: Host, then: dict[str, Any]) -> Host:
    def tuples(values: dict[str, Any]) -> dict[str, Any]:
        return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}

    kinds: dict[str, Any] = {}
    for kind in ("containers", "networks", "volumes"):
        found = dict(getattr(have, kind))
        for name, values in (then.get(kind) or {}).items():
            found[name] = found[name]._replace(**tuples(values))
        kinds[kind] = found
    images = dict(have.images)
    for reference, image_id in (then.get("images") or {}).items():
        key = image_key(reference)
        there = images.pop(key, HaveImage("", names=(key,)))
        if image_id:
            images[key] = images[image_id] = HaveImage(image_id, names=(key,))
        if image_id and there.id:
            images.setdefault(there.id, there)
    remote = {image_key(reference): image_id for reference, image_id in (then.get("remote") or {}).items()}
    return have._replace(**kinds, images=images, remote=remote, firewall_drift=tuple(then.get("firewall_drift") or ()))
