"""The tables of the older iptables, which nf_tables does not show: seen, and changed, by its own command only.

Whoever filled them had that command. Where it is gone again, or the kernel has no such tables, there is nothing to see.
"""

from __future__ import annotations

import os

from bayplan.errors import Unavailable
from bayplan.model.value import TYPE_CHECKING

from . import expressions as expr
from . import nftables as nft
from .nftables import IPV4, IPV6, Chain, Found, Rule
from .verdicts import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_COMMANDS = {IPV4: "iptables-legacy", IPV6: "ip6tables-legacy"}
_IN_USE = {IPV4: "ip_tables_names", IPV6: "ip6_tables_names"}
_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")
_TARGETS = {"ACCEPT": nft.ACCEPT, "DROP": nft.DROP, "REJECT": nft.DROP, "RETURN": nft.RETURN}
_PASSING = ("LOG", "NFLOG", "ULOG")
_LINKS = {"-i": expr.IN_NAME, "-o": expr.OUT_NAME}
_UNKNOWN = expr.connection(255)  # a condition of which the judging knows nothing


def read(family: int) -> Table | None:
    """Return the filter table, in the form in which nf_tables' are judged; None if there is none."""
    if not _in_use(family):
        return None
    chains: dict[str, Chain] = {}
    rules: dict[str, list[Found]] = {}
    for words in _listed(family):
        if words[:1] == ["-P"]:
            chains[words[1]] = Chain(words[1], "filter", nft.FORWARD, 0, nft.DROP if words[2] == "DROP" else nft.ACCEPT)
        elif words[:1] == ["-N"]:
            chains[words[1]] = Chain(words[1])
        elif words[:1] == ["-A"]:
            rules.setdefault(words[1], []).append(_rule(family, words[1], words[2:]))
    return Table(chains, rules, lambda name: None)


def insert(family: int, chain: str, comment: str, *, link: str, entering: bool) -> None:
    """Put a rule first into the chain that accepts what comes from, or goes to, links whose names begin with `link`; raises Unavailable."""
    _run(family, "-I", *_accepting(chain, comment, link=link, entering=entering))


def delete(family: int, chain: str, comment: str, *, link: str, entering: bool) -> None:
    _run(family, "-D", *_accepting(chain, comment, link=link, entering=entering))


def _accepting(chain: str, comment: str, *, link: str, entering: bool) -> tuple[str, ...]:
    return chain, "-i" if entering else "-o", f"{link}+", "-m", "comment", "--comment", comment, "-j", "ACCEPT"


def _in_use(family: int) -> bool:
    try:
        with open(f"/proc/thread-self/net/{_IN_USE[family]}", encoding="utf-8") as file:
            return "filter\n" in file.readlines() and bool(_command(family))
    except OSError:
        return False


def _command(family: int) -> str:
    """Return the command's path, "" if there is none. Before version 1.8 there was but one kind, by the plain name."""
    plain = _COMMANDS[family].partition("-")[0]
    return _path(_COMMANDS[family]) or ("" if _path(f"{plain}-nft") else _path(plain))


def _path(name: str) -> str:
    paths = (f"{directory}/{name}" for directory in _DIRECTORIES)
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _listed(family: int) -> Iterator[list[str]]:
    import shlex

    for line in _run(family, "-S").splitlines():
        yield shlex.split(line)


def _run(family: int, *words: str) -> str:
    import subprocess

    command = [_command(family), "-w", "5", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _rule(family: int, chain: str, words: Sequence[str]) -> Found:
    """Say the rule in nf_tables' terms; whatever is not about links becomes a condition of which nothing is known."""
    expressions: list[bytes] = []
    comment, inverted, rest = "", False, iter(words)
    for word in rest:
        if word == "!":
            inverted = True
            continue
        if word in _LINKS:
            expressions += [expr.meta(_LINKS[word]), expr.equals(_pattern(next(rest)), inverted=inverted)]
        elif word == "--comment":
            comment = next(rest)
        elif word in ("-j", "-g"):
            expressions += _target(next(rest), jump=word == "-j")
            break  # what follows are options of the target
        elif word == "-m":
            expressions += [] if next(rest) == "comment" else [_UNKNOWN, expr.equals(b"\0")]
        else:
            expressions += [_UNKNOWN, expr.equals(b"\0")]
        inverted = False
    return nft.read_rule(nft.new_rule(family, "filter", Rule(chain, comment, tuple(expressions))))


def _pattern(name: str) -> bytes:
    return name[:-1].encode() if name.endswith("+") else name.encode().ljust(16, b"\0")


def _target(name: str, *, jump: bool) -> list[bytes]:
    if name in _PASSING:
        return []
    if name in _TARGETS:
        return [expr.verdict(_TARGETS[name])]
    return [expr.verdict(nft.JUMP if jump else nft.GOTO, chain=name)]
