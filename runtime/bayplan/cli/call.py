"""What a verb's handler is called with: the verb, its options with typed access, its arguments, the state root."""

from __future__ import annotations

import os

from bayplan.cli.options import Option, Values
from bayplan.errors import Denied
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bayplan.engine.state import State


class Verb(NamedTuple):
    """One verb. handler is "module:function" below bayplan.cli; arguments is its usage: "IMAGE [COMMAND] [ARG...]".

    options_first: the first argument ends the options. code is the exit status of an error of ours.
    """

    name: str
    handler: str
    arguments: str
    help: str
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    options_first: bool = False
    hidden: bool = False
    code: int = 1


class Call(NamedTuple):
    """One invocation of a verb."""

    verb: Verb
    values: Values
    arguments: tuple[str, ...]
    root: str
    debug: bool = False

    def flag(self, name: str) -> bool:
        return self.values.get(name, ("false",))[-1] == "true"

    def given(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, (default,))[-1]

    def number(self, name: str, default: int = 0) -> int:
        return int(self.text(name, str(default)))

    def many(self, name: str) -> tuple[str, ...]:
        return self.values.get(name, ())

    def state(self, *, create: bool = False, lasting: bool = True) -> State:
        """The state under the root; made where it is not there and `create` says so. Raises Denied where we are not root."""
        if os.geteuid() != 0:
            raise Denied(f"opening the state {self.root}: bayplan needs root (try sudo)")
        from bayplan.engine.state import open_state

        return open_state(self.root, create=create, lasting=lasting)


def bounds(arguments: str) -> tuple[int, int]:
    """The least and the most number of arguments that the usage text allows; -1 is any number."""
    words = arguments.split()
    least = sum(1 for word in words if not word.startswith("["))
    return least, -1 if "..." in arguments else len(words)
