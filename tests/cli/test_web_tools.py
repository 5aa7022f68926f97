"""`tensorboard` and `jupyter`: started there, shown here."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.house import House
from tests.support.jobs import Running, listed, state_of, workdir
from tests.support.programs import put_program, put_recorder, recorded
from tests.support.waiting import wait_until

_SERVE = """while [ $# -gt 1 ]; do
  case $1 in --logdir) dir=$2;; --host) host=$2;; --port) port=$2;; esac
  shift
done
exec python3 -m http.server --directory "$dir" --bind "$host" "$port"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A runtime without either tool, and a browser that writes down what it is to show."""
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def browser(house: House, tmp_path: Path) -> Path:
    record = put_recorder(tmp_path, "browser")
    house.environment["BROWSER"] = str(tmp_path / "browser")
    return record


def bin_of(house: House) -> Path:
    """The sandbox's own programs."""
    return workdir(house).parent.parent / "bin"


def test_tool_that_is_not_there_is_said_with_what_installs_it(house: House) -> None:
    for tool, package in (("tensorboard", "tensorboard"), ("jupyter", "jupyterlab")):
        done = house.colabdev(tool, "--no-browser")
        assert done.returncode == 1
        assert f"cannot start {tool} on local: it is not installed there" in done.stderr
        assert f"next: colabdev run -m pip install {package}" in done.stderr


def test_tool_that_fails_is_said_in_its_own_words(house: House) -> None:
    put_program(bin_of(house), "tensorboard", "echo 'No module named pkg_resources' >&2; exit 1")
    done = house.colabdev("tensorboard", "--no-browser")
    assert done.returncode == 1
    assert "tensorboard ended as it started: No module named pkg_resources" in done.stderr
    assert "next: colabdev logs tensorboard-" in done.stderr


def test_tensorboard_is_started_shown_and_found_again(house: House, browser: Path) -> None:
    put_program(bin_of(house), "tensorboard", _SERVE)
    (workdir(house) / "runs").mkdir()
    (workdir(house) / "runs" / "loss").write_text("0.1")
    jobs = []
    for _ in range(2):
        with Running(house, "tensorboard", "--port", "0") as shown:
            url = shown.read_line().strip()
            (page,) = wait_until(lambda: recorded(browser), message="the browser is started")
            browser.unlink()
            assert page == [url]
            assert read(f"{url}loss") == "0.1"
            shown.interrupt()
            code, _, said = shown.finish()
        assert code == 130
        jobs.append(said.split("colabdev stop ")[1].split()[0])
    # The second found the first one's.
    assert jobs[0] == jobs[1]
    assert state_of(house, jobs[0]) == "running"
    assert house.colabdev("stop", jobs[0]).returncode == 0


def test_jupyter_is_shown_without_its_secret_on_a_command_line(house: House, browser: Path) -> None:
    server = f'exec {sys.executable} -m jupyter_server "$@"'
    put_program(bin_of(house), "jupyter-lab", server)
    with Running(house, "jupyter", "--json", "--port", "0") as shown:
        document = shown.read_document()
        url = document["url"]
        token = urlsplit(url).query.removeprefix("token=")
        assert len(token) == 48
        (page,) = wait_until(lambda: recorded(browser), message="the browser is started")
        root = url.partition("?")[0]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            read(f"{root}api/contents")
        names = json.loads(read(f"{root}api/contents?token={token}"))["content"]
        assert isinstance(names, list)
        # The address on the browser's command line leads there once.
        assert token not in page[0]
        request = urllib.request.Request(page[0])
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.url.startswith(root)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            read(page[0])
    # Nor does it stand in anything that is kept.
    job = document["job"]
    assert token not in house.colabdev("logs", job).stdout
    assert token not in json.dumps(listed(house))
    kept = [path for path in house.places.state_dir.rglob("*") if path.is_file()]
    assert [
        path
        for path in kept
        if token.encode() in path.read_bytes() and not path.name.startswith("jpserver-")
    ] == []
    assert house.colabdev("stop", job).returncode == 0


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
        return text
