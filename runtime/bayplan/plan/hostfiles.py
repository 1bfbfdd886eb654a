"""The texts of /etc/hosts, /etc/resolv.conf and a network's names. Pure; every name in them was checked when it was parsed."""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

RESOLVER = "127.0.0.11"
BEGIN, END = "# containers of the default network, kept up to date", "# end of containers"
_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
_MULTICAST = "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"


class Presence(NamedTuple):
    """Who has an address on a network: its names, the container's first, and its first process with when it started (clock ticks)."""

    address: str
    names: tuple[str, ...]
    pid: int
    start: int


def hosts(own: Iterable[tuple[str, str]], extra: Iterable[tuple[str, str]], neighbours: Iterable[tuple[str, str]]) -> str:
    """/etc/hosts of pairs (address, names with blanks between): the declared extra hosts come before the container's own."""
    lines = [f"{address}\t{names}\n" for address, names in (*extra, *own)]
    return _LOOPBACK + _MULTICAST + "".join(lines) + block(neighbours)


def block(neighbours: Iterable[tuple[str, str]]) -> str:
    lines = [f"{address}\t{names}\n" for address, names in neighbours]
    return f"{BEGIN}\n{''.join(lines)}{END}\n"


def with_block(text: str, neighbours: Iterable[tuple[str, str]]) -> str:
    """`text`, which the container may have edited, with the block of its neighbours brought up to date."""
    before, found, rest = text.partition(BEGIN + "\n")
    after = rest.partition(END + "\n")[2] if found else ""
    return before + block(neighbours) + after


def resolv_conf(servers: Iterable[str], search: Iterable[str], options: Iterable[str]) -> str:
    lines = [f"nameserver {server}\n" for server in servers]
    if tuple(search):
        lines.append(f"search {' '.join(search)}\n")
    if tuple(options):
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def parse_resolv_conf(text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(servers, search, options) of resolv.conf(5): the last search line wins; what is not understood is passed over."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) > 1 and words[0] == "nameserver":
            servers.append(words[1].partition("%")[0])
        elif len(words) > 1 and words[0] in ("search", "domain"):
            search = tuple(words[1:])
        elif words and words[0] == "options":
            options += words[1:]
    return tuple(servers), search, tuple(options)


def names(boot: str, present: Iterable[Presence]) -> str:
    """What the monitors of a network answer from: the boot in which that is so, and a line for each address."""
    return f"# {boot}\n" + "".join(f"{each.address} {' '.join(each.names)} {each.pid}:{each.start}\n" for each in present)


def parse_names(text: str, boot: str) -> tuple[Presence, ...] | None:
    """None where that is no such text, or that of another boot."""
    first, *lines = text.splitlines() or [""]
    if first != f"# {boot}":
        return None
    try:
        return tuple(_presence(line.split()) for line in lines)
    except ValueError:
        return None


def _presence(words: list[str]) -> Presence:
    address, *known, process = words
    pid, _, start = process.partition(":")
    return Presence(address, tuple(known), int(pid), int(start))
