"""In a WSL a runtime has a host entry on Windows' side, too. `cmd.exe` and `wslpath` are stand-ins."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.core.ssh_config import parse_options
from tests.support.house import House
from tests.support.wsl import WINDOWS_PROFILE, FakeWindows, make_windows

PROFILE = WINDOWS_PROFILE.replace("\\", "/")


@pytest.fixture
def windows(tmp_path: Path) -> FakeWindows:
    return make_windows(tmp_path)


@pytest.fixture
def house(tmp_path: Path, windows: FakeWindows) -> Iterator[House]:
    with House(tmp_path / "house") as house:
        house.environment = windows.environment(house.environment)
        yield house


def test_connect_writes_windows_side_and_down_takes_it_out(
    house: House, windows: FakeWindows
) -> None:
    windows.ssh.mkdir()
    (windows.ssh / "config").write_bytes(b"Host mine\r\n  Port 1\r\n")
    record = house.connect()
    assert record.machine is not None
    main = (windows.ssh / "config").read_bytes()
    assert main == b"Include colabdev/config\r\nHost mine\r\n  Port 1\r\n"
    config = windows.ssh / "colabdev" / "config"
    options = ssh_options(config)
    assert (options["port"], options["user"]) == (str(record.machine.ssh.port), "root")
    assert options["controlmaster"] == "false"
    folder = f"{PROFILE}/.ssh/colabdev"
    assert options["userknownhostsfile"] == f"{folder}/known_hosts"
    key = options["identityfile"].removeprefix(f"{folder}/")
    assert (windows.ssh / "colabdev" / key).read_bytes() == (
        house.ssh_files.private_key_file.read_bytes()
    )
    assert record.machine.ssh.host_key in (windows.ssh / "colabdev" / "known_hosts").read_text()
    assert house.colabdev("down").returncode == 0
    assert "Host local" not in config.read_text()
    assert (windows.ssh / "colabdev" / "known_hosts").read_text() == ""
    assert (windows.ssh / "config").read_bytes() == main


def test_entry_on_windows_side_logs_in(house: House, windows: FakeWindows, tmp_path: Path) -> None:
    """As Windows' ssh would, once its names of the files are those of here."""
    house.connect()
    config = (windows.ssh / "colabdev" / "config").read_text()
    translated = tmp_path / "translated"
    translated.write_text(config.replace(PROFILE, str(windows.profile)))
    done = subprocess.run(
        ["ssh", "-F", translated, "local", "echo there"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr


def test_other_keys_and_entries_there_stay(house: House, windows: FakeWindows) -> None:
    folder = windows.ssh / "colabdev"
    folder.mkdir(parents=True)
    (folder / "id_ed25519").write_text("a native colabdev's")
    (folder / "config").write_text("Host other\n  Port 7\n")
    house.connect()
    house.colabdev("down")
    assert (folder / "id_ed25519").read_text() == "a native colabdev's"
    assert "Host other\n  Port 7\n" in (folder / "config").read_text()


def test_name_of_a_host_of_windows_user_is_refused(house: House, windows: FakeWindows) -> None:
    windows.ssh.mkdir()
    (windows.ssh / "config").write_bytes(b"Host x\r\nHost local\r\n  Port 1\r\n")
    done = house.colabdev("connect", "--provider", "local")
    assert done.returncode == 2
    assert f"{windows.ssh / 'config'} line 2" in done.stderr
    assert house.store.names() == []


@pytest.mark.parametrize("obstacle", ["no profile", "a file in the way"])
def test_windows_that_cannot_be_written_is_said_and_nothing_fails(
    house: House, windows: FakeWindows, obstacle: str
) -> None:
    if obstacle == "no profile":
        windows.profile.rmdir()
    else:
        windows.ssh.mkdir()
        (windows.ssh / "colabdev").write_text("in the way")
    done = house.colabdev("connect", "--provider", "local")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Windows' editors will not know this runtime") == 1
    assert house.colabdev("down").returncode == 0


def ssh_options(config: Path) -> dict[str, str]:
    """What the real ssh makes of the entry."""
    done = subprocess.run(
        ["ssh", "-G", "-F", config, "local"], capture_output=True, text=True, check=True
    )
    return dict(parse_options(done.stdout))
