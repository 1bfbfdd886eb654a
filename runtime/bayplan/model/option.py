"""One option of a module or operation."""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    pass


class Option(NamedTuple):
    """description is one or more sentences in Ansible's markup; elements is the type of a list's members; no_log hides a value."""

    name: str
    type: str
    description: str
    elements: str = ""
    choices: tuple[str, ...] = ()
    default: str | bool | None = None
    aliases: tuple[str, ...] = ()
    required: bool = False
    no_log: bool = False
    options: tuple[Option, ...] = ()
