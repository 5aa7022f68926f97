"""What `run` asks and says of going on with a job on another machine. The script cannot be sent: all of
this is said before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.records import make_record
from tests.support.terminals import at_terminal

GOES_ON = "if its machine dies it continues on a new one, up to 3 times"
ENDS = "if its machine dies it does not continue"
DIR = '[checkpoints]\ndir = "runs/checkpoints"\n'
LIMIT = "[runtime]\nmax_units = 20\n"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        (house.project / "x.py").write_text("print('ran')")
        (house.project / ".colabdevignore").write_text("x.py\n")
        yield house


@pytest.mark.parametrize(
    ("provider", "option", "settings", "said"),
    [
        ("local", "", DIR, GOES_ON),
        ("local", "--no-recover", DIR, ""),
        ("colab", "", DIR + LIMIT, f"{ENDS}: nobody is here to be asked; --yes and"),
        ("colab", "--yes", DIR, f"{ENDS}: --yes agrees to what it costs only where [runtime]"),
        ("colab", "--yes", DIR + LIMIT, f"{GOES_ON}, at most 20 units"),
    ],
)
def test_what_is_agreed_to_is_said_before_anything_starts(
    house: House, provider: str, option: str, settings: str, said: str
) -> None:
    house.store.save(make_record("box", provider=provider))
    (house.project / "colabdev.toml").write_text(settings)
    done = house.colabdev("run", "-r", "box", *option.split(), "x.py")
    assert done.returncode == 125
    assert "cannot use 'x.py'" in done.stderr
    assert ("if its machine dies" in done.stderr) == bool(said)
    assert said in done.stderr


def test_what_costs_is_asked_for_once_at_a_terminal(house: House) -> None:
    house.store.save(make_record("box", provider="colab"))
    (house.project / "colabdev.toml").write_text(DIR)
    with at_terminal(house, "run", "-r", "box", "x.py") as at:
        at.expect(b"at most 8 units? [Y/n]")
        at.type(b"\r")
        assert at.finish() == 125
        shown = " ".join(at.screen())
        assert shown.startswith(
            "If its machine dies the job continues on a new one, up to 3 times,"
        )
        assert "cannot use 'x.py'" in shown
