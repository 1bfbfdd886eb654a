"""Which names are allowed: they end up in paths, host files, DNS answers and firewall comments."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.node import Node
from bayplan.model.reference import parse_reference
from bayplan.model.regular import fullmatch

# What a text consists of is checked by str.strip: `re` would be a fifth of the time that `run` takes (model/regular.py).
_DIGITS = "0123456789"
_HEX = _DIGITS + "abcdef"
_LOWER = _DIGITS + "abcdefghijklmnopqrstuvwxyz"
_LETTERS = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAC = r"(?a)[0-9a-f]{2}(?::[0-9a-f]{2}){5}"


def resource(node: Node) -> str:
    """A container's, network's or volume's name, by Docker's rule; 64 hex digits would pass for an id."""
    name = node.word()
    if not _made_of(name, _LETTERS + "_.-", 2, 200) or name[0] in "_.-" or _is_id(name):
        raise node.expected("a name of at least two letters, digits, '_', '.' or '-', starting with a letter or digit,")
    return name


def volume(node: Node) -> str:
    """A volume's name: like others, or the 64 hex digits of an anonymous one, which has no other name to be shared by."""
    name = node.word()
    return name if _is_id(name) else resource(node)


def service(node: Node) -> str:
    """A service's key; it becomes a network alias."""
    name = node.word()
    if not _made_of(name, _LETTERS + "._-", 1, 128) or not name.strip(".-"):
        raise node.expected("a service name of letters, digits, '_', '.' or '-'")
    return name


def project(node: Node) -> str:
    """A project's name by the Compose Specification's rule."""
    name = node.text()
    if not _made_of(name, _LOWER + "_-", 1, 128) or name[0] in "_-":
        raise node.expected("a project name of lower case letters, digits, '_' or '-', starting with a letter or digit,")
    return name


def host(node: Node) -> str:
    """A host name or network alias: it is written into /etc/hosts and answered in DNS."""
    name = node.word()
    if not _made_of(name, _LETTERS + "_.-", 1, 253) or name != name.strip(".-") or ".." in name:
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
    if not _is_image_id(text):
        try:
            parse_reference(text)
        except Invalid as error:
            raise node.wrong(str(error)) from None
    return text


def image_key(text: str) -> str:
    """What a valid `image` is looked up by: the canonical reference, or the id."""
    return text if _is_image_id(text) else parse_reference(text).canonical


def address(node: Node) -> str:
    """An IPv4 or IPv6 address in its canonical text."""
    text = node.text()
    return text if _is_ipv4(text) else ipv6(node)


def ipv4(node: Node) -> str:
    if not _is_ipv4(node.text()):
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
    if not fullmatch(_MAC, text) or int(text[:2], 16) & 1:
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


def _made_of(text: str, allowed: str, least: int, most: int) -> bool:
    return least <= len(text) <= most and not text.strip(allowed)


def _is_id(text: str) -> bool:
    return _made_of(text, _HEX, 64, 64)


def _is_image_id(text: str) -> bool:
    return text[:7] == "sha256:" and _is_id(text[7:])


def _is_ipv4(text: str) -> bool:
    """Four numbers up to 255 without leading zeros, which some would read as octal."""
    parts = text.split(".")
    return len(parts) == 4 and all(_made_of(part, _DIGITS, 1, 3) and str(int(part)) == part and int(part) < 256 for part in parts)
