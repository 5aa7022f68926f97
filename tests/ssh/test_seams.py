"""A host of the user's own with what was made for others: `doctor`, bug reports, a WSL, terminals."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ssh.test_own_host import CARRY, CONNECT
from tests.support.house import House
from tests.support.keys import Keypair
from tests.support.own_hosts import UserSsh
from tests.support.sshd import Sshd
from tests.support.terminals import at_terminal
from tests.support.wsl import make_windows

TOKEN = "planted-in-a-proxy-command"


@pytest.fixture
def behind_proxy(
    house: House, user: UserSsh, key: Keypair, host: Sshd, tmp_path: Path
) -> tuple[House, Path]:
    """`gpu` is only reached by its ProxyCommand: its address means nothing here. That is broken while
    the file that is given, too, exists."""
    broken, carry = tmp_path / "broken", tmp_path / "carry.py"
    place = f"{host.address.host}', {host.address.port}"
    tries = str(tmp_path / "tries")
    carry.write_text(CARRY.format(tries=tries, broken=str(broken), place=place))
    address = replace(host.address, host="gpu.lab.invalid", port=22)
    user.add_host("gpu", address, f"ProxyCommand {sys.executable} {carry} {TOKEN}", key=key)
    with user.known_hosts.open("a") as known:
        known.write(f"{address.host} {address.host_key}\n")
    return house, broken


def examined(house: House) -> tuple[int, dict[str, dict[str, object]]]:
    done = house.colabdev("doctor", "--json")
    return done.returncode, {one["subject"]: one for one in json.loads(done.stdout)["checks"]}


def connect_outside_a_project(house: House) -> None:
    done = outside(house, *CONNECT)
    assert done.returncode == 0, done.stderr


def outside(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "colabdev", *words],
        cwd=house.home,
        env=house.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_doctor_finds_a_host_behind_a_proxy_well(
    behind_proxy: tuple[House, Path], remote_home: Path
) -> None:
    house, broken = behind_proxy
    connect_outside_a_project(house)
    ran = outside(house, "run", "pwd")
    assert (ran.returncode, ran.stdout) == (0, f"{remote_home}/colabdev\n"), ran.stderr
    code, checks = examined(house)
    assert code == 0, checks
    assert checks["content box"]["level"] == checks["port box"]["level"] == "ok"
    assert "drive box" not in checks
    broken.touch()
    house.end_keeper("box")
    code, checks = examined(house)
    assert (code, checks["runtime box"]["level"]) == (1, "bad")
    assert "the way is blocked" in str(checks["runtime box"]["saw"])


def test_bundle_holds_neither_the_proxys_secrets_nor_the_hosts_name(
    behind_proxy: tuple[House, Path],
) -> None:
    house, _ = behind_proxy
    connect_outside_a_project(house)
    record = house.places.state_dir / "runtimes" / "box.json"
    cut_off = record.with_name("cut.json")
    text = record.read_text()
    cut_off.write_text(text[: text.index(TOKEN) + len(TOKEN)])
    done = house.colabdev("doctor", "--bundle", "--json")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(json.loads(done.stdout)["bundle"]) as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"state/runtimes/box.json", "state/runtimes/cut.json", "ssh/config"} <= set(found)
    for secret in (TOKEN, "gpu.lab.invalid"):
        assert [name for name, text in found.items() if secret in text] == []
    assert f'"proxy_command": "{sys.executable} [redacted]"' in found["state/runtimes/box.json"]


def test_wsl_says_once_what_windows_lacks(
    house: House, user: UserSsh, key: Keypair, host: Sshd, tmp_path: Path
) -> None:
    windows = make_windows(tmp_path / "windows")
    house.environment = windows.environment(house.environment)
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    done = house.colabdev(*CONNECT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[1:-1] == [
        "  Windows' editors will not know this runtime: box is reached with this Linux's own keys and "
        "programs; give Windows' ssh a Host of its own for it"
    ]
    code, checks = examined(house)
    assert (code, checks["windows"]["level"]) == (0, "ok")
    assert house.colabdev("down").returncode == 0


def test_keyboard_reaches_a_job_that_is_attached_to(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    assert house.colabdev(*CONNECT).returncode == 0
    with at_terminal(house, "run", "-i", "python3", "-q") as at:
        at.expect(b">>> ")
        at.type(b"x = 6 * 7\r~.")
        assert at.finish() == 130
    with at_terminal(house, "attach", "-i") as at:
        at.expect(b">>> ")
        at.type(b"print('is', x)\r")
        at.expect(b"is 42")
        # Whoever watches hears how the job ends, also by `down`.
        assert house.colabdev("down").returncode == 0
        assert at.finish() == 143
        assert at.modes() == at.modes_before
