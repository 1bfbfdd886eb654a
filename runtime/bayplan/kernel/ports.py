"""Sockets that hold a published port, so that the kernel itself answers "taken" to whoever else wants it, and us if somebody has it.

No packet should reach them, since all is translated before; if our table has been flushed, the ones that only hold drop what comes.
[::1] cannot be translated: there a socket listens in earnest, and the container's monitor relays.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from bayplan.errors import Conflict, Denied, Invalid, Kernel
from bayplan.model.value import TYPE_CHECKING, NamedTuple

from .ruleset import Publication

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ATTACH_FILTER = 26  # SO_ATTACH_FILTER
_KINDS = {"tcp": (_socket.SOCK_STREAM, 6), "udp": (_socket.SOCK_DGRAM, 17), "sctp": (_socket.SOCK_SEQPACKET, 132)}
_LISTENING = ("0A", "07")  # TCP_LISTEN; what an unconnected UDP socket says
_ANY = ("", "0.0.0.0", "::")
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL, errno.ESOCKTNOSUPPORT)


class Reserved(NamedTuple):
    """A publication and its sockets, by descriptor, closed on exec.

    held only occupies the port. relay listens on [::1] and leads nowhere unless somebody accepts. Either is -1 where there is none. A
    host_port of 0 has been replaced by one that was free.
    """

    publication: Publication
    held: int
    relay: int


def reserve(publications: Sequence[Publication]) -> list[Reserved]:
    """Occupy all of the ports or none.

    Raises Conflict, naming the holder, if one is taken; Invalid if the host does not have the address; Denied; Kernel.
    """
    served = {_key(each) for each in publications if ":" in each.address and each.host_ip in _ANY}
    reserved: list[Reserved] = []
    try:
        for each in publications:
            reserved.append(_reserve(each, relayed=":" in each.address or _key(each) not in served))
    except BaseException:
        release(reserved)
        raise
    return reserved


def release(reserved: Iterable[Reserved]) -> None:
    for each in reserved:
        for descriptor in (each.held, each.relay):
            if descriptor >= 0:
                os.close(descriptor)


def _key(publication: Publication) -> tuple[str, int]:
    return publication.protocol, publication.host_port


def _reserve(publication: Publication, *, relayed: bool) -> Reserved:
    wanted, everywhere = publication, publication.host_ip in _ANY
    relayed = relayed and publication.protocol == "tcp"
    if relayed and (publication.host_ip == "::1" or (everywhere and ":" in publication.address)):
        # One socket on all IPv6 addresses: only what goes to [::1] ever arrives at it.
        found = _bind(wanted, "::" if everywhere else "::1", silent=False)
        return Reserved(wanted._replace(host_port=_port(found, wanted)), -1, _detached(found))
    held = _bind(wanted, _address(publication), silent=True)
    wanted = wanted._replace(host_port=_port(held, wanted))
    try:
        relay = _bind(wanted, "::1", silent=False) if relayed and everywhere else None
    except BaseException:
        if held:
            held.close()
        raise
    return Reserved(wanted, _detached(held), _detached(relay))


def _address(publication: Publication) -> str:
    return ("::" if ":" in publication.address else "0.0.0.0") if publication.host_ip in _ANY else publication.host_ip


def _bind(publication: Publication, address: str, *, silent: bool) -> _socket.socket | None:
    """Return a bound socket; None if the host has no such protocol or no IPv6, in which case nobody else can have the port."""
    try:
        found = _socket.socket(_socket.AF_INET6 if ":" in address else _socket.AF_INET, *_KINDS[publication.protocol])
    except OSError as error:
        if error.errno in _NO_SUCH_FAMILY:
            return None
        raise Kernel(f"holding {_named(publication, address)}", error) from error
    try:
        _occupy(found, address, publication.host_port, silent=silent, datagrams=publication.protocol == "udp")
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRNOTAVAIL and publication.host_ip in _ANY:
            return None
        raise _refusal(publication, address, error) from error
    return found


def _occupy(found: _socket.socket, address: str, port: int, *, silent: bool, datagrams: bool) -> None:
    if ":" in address:
        found.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
    if silent:
        _drop_everything(found)
    if not datagrams:
        # Connections of a former owner that linger in TIME_WAIT are no obstacle; a listener is, to us and, as we listen, to others.
        found.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    found.bind((address, port))
    if not datagrams:
        found.listen(0 if silent else 64)


def _drop_everything(found: _socket.socket) -> None:
    from array import array

    program = array("B", struct.pack("=HBBI", 6, 0, 0, 0))  # BPF_RET: keep 0 bytes
    found.setsockopt(_socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 1, program.buffer_info()[0]))


def _port(found: _socket.socket | None, publication: Publication) -> int:
    return int(found.getsockname()[1]) if found else publication.host_port


def _detached(found: _socket.socket | None) -> int:
    return found.detach() if found else -1


def _named(publication: Publication, address: str) -> str:
    where = f"[{address}]" if ":" in address else address
    return f"port {publication.host_port}/{publication.protocol} on {where}"


def _refusal(publication: Publication, address: str, error: OSError) -> Exception:
    named = _named(publication, address)
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(publication.protocol, publication.host_port)
        return Conflict(f"{named} is taken by {holder or 'another process'}; publish another port or stop that one")
    if error.errno == errno.EADDRNOTAVAIL:
        return Invalid(f"publishing {named}: this host has no such address")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Denied(f"publishing {named}: {error.strerror}")
    return Kernel(f"holding {named}", error)


def holder_of(protocol: str, port: int) -> str:
    """Return who listens on the port, as "nginx (process 123)"; "" if that cannot be found out."""
    inodes = {inode for family in ("", "6") for inode in _listeners(f"/proc/thread-self/net/{protocol}{family}", port)}
    for process in filter(str.isdigit, os.listdir("/proc")):
        if inodes & set(_sockets_of(process)):
            try:
                with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
                    return f"{file.read().strip()} (process {process})"
            except OSError:
                continue
    return ""


def _listeners(path: str, port: int) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and int(fields[1].rpartition(":")[2], 16) == port and fields[3] in _LISTENING:
            yield f"socket:[{fields[9]}]"


def _sockets_of(process: str) -> Iterator[str]:
    try:
        for descriptor in os.listdir(f"/proc/{process}/fd"):
            yield os.readlink(f"/proc/{process}/fd/{descriptor}")
    except OSError:
        return  # it has ended, or its descriptors did while we looked
