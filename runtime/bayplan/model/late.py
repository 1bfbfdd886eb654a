"""Modules that are imported when something of them is first used.

For what a start needs only while the container's first process makes its mounts (links, the firewall: 3 ms of imports, hidden
there), and other commands not at all. A type checker is shown the import itself:

    if TYPE_CHECKING:
        from bayplan.kernel import links
    else:
        links = late("bayplan.kernel.links")
"""

from __future__ import annotations


class late:
    """Stands for the module `name`; raises ImportError at the first use where there is none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        value: object = getattr(__import__(self._name, fromlist=[attribute]), attribute)
        setattr(self, attribute, value)
        return value
