"""Looking names up in the networks' files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bayplan.store import status
from bayplan.supervise.names import LARGEST, Names

US = f"{os.getpid()}:{status.start_time(os.getpid())}"


@pytest.fixture
def names(tmp_path: Path) -> Names:
    (tmp_path / "front").write_text(
        f"# boot\n10.0.0.2 web  Front {US}\n10.0.0.3 web api {US}\n\n10.0.0.30 web-2 webx {US}\nfd00::2 web {US}\n"
        f"10.0.0.4 web old {os.getpid()}:1\n10.0.0.5 web api\n10.0.0.6 web odd x:y\n"
    )
    (tmp_path / "back").write_text(f"10.1.0.2 web db {US}")
    return Names((str(tmp_path / "front"), str(tmp_path / "back"), str(tmp_path / "gone")))


TABLE = [
    (b"web", ["10.0.0.2", "10.0.0.3", "fd00::2", "10.1.0.2"]),
    (b"front", ["10.0.0.2"]),
    (b"db", ["10.1.0.2"]),
    (b"web-2", ["10.0.0.30"]),
    (b"old", []),  # that process is another one's by now
    (b"odd", []),
    (b"we", []),
    (b"eb", []),
    (b"10.0.0.2", []),
    (b"web front", ["10.0.0.2"]),  # the codec gives no name with a space
]


@pytest.mark.parametrize(("name", "addresses"), TABLE)
def test_whole_names_are_found_on_all_networks(names: Names, name: bytes, addresses: list[str]) -> None:
    assert names.addresses(name) == addresses


def test_an_address_gives_its_first_name(names: Names) -> None:
    assert names.name_of("10.0.0.3") == b"web"
    assert names.name_of("10.1.0.2") == b"web"
    assert names.name_of("fd00:0:0:0::2") == b"web", "however the address is spelled"
    assert names.name_of("10.0.0.9") == b""
    assert names.name_of("10.0.0.4") == b"", "and one that has ended none"
    assert names.name_of("not an address") == b""


def test_a_file_renamed_over_the_old_one_is_read_at_the_next_question(names: Names, tmp_path: Path) -> None:
    assert names.addresses(b"late") == []
    (tmp_path / "new").write_text(f"10.1.0.2 web db {US}\n10.1.0.3 late {US}\n")
    os.rename(tmp_path / "new", tmp_path / "back")
    assert names.addresses(b"late") == ["10.1.0.3"]
    (tmp_path / "back").unlink()
    assert names.addresses(b"late") == [], "a network that is gone knows nobody"


def test_a_fifo_or_a_giant_in_place_of_the_file_does_no_harm(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert Names((str(tmp_path / "fifo"),)).addresses(b"web") == []
    with open(tmp_path / "giant", "wb") as giant:
        giant.truncate(100 * LARGEST)
    assert Names((str(tmp_path / "giant"),)).addresses(b"web") == []
