"""All bytecode of an unpacked runtime in one file: a start that imports 100 modules looks for none of them in directories.

    ROOT/runtime/DIGEST/bytecode    the interpreter's magic number, the lengths of what follows (each four bytes, little endian),
                                    and two things in marshal: where each module's code is, {module: (is a package, from, to)},
                                    with where each group is, {module that begins it: (from, to)}; and all code

A module's import takes 35 microseconds less so, and one in a group (compilation.py) 30 more: 7 ms of `run`. Another interpreter, or a
file that is not there or cut off, and everything is imported from the directory as ever; that is also where modules are looked for
that are not in the file.
"""

from __future__ import annotations

import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER
from mmap import ACCESS_READ, mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import TypeAlias
else:
    ModuleSpec = type(__spec__)

NAME = "bytecode"
Table: TypeAlias = "dict[str, tuple[bool, int, int]]"


def use(directory: str) -> None:
    """From now on, import what is in `directory`/bytecode from there."""
    try:
        with open(f"{directory}/{NAME}", "rb", buffering=0) as file:
            content = mmap(file.fileno(), 0, access=ACCESS_READ)  # of three megabytes, a command needs one
    except (OSError, ValueError):  # an archive has none, and a power cut may leave an empty one
        return
    begin = len(MAGIC_NUMBER) + 8
    index, codes = (int.from_bytes(content[end - 4 : end], "little") for end in (begin - 4, begin))
    if content[: len(MAGIC_NUMBER)] == MAGIC_NUMBER and len(content) == begin + index + codes:
        view = memoryview(content)[begin:]  # never copied
        table, groups = marshal.loads(view[:index])
        sys.meta_path.insert(0, _Finder(directory, table, groups, view[index:]))


class _Finder:
    """Finder and loader in one (importlib.abc.MetaPathFinder and Loader)."""

    def __init__(self, directory: str, table: Table, groups: dict[str, tuple[int, int]], codes: memoryview) -> None:
        self._directory, self._table, self._groups, self._codes = directory, table, groups, codes

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
        if module.__name__ in self._groups:
            begin, end = self._groups[module.__name__]
            for name, code in marshal.loads(self._codes[begin:end]):
                if name not in sys.modules:
                    self._execute(name, code)
        _, begin, end = self._table[module.__name__]
        exec(marshal.loads(self._codes[begin:end]), module.__dict__)

    def _execute(self, name: str, code: object) -> None:
        """As the import system does it, but for the search, the specification and the lock."""
        parent, _, last = name.rpartition(".")
        package = self._table[name][0]
        place = f"{self._directory}/{name.replace('.', '/')}"
        module = type(sys)(name)
        module.__file__ = f"{place}/__init__.py" if package else f"{place}.py"
        module.__package__ = name if package else parent
        if package:
            module.__path__ = [place]
        sys.modules[name] = module
        exec(code, module.__dict__)  # type: ignore[arg-type]  # marshal gave it
        setattr(sys.modules[parent], last, module)
