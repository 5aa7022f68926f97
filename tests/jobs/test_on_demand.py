"""`run` with no runtime up, and what gives it back at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.jobs import Running, allow, listed, waiting_for, workdir
from tests.support.terminals import at_terminal

LOCAL = ("run", "--provider", "local")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def names(house: House) -> list[str]:
    return [runtime["name"] for runtime in house.status()]


def test_one_command_from_nothing_and_back(house: House) -> None:
    """Outputs come home first; the status stays the job's own."""
    (house.project / "colabdev.toml").write_text(
        '[runtime]\nprovider = "local"\n[sync]\noutputs = ["runs/"]\n'
    )
    (house.project / "x.sh").write_text("mkdir runs; echo made > runs/made; echo ran; exit 7")
    done = house.colabdev("run", "--yes", "--down", "x.sh")
    assert (done.returncode, done.stdout) == (7, "ran\n"), done.stderr
    assert "starting 'local': a sandbox on this computer, which costs nothing" in done.stderr
    assert "  local is released\n" in done.stderr
    assert (house.project / "runs" / "made").read_text() == "made\n"
    assert names(house) == []
    assert [row["state"] for row in listed(house)] == ["failed"]


def test_runtime_that_is_up_is_used_and_nothing_asked(house: House) -> None:
    house.connect()
    assert house.colabdev(*LOCAL, "echo", "ran").stdout == "ran\n"
    assert house.colabdev("run", "echo", "ran").stdout == "ran\n"
    done = house.colabdev("run", "--gpu", "T4", "true")
    assert done.returncode == 125
    assert "the runtime 'local' has" in done.stderr
    done = house.colabdev(*LOCAL, "-r", "typo", "true")
    assert done.returncode == 125
    assert names(house) == ["local"]


@pytest.mark.parametrize(("answer", "status"), [(b"\r", 4), (b"n\r", 125)])
def test_start_is_asked_for_once_at_a_terminal(house: House, answer: bytes, status: int) -> None:
    with at_terminal(house, *LOCAL, "sh", "-c", "exit 4") as at:
        at.expect(b"no runtime is up. Start 'local': a sandbox on this computer")
        at.type(answer)
        assert at.finish() == status
    assert names(house) == (["local"] if status == 4 else [])


def test_gpu_that_cannot_be_promised_is_refused_before_anything_starts(house: House) -> None:
    done = house.colabdev(*LOCAL, "--gpu", "T4", "--yes", "true")
    assert done.returncode == 125
    assert "for provider 'colab', not 'local'" in done.stderr
    done = house.colabdev("run", "--provider", "colab", "--yes", "true")
    assert done.returncode == 125
    assert "there is no Google login" in done.stderr
    assert names(house) == []


def test_runtime_stays_when_not_all_is_safe(house: House) -> None:
    house.connect()
    (house.project / "x.py").write_text("print('ran')")
    other = house.colabdev("run", "--detach", "sh", "-c", waiting_for("go")).stdout.strip()
    done = house.colabdev("run", "--down", "x.py")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert f"local stays up: not ended there: {other}" in done.stderr
    assert "next: colabdev down local" in done.stderr
    allow(house, "go")
    assert house.colabdev("logs", "-f", other).returncode == 0
    (house.project / "x.py").write_text("open('x.py', 'w').write('there')")
    with Running(house, "run", "--down", "sh", "-c", f"echo begun; {waiting_for('on')}") as running:
        assert running.read(6) == b"begun\n"
        (house.project / "x.py").write_text("here")
        (workdir(house) / "x.py").write_text("there")
        allow(house, "on")
        status, _, err = running.finish()
    assert status == 0
    assert "changed on both sides (x.py)\n  next: colabdev down local\n" in err
    line = "echo begun; sleep 60"
    with Running(house, "run", "--no-sync", "--down", "sh", "-c", line) as running:
        assert running.read(6) == b"begun\n"
        running.interrupt()
        status, _, err = running.finish()
    assert status == 130
    assert "local stays up" in err
    done = house.colabdev("run", "--down", "--detach", "true")
    assert done.returncode == 125
    assert "at the end of a job that is left alone: it sleeps with this computer" in done.stderr
    assert names(house) == ["local"]
