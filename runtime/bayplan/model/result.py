"""What goes into a verb and what comes out of it, for every door alike.

    Request  -> engine -> Response
    JSON: {"verb", "want", "check", "diff", "root"} -> {"changed", "steps", "before", "after", "result", "warnings", "error"}
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DEFAULT_ROOT = "/var/lib/bayplan"


class Step(NamedTuple):
    """One change to the host: `action` on the `kind` called `name`, because of `why`.

    kind: image, network, volume, container, port, firewall.
    action: pull, load, create, update, replace, start, stop, restart, remove, connect, disconnect, repair, tag, untag.
    """

    action: str
    kind: str
    name: str
    why: tuple[str, ...] = ()


class Request(NamedTuple):
    """What a door asks for; `want` is a Compose mapping for `converge`, and the verb's options for the others."""

    verb: str
    want: Mapping[str, Any]
    check: bool = False
    diff: bool = False
    root: str = DEFAULT_ROOT


class Response(NamedTuple):
    """The outcome: `changed` is bool(steps); before and after hold one YAML-able mapping per changed resource."""

    steps: tuple[Step, ...] = ()
    before: Mapping[str, Any] = {}
    after: Mapping[str, Any] = {}
    result: Any = None
    warnings: tuple[str, ...] = ()
    error: tuple[str, str] | None = None

    @property
    def changed(self) -> bool:
        return bool(self.steps)


def parse_request(document: Any) -> Request:
    """Read a request as it travels; raises Invalid where it is not one."""
    if not isinstance(document, dict) or not isinstance(document.get("verb"), str):
        raise Invalid("reading a request: it is a mapping with at least a verb")
    unknown = set(document) - set(Request._fields)
    if unknown:
        raise Invalid(f"reading a request: unknown key {sorted(unknown)[0]!r}")
    want = document.get("want", {})
    if not isinstance(want, dict):
        raise Invalid("reading a request: want is a mapping")
    return Request(
        verb=document["verb"],
        want=want,
        check=bool(document.get("check", False)),
        diff=bool(document.get("diff", False)),
        root=str(document.get("root") or DEFAULT_ROOT),
    )


def response_document(response: Response) -> dict[str, Any]:
    """The response as JSON carries it."""
    error = {"kind": response.error[0], "message": response.error[1]} if response.error else None
    return {
        "changed": response.changed,
        "steps": [step._asdict() for step in response.steps],
        "before": dict(response.before),
        "after": dict(response.after),
        "result": response.result,
        "warnings": list(response.warnings),
        "error": error,
    }
