"""A session of the SDK as a process, by the rules of `agent.tunnel`: refusals and versions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import build_agent
from colabdev.adapters.runtime_pins import runtime_pins
from colabdev.core.ngrok_problems import FINAL_CODES
from tests.support.ngrok_edge import AUTH, BIND, TOKEN, NgrokEdge, ngrok_error
from tests.support.pythons import find_pythons

AT_BIND = {"302", "308", "316", "324", "334", "8012", "8013", "9017", "15002"}
"""Those that come when the endpoint is asked for, not at the login."""
SOME = ("105", "8013")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(build_agent().content)
    return path


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[NgrokEdge]:
    with NgrokEdge(tmp_path) as edge:
        yield edge


@contextmanager
def session(archive: Path, edge: NgrokEdge, python: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The process, told everything; its stdin is open."""
    settings = {
        "port": 9,
        "allow": ["203.0.113.0/24"],
        "url": None,
        "metadata": "{}",
        "server": f"localhost:{edge.port}",
        "ca": edge.ca.read_text(),
        "beat_s": 1,
        "tolerance_s": 1,
    }
    with subprocess.Popen(
        [python, archive, "ngrok-session"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"settings": settings, "secret": TOKEN}) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], word: str) -> dict[str, Any]:
    """The next thing it says that has that word; it may beat meanwhile."""
    assert process.stdout is not None
    for line in process.stdout:
        said: dict[str, Any] = json.loads(line)
        if word in said:
            return said
    raise AssertionError(f"it ended, and did not say {word!r}")


def check_refusals(
    archive: Path, edge: NgrokEdge, python: str | Path, codes: tuple[str, ...]
) -> None:
    for code in codes:
        edge.errors = {BIND if code in AT_BIND else AUTH: ngrok_error(int(code), "words")}
        with session(archive, edge, python) as process:
            failed = wait_for(process, "failed")
            assert failed["code"] == code
            assert "words" in failed["failed"]
            assert process.wait(10) == 1


def check_life(archive: Path, edge: NgrokEdge, python: str | Path) -> None:
    """It is up, beats, tells of a cut, beats again, and ends with its stdin."""
    edge.errors = {}
    with session(archive, edge, python) as process:
        assert wait_for(process, "endpoint")["endpoint"]["host"] == "127.0.0.1"
        assert edge.binds[-1]["Opts"]["IPRestriction"]["allow_cidrs"] == ["203.0.113.0/24"]
        wait_for(process, "beat")
        edge.cut_all()
        wait_for(process, "lost")
        wait_for(process, "beat")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_session_says_how_it_is(archive: Path, edge: NgrokEdge) -> None:
    check_life(archive, edge, sys.executable)
    check_refusals(archive, edge, sys.executable, SOME)


@pytest.mark.long
def test_each_refusal_that_ends_it_is_told(archive: Path, edge: NgrokEdge) -> None:
    check_refusals(archive, edge, sys.executable, FINAL_CODES)


@pytest.mark.long
def test_session_of_the_other_sdk_says_how_it_is(
    archive: Path, edge: NgrokEdge, tmp_path: Path
) -> None:
    """1.4.0 for a Python before 3.12, 1.7.0 since: whichever the tests' own has not."""
    other = "3.12" if sys.version_info < (3, 12) else "3.11"
    base = find_pythons().get(other)
    if base is None:
        pytest.skip(f"there is no Python {other} here")
    subprocess.run([base, "-m", "venv", tmp_path / "venv"], check=True, timeout=60)
    python = tmp_path / "venv" / "bin" / "python"
    pins = runtime_pins("ngrok")
    assert len(pins) == 2
    subprocess.run([python, "-m", "pip", "install", "-q", *pins], check=True, timeout=100)
    show = subprocess.run(
        [python, "-m", "pip", "show", "ngrok"], capture_output=True, text=True, check=True
    ).stdout
    assert ("Version: 1.7.0" if other == "3.12" else "Version: 1.4.0") in show
    check_life(archive, edge, python)
    check_refusals(archive, edge, python, FINAL_CODES)
