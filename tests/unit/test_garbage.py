"""What of a store nothing needs."""

from __future__ import annotations

import pytest

from bayplan.engine.content import kept_idle
from bayplan.errors import Invalid
from bayplan.model.digest import Digest
from bayplan.plan.garbage import Blob, Garbage, Need, Stored, garbage


def digest(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


A, B, C = digest(1), digest(2), digest(3)
NOTHING = Garbage((), (), ())


def test_what_one_of_several_needs_stays() -> None:
    stored = Stored((A, B), (A, B), (Blob(A, 0), Blob(B, 0)))
    assert garbage(stored, [Need((A,), (A,), (A,)), Need((A, B), (B,), (B,))], idle_since=9) == NOTHING
    assert garbage(stored, [Need((A,), (A,), (A,))], idle_since=9) == Garbage((B,), (B,), (B,))


def test_what_is_needed_and_not_there_is_no_matter() -> None:
    assert garbage(Stored((A,)), [Need((A,), (), (B, C))], idle_since=9) == NOTHING


def test_a_blob_stays_until_it_has_been_idle_for_long_enough_and_its_layer_does_not() -> None:
    stored = Stored((A,), (), (Blob(A, 100), Blob(B, 300)))
    assert garbage(stored, [], idle_since=200) == Garbage((A,), (), (A,))


def test_a_layer_and_a_blob_of_one_digest_are_two_things() -> None:
    stored = Stored((A,), (), (Blob(A, 0),))
    assert garbage(stored, [Need((A,), (), ())], idle_since=9) == Garbage((), (), (A,)), "the plain archive of a layer that stays"


def test_the_time_for_which_blobs_are_kept_is_a_number_with_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, seconds in (("", 0), ("0", 0), ("90", 90), ("2m", 120), ("12h", 43200), ("7d", 604800)):
        monkeypatch.setenv("BAYPLAN_KEEP_BLOBS", text)
        assert kept_idle() == seconds
    for text in ("h", "-1", "1.5h", "soon", "٣"):
        monkeypatch.setenv("BAYPLAN_KEEP_BLOBS", text)
        with pytest.raises(Invalid, match="BAYPLAN_KEEP_BLOBS"):
            kept_idle()
