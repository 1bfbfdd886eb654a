"""A service's place among others: `networks`, `network_mode`, shared namespaces, `extra_hosts`, DNS."""

from __future__ import annotations

from bayplan.model import names
from bayplan.model.container import Endpoint, Pairs
from bayplan.model.node import Node
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_ENDPOINT = ("aliases", "ipv4_address", "ipv6_address", "mac_address", "priority", "gw_priority", "link_local_ips")
_PRIVATE = ("private",)


def parse_networks(node: Node, scope: Scope, aliases: tuple[str, ...]) -> tuple[Endpoint, ...]:
    """Memberships by falling priority, then name; `aliases` are the names that the service has on each."""
    if isinstance(node.value, (list, tuple)):
        entries = [(element.word(), Node(None, element.place)) for element in node.elements()]
    else:
        entries = node.entries()
    found: dict[str, Endpoint] = {}
    for key, options in entries:
        name = names.resource(Node(scope.network(options, key), options.place))
        if name in ("host", "none"):
            raise options.wrong(f"write network_mode: {name} instead")
        if name in found:
            raise options.wrong(f"network {name!r} is named twice")
        found[name] = _endpoint(name, options, aliases)
    return tuple(sorted(found.values(), key=lambda endpoint: (-endpoint.priority, endpoint.network)))


def default_network(scope: Scope, aliases: tuple[str, ...]) -> tuple[Endpoint, ...]:
    """A project's service that names no network is on the project's default one."""
    return (Endpoint((scope.networks or {})["default"], aliases),)


def networks_document(networks: tuple[Endpoint, ...]) -> dict[str, Any]:
    """The mapping form; parse_networks reads it back."""
    return {
        each.network: {
            **({"aliases": list(each.aliases)} if each.aliases else {}),
            **({"priority": each.priority} if each.priority else {}),
            **{key: getattr(each, key) for key in ("ipv4_address", "ipv6_address", "mac_address") if getattr(each, key)},
        }
        for each in networks
    }


def _endpoint(name: str, node: Node, aliases: tuple[str, ...]) -> Endpoint:
    members = node.members(_ENDPOINT)
    if "link_local_ips" in members and members["link_local_ips"].elements():
        raise members["link_local_ips"].wrong("link-local addresses are not supported")
    own = [names.host(alias) for alias in members["aliases"].elements()] if "aliases" in members else []
    return Endpoint(
        name,
        tuple(sorted({*aliases, *own})),
        _given(members, "ipv4_address", names.ipv4),
        _given(members, "ipv6_address", names.ipv6),
        _given(members, "mac_address", names.mac),
        members["priority"].integer(-(2**31), 2**31) if "priority" in members else 0,
    )


def _given(members: Mapping[str, Node], key: str, read: Callable[[Node], str]) -> str:
    return read(members[key]) if key in members and members[key].value != "" else ""


def parse_network_mode(node: Node, scope: Scope) -> str:
    """bridge (the built-in network), host, none, or container:NAME."""
    return _shared(node, scope, ("bridge", "host", "none"))


def parse_pid(node: Node, scope: Scope) -> str:
    return _shared(node, scope, ("host", *_PRIVATE))


def parse_ipc(node: Node, scope: Scope) -> str:
    """`shareable` and `private` are one here: another container joins by the process, not by a permission."""
    mode = _shared(node, scope, ("host", "shareable", *_PRIVATE))
    return "private" if mode == "shareable" else mode


def parse_uts(node: Node, scope: Scope) -> str:
    return _shared(node, scope, ("host", *_PRIVATE))


def parse_userns(node: Node, scope: Scope) -> str:
    """`host`, or `private` for user ids of the container's own."""
    return node.choice("private", "host", "")


def parse_cgroup(node: Node, scope: Scope) -> str:
    return node.choice("host", *_PRIVATE)


def _shared(node: Node, scope: Scope, own: tuple[str, ...]) -> str:
    text = node.text()
    kind, colon, name = text.partition(":")
    if text in own or text == "":
        return text or own[-1]
    if not colon or kind not in ("service", "container"):
        raise node.expected(f"one of {', '.join(own)}, container:NAME or service:NAME")
    if kind == "service":
        return f"container:{scope.container(node, name)}"
    return f"container:{names.resource(Node(name, node.place))}"


def parse_extra_hosts(node: Node, scope: Scope) -> Pairs:
    """Sorted pairs of host name and address; `host-gateway` stays as it is."""
    return tuple(sorted({(names.host(name), _host_address(address)) for name, address in _extra_hosts(node)}))


def extra_hosts_document(pairs: Pairs) -> list[str]:
    return [f"{name}={address}" for name, address in pairs]


def _extra_hosts(node: Node) -> list[tuple[Node, Node]]:
    if isinstance(node.value, dict):
        return [(Node(key, each.place), address) for key, each in node.entries() for address in each.one_or_many()]
    found = []
    for element in node.elements():
        text = element.text()
        name, separator, address = text.partition("=" if "=" in text else ":")
        if not separator:
            raise element.expected("a host and its address such as db=10.0.0.5")
        found.append((Node(name.strip(), element.place), Node(address.strip(), element.place)))
    return found


def _host_address(node: Node) -> str:
    text = node.text()
    if text == "host-gateway":
        return text
    bracketed = text.startswith("[") and text.endswith("]")
    return names.address(Node(text[1:-1], node.place) if bracketed else node)


def parse_dns(node: Node, scope: Scope) -> tuple[str, ...]:
    """Resolvers in the order of asking."""
    return tuple(dict.fromkeys(names.address(element) for element in node.one_or_many()))


def parse_dns_search(node: Node, scope: Scope) -> tuple[str, ...]:
    """Search domains in order; "." alone is none."""
    return tuple(dict.fromkeys("." if each.value == "." else names.host(each) for each in node.one_or_many()))


def parse_dns_opt(node: Node, scope: Scope) -> tuple[str, ...]:
    """Options of resolv.conf(5) in order."""
    options = [element.line() for element in node.one_or_many()]
    for option in options:
        if " " in option:
            raise node.wrong(f"{option!r} is not one option; write a list")
    return tuple(dict.fromkeys(options))
