"""Writing the file that bytecode.py reads. It happens once for each runtime on a host, as it is unpacked.

A group is what a command is going to import, in the order in which imports would end, in one piece: a module's import takes some 50
microseconds that its code does not need. Its functions have no annotations and no documentation, which nothing here looks at: a
seventh of what a start reads.
"""

from __future__ import annotations

import ast
import marshal
import os
from _frozen_importlib_external import MAGIC_NUMBER

from bayplan.bytecode import NAME
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

_LEFT_OUT = ("_vendor", "__pycache__")  # nothing on the way to a start, and most of the bytes
# Who begins a group, and what its functions import later on the same way.
GROUPS = {
    "bayplan.cli.run": (
        "bayplan.cli.streams",
        "bayplan.supervise.client",
        "bayplan.supervise.pump",
        "bayplan.engine.state",
        "bayplan.model.service",
        "bayplan.engine.images",
        "bayplan.engine.volumes",
        "bayplan.cli.names",
        "bayplan.engine.start",
        "bayplan.kernel.device_list",
        "bayplan.store.layers",
        "bayplan.store.drivers_overlay",
    ),
    "bayplan.kernel.interfaces": (
        "bayplan.kernel.firewall",
        "bayplan.kernel.nameport",
        "bayplan.kernel.namesockets",
    ),
    "bayplan.supervise.watch": (),
}


def write(directory: str, final: str) -> None:
    """Compile the sources in `directory`/bayplan, which is going to be called `final`, into `directory`/bytecode."""
    sources = dict(_sources(directory))
    table, groups, codes = {}, {}, b""
    for module, path in sources.items():
        code = marshal.dumps(_compiled(f"{directory}/{path}", f"{final}/{path}"))
        table[module] = (path.endswith("/__init__.py"), len(codes), len(codes) + len(code))
        codes += code
    for first, later in GROUPS.items():
        code = marshal.dumps(_group(directory, final, sources, (first, *later)))
        groups[first] = (len(codes), len(codes) + len(code))
        codes += code
    with open(f"{directory}/{NAME}", "wb") as file:
        index = marshal.dumps((table, groups))
        file.write(MAGIC_NUMBER + len(index).to_bytes(4, "little") + len(codes).to_bytes(4, "little") + index + codes)


def _sources(directory: str) -> Iterator[tuple[str, str]]:
    """Each module, and where its source is beneath `directory`."""
    for parent, below, names in os.walk(f"{directory}/bayplan"):
        below[:] = [name for name in below if name not in _LEFT_OUT]
        for name in names:
            if name.endswith(".py"):
                path = f"{parent}/{name}"[len(directory) + 1 :]
                yield path[: -len(".py")].replace("/", ".").removesuffix(".__init__"), path


def _compiled(source: str, place: str) -> CodeType:
    with open(source, "rb") as file:
        return compile(file.read(), place, "exec", dont_inherit=True)


def _group(directory: str, final: str, sources: dict[str, str], heads: tuple[str, ...]) -> list[tuple[str, CodeType]]:
    """The modules that the import of `heads` imports, each after those that it needs, and `heads[0]` itself left out."""
    trees: dict[str, ast.Module] = {}
    order: list[str] = []

    def visit(module: str) -> None:
        if module not in sources or module in trees:
            return
        with open(f"{directory}/{sources[module]}", "rb") as file:
            trees[module] = ast.parse(file.read())
        visit(module.rpartition(".")[0])
        for name in _imported(trees[module], module):
            visit(name)
        order.append(module)

    for head in heads:
        visit(head)
    wanted = (module for module in order if module not in (heads[0], "bayplan"))
    return [(module, compile(_bare(trees[module]), f"{final}/{sources[module]}", "exec", dont_inherit=True)) for module in wanted]


def _imported(tree: ast.Module, module: str) -> Iterator[str]:
    """What `module` (a package has no code of its own here) imports as it is executed, not in functions, nor for a type checker."""
    otherwise = (each for node in tree.body if isinstance(node, ast.If) for each in node.orelse)
    for node in (*tree.body, *otherwise):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, (module.rpartition(".")[0] if node.level else "", node.module)))
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _bare(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree
