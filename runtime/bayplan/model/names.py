"""Which names are allowed: they end up in paths, host files, DNS answers and firewall comments."""

from __future__ import annotations

import re

from bayplan.errors import Invalid
from bayplan.model.node import Node
from bayplan.model.reference import parse_reference

_NAME = r"(?a)[A-Za-z0-9][A-Za-z0-9_.-]{1,199}"
_SERVICE = r"(?a)[A-Za-z0-9._-]{1,128}"
_PROJECT = r"(?a)[a-z0-9][a-z0-9_-]{0,127}"
_HOST = r"(?a)[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?"
_ID = r"(?a)[0-9a-f]{64}"
_IMAGE_ID = r"(?a)sha256:[0-9a-f]{64}"
_IPV4 = r"(?a)(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}"
_MAC = r"(?a)[0-9a-f]{2}(?::[0-9a-f]{2}){5}"


def resource(node: Node) -> str:
    """A container's, network's or volume's name, by Docker's rule; 64 hex digits would pass for an id."""
    name = node.word()
    if not re.fullmatch(_NAME, name) or re.fullmatch(_ID, name):
        raise node.expected("a name of at least two letters, digits, '_', '.' or '-', starting with a letter or digit,")
    return name


def volume(node: Node) -> str:
    """A volume's name: like others, or the 64 hex digits of an anonymous one, which has no other name to be shared by."""
    name = node.word()
    return name if re.fullmatch(_ID, name) else resource(node)


def service(node: Node) -> str:
    """A service's key; it becomes a network alias."""
    name = node.word()
    if not re.fullmatch(_SERVICE, name) or not name.strip(".-"):
        raise node.expected("a service name of letters, digits, '_', '.' or '-'")
    return name


def project(node: Node) -> str:
    """A project's name by the Compose Specification's rule."""
    name = node.text()
    if not re.fullmatch(_PROJECT, name):
        raise node.expected("a project name of lower case letters, digits, '_' or '-', starting with a letter or digit,")
    return name


def host(node: Node) -> str:
    """A host name or network alias: it is written into /etc/hosts and answered in DNS."""
    name = node.word()
    if not re.fullmatch(_HOST, name) or ".." in name:
        raise node.expected("a host name of letters, digits, '_', '-' and single dots")
    return name


def hostname(node: Node) -> str:
    """A container's own host name, which the kernel bounds to 64 bytes (uname(2))."""
    name = host(node)
    if len(name) > 64:
        raise node.expected("a host name of at most 64 characters")
    return name


def domainname(node: Node) -> str:
    """A NIS domain name (setdomainname(2)), of the same letters as a host name."""
    return hostname(node)


def image(node: Node) -> str:
    """An image's reference as it is written, or its id."""
    text = node.text()
    if not re.fullmatch(_IMAGE_ID, text):
        try:
            parse_reference(text)
        except Invalid as error:
            raise node.wrong(str(error)) from None
    return text


def image_key(text: str) -> str:
    """What a valid `image` is looked up by: the canonical reference, or the id."""
    return text if re.fullmatch(_IMAGE_ID, text) else parse_reference(text).canonical


def address(node: Node) -> str:
    """An IPv4 or IPv6 address in its canonical text."""
    text = node.text()
    return text if re.fullmatch(_IPV4, text) else ipv6(node)


def ipv4(node: Node) -> str:
    if not re.fullmatch(_IPV4, node.text()):
        raise node.expected("an IPv4 address")
    return node.text()


def ipv6(node: Node) -> str:
    from ipaddress import IPv6Address  # 10 ms: only where an IPv6 address is declared

    try:
        parsed = IPv6Address(node.text())
    except ValueError:
        raise node.expected("an IP address") from None
    if "%" in str(parsed):
        raise node.expected("an IP address without a zone")
    return str(parsed)


def mac(node: Node) -> str:
    """A unicast MAC address in lower case."""
    text = node.text().lower().replace("-", ":")
    if not re.fullmatch(_MAC, text) or int(text[:2], 16) & 1:
        raise node.expected("a unicast MAC address such as 02:42:ac:11:00:02")
    return text


def path(node: Node) -> str:
    """An absolute path, lexically cleaned, that is not the root itself; it is resolved inside the container later."""
    cleaned = clean(node.text())
    if not node.text().startswith("/") or cleaned == "/":
        raise node.expected("an absolute path below /")
    return cleaned


def clean(text: str) -> str:
    """`text` taken as an absolute path, without empty, `.` and `..` components."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
