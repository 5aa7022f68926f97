"""Where things are kept, and the variables that move them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from colabdev.config.places import Places

ATTRIBUTES = {
    "COLABDEV_STATE_DIR": "state_dir",
    "COLABDEV_CONFIG_DIR": "config_dir",
    "COLABDEV_SSH_CONFIG": "ssh_config",
}

WITHOUT_HOME = """
import pwd, os
from pathlib import Path
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
from colabdev.config.places import Places
from colabdev.errors import ColabdevError
try:
    print(Places.from_environment(os.environ).variables())
except ColabdevError as exc:
    print("refused:", exc.message, "|", exc.hint)
"""


@pytest.mark.parametrize(("variable", "attribute"), ATTRIBUTES.items())
def test_variable_moves_its_place_and_no_other(
    tmp_path: Path, variable: str, attribute: str
) -> None:
    default = Places.from_environment({})
    moved = Places.from_environment({variable: str(tmp_path / "x y")})
    assert getattr(moved, attribute) == tmp_path / "x y"
    for other in set(ATTRIBUTES.values()) - {attribute}:
        assert getattr(moved, other) == getattr(default, other)


@pytest.mark.parametrize(("variable", "attribute"), ATTRIBUTES.items())
def test_relative_place_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, attribute: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = Places.from_environment({variable: "a/b"})
    assert getattr(places, attribute) == tmp_path / "a" / "b"


@pytest.mark.parametrize(("variable", "attribute"), ATTRIBUTES.items())
def test_empty_variable_counts_as_none(variable: str, attribute: str) -> None:
    assert Places.from_environment({variable: ""}) == Places.from_environment({})


@pytest.mark.parametrize(("variable", "attribute"), ATTRIBUTES.items())
def test_tilde_is_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, attribute: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = Places.from_environment({variable: "~/deep/er"})
    assert getattr(places, attribute) == tmp_path / "deep" / "er"


def test_defaults_are_where_the_system_keeps_such_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    places = Places.from_environment({})
    assert places.ssh_config == tmp_path / ".ssh" / "config"
    for place in (places.state_dir, places.config_dir):
        assert place.is_relative_to(tmp_path)
        assert "colabdev" in place.parts


def test_places_below_the_state_follow_it(tmp_path: Path) -> None:
    places = Places.from_environment({"COLABDEV_STATE_DIR": str(tmp_path)})
    assert places.log_dir == tmp_path / "logs"
    assert places.local_dir == tmp_path / "local"


def test_variables_lead_a_child_to_the_same_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = Places.from_environment({"COLABDEV_STATE_DIR": "here", "COLABDEV_SSH_CONFIG": "c"})
    monkeypatch.chdir("/")
    assert Places.from_environment(places.variables()) == places


def run_without_home(**environment: str) -> str:
    kept = {key: os.environ[key] for key in ("PATH", "PYENV_ROOT") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout


def test_no_home_is_said_with_what_to_set() -> None:
    said = run_without_home()
    assert said.startswith("refused: cannot tell where your home directory is")
    for word in ("HOME", *ATTRIBUTES):
        assert word in said.partition("|")[2]


def test_no_home_is_needed_when_all_is_set(tmp_path: Path) -> None:
    said = run_without_home(**{variable: str(tmp_path / variable) for variable in ATTRIBUTES})
    assert "refused" not in said
    for variable in ATTRIBUTES:
        assert str(tmp_path / variable) in said
