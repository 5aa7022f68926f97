"""`ssh-config`: the host entries shown, mended and taken out."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.wsl import make_windows

THEIRS = "Host mine\n  Port 77\n"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A runtime, and a user who has a configuration of their own."""
    with House(tmp_path) as house:
        house.places.ssh_config.parent.mkdir(mode=0o700)
        house.places.ssh_config.write_text(THEIRS)
        house.connect()
        yield house


def ssh_config(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    return house.colabdev("ssh-config", *words)


def logs_in(house: House) -> bool:
    argv = ["ssh", "-F", str(house.places.ssh_config), "local", "true"]
    return subprocess.run(argv, env=house.environment, check=False, timeout=30).returncode == 0


def test_print_is_what_ssh_reads(house: House, tmp_path: Path) -> None:
    whole, alone = ssh_config(house, "print"), ssh_config(house, "print", "local")
    assert (whole.returncode, whole.stderr, alone.stderr) == (0, "", "")
    first, line, *_ = whole.stdout.splitlines()
    assert first == f"# At the very top of {house.places.ssh_config}:"
    assert house.places.ssh_config.read_text() == f"{line}\n{THEIRS}"
    assert alone.stdout.startswith("Host local\n  HostName 127.0.0.1\n")
    assert alone.stdout in whole.stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(alone.stdout)
    argv = ["ssh", "-F", str(elsewhere), "local", "true"]
    assert subprocess.run(argv, check=False, timeout=30).returncode == 0
    missing = ssh_config(house, "print", "other")
    assert missing.returncode == 1
    assert "there is no host entry 'other'; there are local" in missing.stderr


def test_repair_mends_everything_and_takes_out_what_is_no_runtime(house: House) -> None:
    files = house.ssh_files
    good = {path: path.read_bytes() for path in files.paths() if path.is_file()}
    files.config_file.write_text("Host gone\n  Port 1\nHost local\n  Port 1\n")
    (files.directory / "known_hosts").write_bytes(b"\xff no host key")
    (files.directory / "known_hosts").chmod(0o666)
    files.private_key_file.chmod(0o644)
    house.places.ssh_config.write_text(THEIRS)
    assert not logs_in(house)
    done = ssh_config(house, "repair")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "in order: local\ntaken out: gone\n"
    assert logs_in(house)
    known_hosts = files.directory / "known_hosts"
    assert good.pop(known_hosts) in known_hosts.read_bytes()
    assert {path: path.read_bytes() for path in good} == good
    for path in (known_hosts, files.private_key_file, files.config_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_repair_leaves_the_entries_of_unreadable_state(house: House) -> None:
    state = house.places.state_dir / "runtimes" / "local.json"
    readable = state.read_bytes()
    before = house.ssh_files.config_file.read_bytes()
    state.write_text("{")
    done = ssh_config(house, "repair", "--json")
    assert done.returncode == 15
    assert json.loads(done.stdout)["error"]["exit_code"] == 15
    assert house.ssh_files.config_file.read_bytes() == before
    state.write_bytes(readable)


def test_main_file_that_cannot_be_changed_is_the_users_to_change(house: House) -> None:
    main = house.places.ssh_config
    main.chmod(0o400)
    done = ssh_config(house, "remove", "--json")
    assert done.returncode == 3
    (said,) = [json.loads(done.stdout)["by_hand"]]
    assert f"cannot change {main}: it is read-only; take this line out" in said
    main.chmod(0o600)
    main.write_text(THEIRS)
    main.chmod(0o400)
    done = ssh_config(house, "repair")
    assert done.returncode == 3
    assert "add this at its very top: Include" in done.stderr


def test_remove_takes_all_out_and_the_runtime_stays(house: House) -> None:
    done = ssh_config(house, "remove")
    assert (done.returncode, done.stdout) == (0, "taken out: local\n")
    assert house.places.ssh_config.read_text() == THEIRS
    assert "Host " not in house.ssh_files.config_file.read_text()
    assert house.status()[0]["state"] == "ready"
    assert ssh_config(house, "remove").stdout == "taken out: nothing was there\n"
    assert ssh_config(house, "remove", "local").returncode == 1
    assert ssh_config(house, "repair").returncode == 0
    assert logs_in(house)
    assert ssh_config(house, "remove", "local").stdout == "taken out: local\n"
    # The line stays: other runtimes are reached by it.
    assert house.places.ssh_config.read_text() != THEIRS


def test_main_file_under_version_control_stays_a_link(house: House, tmp_path: Path) -> None:
    main, target = house.places.ssh_config, tmp_path / "dotfiles" / "ssh config"
    target.parent.mkdir()
    target.write_text(THEIRS)
    main.unlink()
    main.symlink_to(target)
    assert ssh_config(house, "repair").returncode == 0
    assert logs_in(house)
    assert ssh_config(house, "remove").returncode == 0
    assert main.is_symlink()
    assert target.read_text() == THEIRS
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_many_at_once_leave_what_the_last_says(house: House) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = pool.map(lambda word: ssh_config(house, word), ["repair", "remove", "repair"] * 2)
        # 3 when another took out what this one had just written.
        assert {each.returncode for each in done} <= {0, 3}
    assert ssh_config(house, "repair").returncode == 0
    main = house.places.ssh_config.read_text()
    assert (main.count("Include"), main.endswith(THEIRS)) == (1, True)
    assert logs_in(house)


def test_windows_side_of_a_wsl_is_mended_and_taken_out_too(house: House, tmp_path: Path) -> None:
    windows = make_windows(tmp_path / "windows")
    house.environment = windows.environment(house.environment)
    assert ssh_config(house, "repair").returncode == 0
    assert (windows.ssh / "config").read_text() == "Include colabdev/config\n"
    assert "Host local\n" in (windows.ssh / "colabdev" / "config").read_text()
    assert ssh_config(house, "remove").returncode == 0
    assert (windows.ssh / "config").read_text() == ""
    assert "Host " not in (windows.ssh / "colabdev" / "config").read_text()
