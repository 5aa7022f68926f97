"""`doctor`: each thing that can be wrong is seen, with what to type; `--bundle` gives nothing away."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House
from tests.support.waiting import wait_until
from tests.support.wsl import make_windows

CHECK_KEYS = {"subject", "ok", "level", "saw", "advice"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With a runtime that nobody changes."""
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def changed(ready: House) -> Iterator[House]:
    """The same, whose main file and key are put back afterwards."""
    main, key = ready.places.ssh_config, ready.ssh_files.private_key_file
    before = main.read_bytes()
    yield ready
    main.write_bytes(before)
    main.chmod(0o600)
    key.chmod(0o600)


def examined(
    house: House, env: Mapping[str, str] | None = None
) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code and the checks by their subjects; the last of each."""
    done = house.colabdev("doctor", "--json", env=env)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert all(set(check) == CHECK_KEYS for check in document["checks"])
    return done.returncode, {check["subject"]: check for check in document["checks"]}


def script(place: Path, name: str, text: str) -> None:
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(0o755)


def test_all_is_well_with_a_runtime(ready: House) -> None:
    code, checks = examined(ready)
    assert code == 0, checks
    inside = {f"{what} local" for what in ("agent", "clock", "home", "content", "drive")}
    outside = {"ssh", "ssh config", "permissions", "state", "disk", "ports", "clock", "secrets"}
    wanted = inside | outside | {"runtime local", "keeper local", "port local"}
    assert {name: checks[name]["level"] for name in wanted} == dict.fromkeys(wanted, "ok")
    assert str(ready.keeper_pid()) in checks["keeper local"]["saw"]


def test_words_say_what_the_document_says(ready: House) -> None:
    done = ready.colabdev("doctor")
    assert done.returncode == 0
    assert "ok    runtime local: ready\n" in done.stdout


def test_old_ssh_is_bad(ready: House, tmp_path: Path) -> None:
    script(tmp_path / "bin", "ssh", "echo OpenSSH_7.4p1 >&2")
    path = f"{tmp_path / 'bin'}:{ready.environment['PATH']}"
    code, checks = examined(ready, {"PATH": path})
    assert (code, checks["ssh"]["level"]) == (1, "bad")
    assert "too old" in checks["ssh"]["saw"]


@pytest.mark.parametrize(
    ("extensions", "level", "says"),
    [
        ("echo ms-vscode-remote.Remote-SSH", "ok", "1.99.0, with Remote-SSH"),
        ("echo other.extension", "warn", "without Remote-SSH"),
        ("exit 1", "warn", "does not list"),
    ],
)
def test_editor_is_asked_for_remote_ssh(
    ready: House, tmp_path: Path, extensions: str, level: str, says: str
) -> None:
    body = f'case "$1" in --version) echo 1.99.0; echo abc;; *) {extensions};; esac'
    script(tmp_path / "bin", "code", body)
    path = f"{tmp_path / 'bin'}:{ready.environment['PATH']}"
    code, checks = examined(ready, {"PATH": path})
    assert (code, checks["editor code"]["level"]) == (0, level)
    assert says in checks["editor code"]["saw"]


def test_include_that_is_not_first_is_said_with_the_line(changed: House) -> None:
    main = changed.places.ssh_config
    main.write_text("Host *\n  User nobody\n" + main.read_text())
    code, checks = examined(changed)
    assert (code, checks["ssh config"]["level"]) == (0, "warn")
    assert "Include" in checks["ssh config"]["advice"]


def test_entry_that_ssh_does_not_take_is_said(changed: House) -> None:
    main = changed.places.ssh_config
    other = main.parent / "other"
    other.write_text("Host local\n  Port 1\n")
    main.write_text(f"Include {other}\n" + main.read_text())
    _, checks = examined(changed)
    assert checks["ssh config"]["level"] == "warn"
    assert "`ssh local` does not do" in checks["ssh config"]["saw"]


def test_loose_permissions_are_bad(changed: House) -> None:
    key = changed.ssh_files.private_key_file
    key.chmod(0o644)
    code, checks = examined(changed)
    assert (code, checks["permissions"]["advice"]) == (1, f"chmod 600 {key}")
    key.chmod(0o600)
    changed.places.ssh_config.chmod(0o666)
    code, checks = examined(changed)
    assert (code, checks["permissions"]["advice"]) == (1, f"chmod go-w {changed.places.ssh_config}")


def test_unreadable_state_hides_no_other_check(house: House) -> None:
    house.connect()
    (house.places.state_dir / "runtimes" / "bad.json").write_text("{")
    code, checks = examined(house)
    assert (code, checks["state"]["advice"]) == (1, "colabdev doctor --repair bad")
    assert checks["agent local"]["level"] == "ok"


def test_leftover_and_time_from_the_future_are_warnings(house: House) -> None:
    house.connect()
    runtimes = house.places.state_dir / "runtimes"
    leftover = runtimes / ".local.json.abc"
    leftover.touch()
    os.utime(leftover, (time.time() - 3600,) * 2)
    os.utime(runtimes / "local.json", (time.time() + 3600,) * 2)
    code, checks = examined(house)
    assert (code, checks["state"]["advice"]) == (0, f"rm {leftover}")
    assert checks["clock"]["level"] == "warn"


def test_lost_runtime_is_bad_and_its_port_too(house: House) -> None:
    house.connect()
    house.colabdev("local", "kill", "local")
    code, checks = examined(house)
    assert code == 1
    assert (checks["runtime local"]["ok"], checks["port local"]["ok"]) == (False, False)
    assert "colabdev connect local" in checks["port local"]["advice"]


@pytest.mark.long
def test_keeper_that_hangs_hides_nothing(house: House) -> None:
    house.connect()
    keeper = house.keeper_pid()
    os.kill(keeper, signal.SIGSTOP)
    try:
        _, checks = examined(house)
    finally:
        os.kill(keeper, signal.SIGCONT)
    assert checks["port local"]["ok"]
    assert checks["ssh"]["ok"]
    assert "runtime local" in checks


def test_drive_that_is_gone_is_bad(house: House) -> None:
    record = house.connect()
    assert record.machine is not None
    assert record.machine.drive_dir is not None
    Path(record.machine.drive_dir).unlink()
    code, checks = examined(house)
    assert (code, checks["drive local"]["level"]) == (1, "bad")


def test_windows_side_is_looked_at(house: House, tmp_path: Path) -> None:
    windows = make_windows(tmp_path / "windows")
    house.environment = windows.environment(house.environment)
    house.connect()
    code, checks = examined(house)
    assert (code, checks["windows"]["level"]) == (0, "ok"), checks["windows"]
    assert str(windows.ssh / "config") in checks["windows"]["saw"]
    (windows.ssh / "config").write_text("Host first\n  Port 1\n")
    (windows.ssh / "colabdev" / "config").unlink()
    code, checks = examined(house)
    assert (code, checks["windows"]["level"]) == (0, "warn")
    assert "Include colabdev/config" in checks["windows"]["saw"]
    assert "local is missing" in checks["windows"]["saw"]


def test_repair_of_what_is_gone_takes_its_host_entry_out(house: House) -> None:
    house.connect()
    house.colabdev("local", "kill", "local")
    (house.places.state_dir / "runtimes" / "local.json").write_text("{")
    done = house.colabdev("doctor", "--repair", "local")
    assert (done.returncode, "no provider knows local" in done.stdout) == (0, True)
    assert "Host local" not in house.ssh_files.config_file.read_text()
    code, checks = examined(house)
    assert (code, "runtime local" in checks) == (0, False)


# Planted where a user's could be. None of them looks like a secret by itself but by its place.
PLANTED = {
    "env": "planted-in-the-environment",
    "argv": "planted-in-an-argument",
    "log": "planted-in-a-log",
    "proxy": "planted-in-a-proxy-command",
    "config": "planted-in-the-settings",
    "project": "planted-in-the-project",
    "job env": "planted-in-a-job",
    "job log": "planted-in-what-a-job-wrote",
    "crash": "planted-in-a-crash-log",
    "unreadable": "planted-in-what-cannot-be-read",
    "known by value": "planted-by-its-value",
}


def plant(house: House) -> None:
    state = house.places.state_dir
    job = ["run", "--detach", "--env", f"ANY={PLANTED['job env']}", "sh", "-c"]
    started = house.colabdev(*job, f"echo {PLANTED['job log']} # {PLANTED['argv']}")
    assert started.returncode == 0, started.stderr
    house.colabdev("logs", "-f", started.stdout.split()[0])
    with (house.places.log_dir / "keeper-local.log").open("a") as log:
        log.write(f"sent Authorization: Basic {PLANTED['log']}\n{PLANTED['known by value']}\n")
        log.write(house.ssh_files.private_key_file.read_text().splitlines()[2] + "\n")
    (state / "crash").mkdir(exist_ok=True)
    crash = state / "crash" / "crash-20260101-000000-1.txt"
    crash.write_text(f"ValueError: --api-key {PLANTED['crash']}\n")
    bad = state / "runtimes" / "bad.json"
    bad.write_text(f'{{"keeper": {{"key": "{PLANTED["unreadable"]}')
    with house.ssh_files.config_file.open("a") as config:
        config.write(f"\nHost other\n  ProxyCommand nc -H 'X: {PLANTED['proxy']}' host\n")
    house.places.config_dir.mkdir(exist_ok=True)
    (house.places.config_dir / "login.json").write_text(PLANTED["config"])
    (house.project / "colabdev.toml").write_text(
        f'[job]\nenv = {{ ANY = "{PLANTED["project"]}" }}\n'
    )


def contents(archive: Path) -> dict[str, str]:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


def test_bundle_holds_no_secret_and_no_home(house: House) -> None:
    house.connect()
    plant(house)
    keeper = house.record().keeper
    assert keeper is not None
    secrets = {
        "MY_API_KEY": PLANTED["known by value"],
        "SOME_TOKEN": PLANTED["env"],
        "USER": "jane-doe",
        "LOGNAME": "jane-doe",
        "COLABDEV_NOTE": "by jane-doe",
    }
    done = house.colabdev("doctor", "--bundle", "--json", env=secrets)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    archive = Path(document["bundle"])
    assert archive.parent == house.project
    assert archive.stat().st_mode & 0o777 == 0o600
    found = contents(archive)
    assert sorted(found) == sorted(document["files"])
    wanted = {"versions.json", "checks.json", "state/runtimes/local.json", "ssh/config"}
    assert {*wanted, "state/runtimes/bad.json", "state/logs/keeper-local.log"} <= set(found)
    text = "\n".join([*found, *found.values()])
    key_lines = house.ssh_files.private_key_file.read_text().splitlines()
    for secret in (*PLANTED.values(), keeper.key, *key_lines, str(house.home), "jane-doe"):
        assert secret not in text, secret
    assert "by USER" in found["versions.json"]
    assert '"provider": "local"' in found["state/runtimes/local.json"]
    assert "HostName 127.0.0.1" in found["ssh/config"]


def test_bundle_overwrites_nothing(ready: House) -> None:
    first = Path(json.loads(ready.colabdev("doctor", "--bundle", "--json").stdout)["bundle"])
    before = first.read_bytes()
    second = Path(json.loads(ready.colabdev("doctor", "--bundle", "--json").stdout)["bundle"])
    assert (first != second, first.read_bytes() == before) == (True, True)
    done = ready.colabdev("doctor", "--bundle", first.name)
    assert "sync takes" not in done.stderr
    explained = ready.colabdev("sync", "--explain", first.name)
    assert "not synced: a file of colabdev's own" in explained.stdout, explained.stderr
    assert (done.returncode, "not overwritten" in done.stderr) == (1, True)
    assert first.read_bytes() == before
    done = ready.colabdev("doctor", "--bundle", "mine.zip")
    assert done.returncode == 0
    assert "versions.json" in done.stdout
    assert "  sync takes mine.zip along; a line in .colabdevignore keeps it here\n" in done.stderr
    assert (ready.project / "mine.zip").exists()


def test_bundle_that_cannot_be_written_is_said(ready: House) -> None:
    done = ready.colabdev("doctor", "--bundle", "no/such/folder.zip")
    assert (done.returncode, "cannot write" in done.stderr) == (1, True)
    done = ready.colabdev("doctor", "x.zip")
    assert (done.returncode, "only --bundle takes a file" in done.stderr) == (2, True)


def test_keeper_that_ended_is_there_again(house: House) -> None:
    house.connect()
    house.end_keeper()
    wait_until(lambda: house.store.keeper_pid("local") is None, message="the keeper lives")
    code, checks = examined(house)
    assert (code, checks["keeper local"]["ok"]) == (0, True), checks
