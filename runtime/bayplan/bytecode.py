"""All bytecode of an unpacked runtime in one file: a start that imports 100 modules looks for none of them in directories.

    ROOT/runtime/DIGEST/bytecode    the interpreter's magic number, the lengths of what follows (each four bytes, little endian),
                                    and two things in marshal: where each module's code is, {module: (is a package, from, to)},
                                    and all code, marshalled one by one

A module's import takes 35 microseconds less: 4 ms of `run`. Another interpreter, or a file that is not there or cut off, and
everything is imported from the directory as ever; that is also where modules are looked for that are not in the file.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER
from mmap import ACCESS_READ, mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:
    ModuleSpec = type(__spec__)

NAME = "bytecode"
_LEFT_OUT = "_vendor"  # nothing on the way to a start, and most of the bytes


def write(directory: str, final: str) -> None:
    """Compile the sources in `directory`/bayplan, which is going to be called `final`, into `directory`/bytecode."""
    table, codes = {}, b""
    for parent, below, names in os.walk(f"{directory}/bayplan"):
        below[:] = [name for name in below if name not in (_LEFT_OUT, "__pycache__")]
        for name in names:
            if name.endswith(".py"):
                path = f"{parent}/{name}"[len(directory) + 1 :]
                module = path[: -len(".py")].replace("/", ".")
                with open(f"{parent}/{name}", "rb") as file:
                    code = marshal.dumps(compile(file.read(), f"{final}/{path}", "exec", dont_inherit=True))
                table[module.removesuffix(".__init__")] = (module.endswith(".__init__"), len(codes), len(codes) + len(code))
                codes += code
    with open(f"{directory}/{NAME}", "wb") as file:
        index = marshal.dumps(table)
        file.write(MAGIC_NUMBER + len(index).to_bytes(4, "little") + len(codes).to_bytes(4, "little") + index + codes)


def use(directory: str) -> None:
    """From now on, import what is in `directory`/bytecode from there."""
    try:
        with open(f"{directory}/{NAME}", "rb", buffering=0) as file:
            content = mmap(file.fileno(), 0, access=ACCESS_READ)  # of two megabytes, a command needs a half
    except (OSError, ValueError):  # an archive has none, and a power cut may leave an empty one
        return
    begin = len(MAGIC_NUMBER) + 8
    index, codes = (int.from_bytes(content[end - 4 : end], "little") for end in (begin - 4, begin))
    if content[: len(MAGIC_NUMBER)] == MAGIC_NUMBER and len(content) == begin + index + codes:
        view = memoryview(content)[begin:]  # never copied
        sys.meta_path.insert(0, _Finder(directory, marshal.loads(view[:index]), view[index:]))


class _Finder:
    """Finder and loader in one (importlib.abc.MetaPathFinder and Loader)."""

    def __init__(self, directory: str, table: dict[str, tuple[bool, int, int]], codes: memoryview) -> None:
        self._directory, self._table, self._codes = directory, table, codes

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self._table:
            return None
        package = self._table[name][0]
        place = f"{self._directory}/{name.replace('.', '/')}"
        spec = ModuleSpec(name, self, origin=f"{place}/__init__.py" if package else f"{place}.py", is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [place]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        _, begin, end = self._table[module.__name__]
        exec(marshal.loads(self._codes[begin:end]), module.__dict__)
