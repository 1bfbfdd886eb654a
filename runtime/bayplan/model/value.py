"""NamedTuple as typing has it, at a tenth of its price.

typing's compiles a constructor for each class: 0.12 to 0.2 ms, a hundred times on the way to `run`. Here one constructor serves all,
and a class is made in 0.01 ms. A type checker sees typing's; what the two have in common is what may be used:
fields, defaults, methods, `_fields`, `_field_defaults`, `_make`, `_replace`, `_asdict`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, without typing: it takes 13 ms of the 30 to start with, and only annotations need it

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    class NamedTuple(tuple):
        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012

        def __init_subclass__(cls):
            if cls._fields:  # a class derived from one with fields has the same ones
                return
            cls._fields = tuple(getattr(cls, "__annotations__", ()))
            cls._field_defaults = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
            for index, name in enumerate(cls._fields):
                setattr(cls, name, _tuplegetter(index, ""))

        def __new__(cls, *values, **named):
            if named or len(values) != len(cls._fields):
                values = cls._complete(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _complete(cls, values, named):
            """All values in order; raises TypeError for one that is missing, unknown or given twice."""
            missing = object()
            rest = [named.pop(name, cls._field_defaults.get(name, missing)) for name in cls._fields[len(values) :]]
            if missing in rest:
                raise TypeError(f"{cls.__name__}() lacks {cls._fields[len(values) + rest.index(missing)]!r}")
            if named or len(values) > len(cls._fields):
                raise TypeError(f"{cls.__name__}() got too much: {', '.join(named) or len(values)}")
            return (*values, *rest)

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **changes):
            values = [changes.pop(name, value) for name, value in zip(self._fields, self)]
            if changes:
                raise ValueError(f"{type(self).__name__} has no {', '.join(changes)}")
            return tuple.__new__(type(self), values)

        def _asdict(self):
            return dict(zip(self._fields, self))

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in zip(self._fields, self))})"

        def __getnewargs__(self):
            return tuple(self)
