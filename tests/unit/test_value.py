"""Our NamedTuple does what typing's does, in what is used of it."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from bayplan.model.value import NamedTuple


class Point(NamedTuple):
    """A place."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = ()

    @property
    def sum(self) -> int:
        return self.x + self.y


class Theirs(typing.NamedTuple):
    """A place."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = ()


class Far(Point):
    """A derived one, with the same fields."""

    @property
    def far(self) -> bool:
        return True


class Empty(NamedTuple):
    """Nothing."""


def test_values_are_made_and_read_as_with_typings() -> None:
    for ours, theirs in (
        (Point(1), Theirs(1)),
        (Point(1, 5), Theirs(1, 5)),
        (Point(y=3, x=1), Theirs(y=3, x=1)),
        (Point(1, tags=("a",)), Theirs(1, tags=("a",))),
        (Point._make([1, 2, ()]), Theirs._make([1, 2, ()])),
    ):
        assert tuple(ours) == tuple(theirs) and (ours.x, ours.y, ours.tags) == (theirs.x, theirs.y, theirs.tags)
        assert ours._asdict() == theirs._asdict() and repr(ours) == repr(theirs).replace("Theirs", "Point")
        assert tuple(ours._replace(y=9)) == tuple(theirs._replace(y=9))
    assert (Point._fields, Point._field_defaults) == (Theirs._fields, Theirs._field_defaults)


def test_a_value_is_a_tuple_equal_and_hashable_by_content() -> None:
    assert Point(1) == Point(1, 2) == (1, 2, ()) and hash(Point(1)) == hash((1, 2, ()))
    assert isinstance(Point(1), tuple) and Point(1).sum == 3 and Empty() == ()
    assert Far(1).far and Far(1).sum == 3 and Far._fields == Point._fields and isinstance(Far(1)._replace(x=2), Far)


@pytest.mark.parametrize("values", [((), {}), ((1, 2, (), 4), {}), ((1,), {"z": 1}), ((1,), {"x": 1})])
def test_a_value_that_is_missing_unknown_or_given_twice_is_an_error(values: tuple[tuple[int, ...], dict[str, int]]) -> None:
    with pytest.raises(TypeError):
        Point(*values[0], **values[1])  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Point(1)._replace(z=1)  # type: ignore[call-arg]


def test_a_field_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        Point(1).x = 2  # type: ignore[misc]


def test_a_value_is_copied_and_pickled_whole() -> None:
    assert copy.deepcopy(Point(1, tags=("a",))) == pickle.loads(pickle.dumps(Point(1, tags=("a",)))) == Point(1, tags=("a",))
    assert type(pickle.loads(pickle.dumps(Point(1)))) is Point
