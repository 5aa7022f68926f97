"""What nobody expected becomes a short message and a crash log that holds no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from colabdev.cli.boundary import run_command
from colabdev.errors import HostKeyMismatch
from tests.support.house import House

KEEPER_KEY = "0123456789abcdef" * 4
NGROK_TOKEN = "2" + "aB3" * 8 + "xy_" + "Cd5" * 7


def explode() -> None:
    raise RuntimeError(f"key {KEEPER_KEY}, token {NGROK_TOKEN}, password=hunter2, Bearer ya29.abc")


def test_bug_ends_with_70_and_a_crash_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(explode, argv=["connect"], crash_dir=lambda: tmp_path / "crash") == 70
    said = capsys.readouterr()
    assert said.out == ""
    [log] = (tmp_path / "crash").iterdir()
    assert str(log) in said.err
    assert "RuntimeError" in said.err
    assert "in explode" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    for secret in (KEEPER_KEY, NGROK_TOKEN, "hunter2", "ya29.abc"):
        assert secret not in said.err + log.read_text()


def test_crash_log_goes_elsewhere_when_the_state_directory_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file stands here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    assert run_command(explode, argv=[], crash_dir=lambda: tmp_path / "state" / "crash") == 70
    [log] = (tmp_path / "elsewhere").iterdir()
    assert str(log) in capsys.readouterr().err


def test_bug_is_one_json_document_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(explode, argv=["status", "--json"], crash_dir=lambda: tmp_path) == 70
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"type", "message", "hint", "exit_code"}
    assert error["exit_code"] == 70


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), typer.Abort()])
def test_ctrl_c_ends_with_130(
    raised: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise raised

    assert run_command(interrupted, argv=[], crash_dir=lambda: tmp_path) == 130
    assert "typing the same command again goes on" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_expected_failure_has_its_code_and_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise HostKeyMismatch("another key", hint="colabdev down")

    assert run_command(refused, argv=[], crash_dir=lambda: tmp_path) == 13
    assert capsys.readouterr().err == "colabdev: another key\n  next: colabdev down\n"


def test_json_behind_the_dashes_is_not_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise HostKeyMismatch("another key")

    run_command(refused, argv=["ssh", "--", "tool", "--json"], crash_dir=lambda: tmp_path)
    assert capsys.readouterr().out == ""


def test_names_are_completed(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.connect("alpha")
        for words in ("colabdev ssh al", "colabdev down al", "colabdev connect al"):
            done = house.colabdev(
                env={
                    "_COLABDEV_COMPLETE": "complete_bash",
                    "COMP_WORDS": words,
                    "COMP_CWORD": "2",
                }
            )
            assert done.stdout.split() == ["alpha"], words
