"""The device controller of cgroup v1: what is allowed by default, and a list of exceptions (admin-guide/cgroup-v1/devices).

The kernel takes a line off the list only by its exact numbers, and a line of type "a" for everything, whatever else it says. So the
list that rules lead to is computed here, and a container that lives keeps what it had and still has: no moment without /dev/null.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.kernel.cgroup_files import read, write
from bayplan.model.runtime import DeviceRule
from bayplan.model.value import NamedTuple

_Key = tuple[str, "int | None", "int | None"]
_KINDS = {"a": "bc", "b": "b", "c": "c", "u": "c"}
_DOING = "limiting the container's devices"


class DeviceList(NamedTuple):
    """`exceptions` are (kind, major, minor) with accesses out of "rwm"; a number of None is all of them."""

    allow: bool
    exceptions: tuple[tuple[_Key, str], ...]


def reduce(rules: tuple[DeviceRule, ...]) -> DeviceList:
    """The list after `rules`, of which the last that matches wins, from one that refuses everything.

    Invalid for a rule that takes a part out of an earlier one: version 1 has no way to say that.
    """
    allow = False
    found: dict[_Key, str] = {}
    for rule in rules:
        major, minor = (None if n is None or n < 0 else n for n in (rule.major, rule.minor))
        if rule.type == "a" and major is None and minor is None and set(rule.access) == set("rwm"):
            allow, found = rule.allow, {}
            continue
        for kind in _KINDS[rule.type]:
            _except(found, (kind, major, minor), rule, allow=allow)
    return DeviceList(allow, tuple(found.items()))


def _except(found: dict[_Key, str], key: _Key, rule: DeviceRule, *, allow: bool) -> None:
    before = found.get(key, "")
    if rule.allow != allow:
        found[key] = "".join(letter for letter in "rwm" if letter in before + rule.access)
        return
    for other, access in found.items():
        if other != key and _overlap(other, key) and set(access) & set(rule.access):
            word = "allow" if rule.allow else "deny"
            raise Invalid(
                f"devices has a rule to {word} {_line(key, rule.access)} after one for {_line(other, access)}: version 1 of cgroups "
                f"cannot make an exception to an exception; name the devices one by one"
            )
    found[key] = "".join(letter for letter in before if letter not in rule.access)
    if not found[key]:
        del found[key]


def _overlap(one: _Key, other: _Key) -> bool:
    return one[0] == other[0] and all(a is None or b is None or a == b for a, b in zip(one[1:], other[1:]))


def lines(current: DeviceList | None, wanted: DeviceList) -> list[tuple[str, str]]:
    """The (file, line) writes that make `wanted` of `current`, of which None is not known."""
    made: list[tuple[str, str]] = []
    if current is None or current.allow != wanted.allow:
        made.append(("devices.allow" if wanted.allow else "devices.deny", "a"))
        current = DeviceList(wanted.allow, ())
    before, after = dict(current.exceptions), dict(wanted.exceptions)
    more, less = ("devices.deny", "devices.allow") if wanted.allow else ("devices.allow", "devices.deny")
    for key, access in after.items():
        added = "".join(letter for letter in access if letter not in before.get(key, ""))
        made += [(more, _line(key, added))] if added else []
    for key, access in before.items():
        gone = "".join(letter for letter in access if letter not in after.get(key, ""))
        made += [(less, _line(key, gone))] if gone else []
    return made


def _line(key: _Key, access: str) -> str:
    major, minor = ("*" if n is None else str(n) for n in key[1:])
    return f"{key[0]} {major}:{minor} {access}"


def parse(text: str) -> DeviceList | None:
    """What `devices.list` says. It shows a default of "allowed" as one line, without the exceptions: those are then not known."""
    found: dict[_Key, str] = {}
    for line in text.splitlines():
        kind, numbers, access = line.split()
        if kind == "a":
            return None
        major, minor = (None if n == "*" else int(n) for n in numbers.split(":"))
        found[kind, major, minor] = access
    return DeviceList(False, tuple(found.items()))


def change(directory: str, rules: tuple[DeviceRule, ...]) -> None:
    """Make the cgroup's list that of `rules`. Raises Invalid, Kernel."""
    for file, line in lines(parse(read(f"{directory}/devices.list") or ""), reduce(rules)):
        write(f"{directory}/{file}", line, _DOING)
