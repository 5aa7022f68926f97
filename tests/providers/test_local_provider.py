"""The local provider: a sandbox is started once, found while it lives, and dies whole."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from colabdev.errors import ColabdevError, ReleaseUnproven, RuntimeUnreachable
from colabdev.models import Machine, StartRequest
from colabdev.providers import local, sandbox_end
from colabdev.providers.local import LocalLogin, LocalProvider, find_login
from colabdev.providers.processes import find_family, list_processes, living
from colabdev.providers.sandbox_files import (
    SandboxFiles,
    SandboxRecord,
    delete,
    parse_sandbox,
    take_lock,
)
from tests.support.keys import Keypair, make_keypair
from tests.support.openssh import OpenSsh, make_openssh
from tests.support.waiting import wait_until

# Leaves its parents twice over, ignores what asks it to go, and says where it is.
DAEMON = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for handle in range(3): os.close(handle)
with open(sys.argv[1] + ".new", "w") as file: file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True: time.sleep(1000)
"""


WITHOUT_MARKER = '/usr/bin/env -i PATH="$PATH"'


@dataclass(frozen=True, slots=True)
class Place:
    """A root of sandboxes, with a provider and a key for it."""

    root: Path
    directory: Path
    keypair: Keypair
    provider: LocalProvider

    def files(self, name: str = "box") -> SandboxFiles:
        return SandboxFiles(self.root, name)

    def request(self, name: str = "box", request_id: str = "one") -> StartRequest:
        return StartRequest(name, request_id, self.keypair.public)

    def start(self, name: str = "box", request_id: str = "one") -> Machine:
        return self.provider.start(self.request(name, request_id), lambda _: None)

    def ssh(self, machine: Machine) -> OpenSsh:
        return make_openssh(self.directory, machine.ssh, self.keypair.private)

    def record(self, name: str = "box") -> SandboxRecord:
        return parse_sandbox(self.files(name).record.read_bytes())

    def family(self, name: str = "box") -> set[int]:
        return living(find_family(self.files(name).marker, set(), spare=set()))

    def start_daemon(self, machine: Machine, *, environment: str = "") -> int:
        """A process that has left its parents; `environment` is what to start it through."""
        pid_file = self.files().home / "daemon.pid"
        (self.files().home / "daemon.py").write_text(DAEMON)
        ran = self.ssh(machine).run(f"{environment} python3 daemon.py {pid_file.name}")
        assert ran.returncode == 0, ran.stderr
        wait_until(pid_file.exists, message="the daemon did not start")
        return int(pid_file.read_text())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    root = tmp_path / "local root"
    provider = LocalProvider(root, lambda: LocalLogin(sys.executable))
    made = Place(root, tmp_path, make_keypair(tmp_path), provider)
    yield made
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(root / "sandboxes"):
            provider.release(name)


def alive(pid: int) -> bool:
    return any(process.pid == pid and process.alive for process in list_processes())


def kill(*pids: int) -> None:
    """SIGKILL, and wait until they are dead."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in pids), message=f"{pids} do not die")


def test_start_gives_a_machine_that_answers(place: Place) -> None:
    steps: list[str] = []
    machine = place.provider.start(place.request(), steps.append)
    assert place.ssh(machine).run("pwd").stdout.decode() == f"{place.files().home}\n"
    assert machine.content_dir == str(place.files().content)
    assert machine.request_id == "one"
    assert machine.accelerator is None
    assert steps == ["starting sandbox box"]
    assert place.provider.find("box") == machine
    assert place.provider.names() == ("box",)


def test_same_request_gives_the_same_machine(place: Place) -> None:
    assert place.start() == place.start()


def test_another_request_is_refused(place: Place) -> None:
    place.start()
    with pytest.raises(ColabdevError, match="another request") as caught:
        place.start(request_id="two")
    assert "colabdev down box" in caught.value.hint


def test_concurrent_starts_of_one_request_agree(place: Place) -> None:
    machines: list[Machine] = []
    threads = [threading.Thread(target=lambda: machines.append(place.start())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(machines) == 4
    assert len(set(machines)) == 1


def test_state_is_private(place: Place) -> None:
    place.start()
    files = place.files()
    for directory in (files.root, files.directory.parent, files.directory, files.disk):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in (files.record, files.authorized_keys, files.lock, files.log):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_start_that_fails_quotes_the_log(place: Place) -> None:
    request = StartRequest("box", "one", "no key at all")
    with pytest.raises(ColabdevError, match="cannot start sandbox box: ") as caught:
        place.provider.start(request, lambda _: None)
    assert str(place.files().log) in caught.value.hint
    assert place.provider.find("box") is None


def test_sandbox_outlives_its_starter(place: Place) -> None:
    script = (
        "import os, signal, sys, pathlib\n"
        "from colabdev.models import StartRequest\n"
        "from colabdev.providers.local import LocalLogin, LocalProvider\n"
        "login = LocalLogin(sys.executable)\n"
        "provider = LocalProvider(pathlib.Path(sys.argv[1]), lambda: login)\n"
        "provider.start(StartRequest('box', 'one', sys.argv[2]), lambda _: None)\n"
        "os.killpg(0, signal.SIGKILL)\n"
    )
    starter = subprocess.run(
        [sys.executable, "-c", script, str(place.root), place.keypair.public],
        env={**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[2])},
        start_new_session=True,
        timeout=30,
        check=False,
    )
    assert starter.returncode == -signal.SIGKILL
    machine = place.provider.find("box")
    assert machine is not None
    assert place.start() == machine
    assert place.ssh(machine).run("echo alive").stdout == b"alive\n"


def test_ignored_signals_of_the_starter_do_not_reach_commands(place: Place) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        machine = place.start()
    finally:
        signal.signal(signal.SIGINT, before)
    status = place.ssh(machine).run("grep -E 'SigIgn|SigBlk' /proc/self/status").stdout
    assert {line.split()[1] for line in status.splitlines()} == {b"0" * 16}


def test_two_sandboxes_share_drive_and_it_survives_them(place: Place) -> None:
    first, second = place.start("one"), place.start("two")
    assert place.provider.names() == ("one", "two")
    assert first.drive_dir is not None
    assert place.ssh(first).run(f"echo kept > '{first.drive_dir}/note'").returncode == 0
    place.provider.release("one")
    assert place.ssh(second).run(f"cat '{second.drive_dir}/note'").stdout == b"kept\n"
    place.provider.release("two")
    assert (place.root / "drive" / "MyDrive" / "note").read_text() == "kept\n"


def test_sandbox_may_be_named_drive(place: Place) -> None:
    place.start("drive")
    place.provider.release("drive")
    assert (place.root / "drive" / "MyDrive").is_dir()


def test_release_deletes_everything_and_may_be_repeated(place: Place) -> None:
    machine = place.start()
    command = "mkdir -p d/e; touch d/e/f; ln -s / d/root; chmod 0 d/e; chmod 500 d; mkfifo p"
    assert place.ssh(machine).run(command).returncode == 0
    place.provider.release("box")
    assert not place.files().directory.exists()
    assert place.family() == set()
    assert place.provider.find("box") is None
    assert place.provider.names() == ()
    place.provider.release("box")


@contextlib.contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """As the owner of `folder` without root's rights, if root runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    folder.parent.chmod(0o755)
    os.chown(folder, nobody, nobody)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folders_without_permissions_are_deleted() -> None:
    # Below no directory of pytest's: those are closed to anybody but root.
    with tempfile.TemporaryDirectory() as directory:
        mine = Path(directory) / "mine"
        mine.mkdir()
        with without_rights(mine):
            top = mine / "top"
            (top / "a" / "b").mkdir(parents=True)
            (top / "a" / "b" / "file").touch()
            for folder in (top / "a" / "b", top / "a", top):
                folder.chmod(0)
            delete(top)
        assert list(mine.iterdir()) == []


def _kill_nobody(_: SandboxRecord) -> None:
    return


def _kill_server(record: SandboxRecord) -> None:
    kill(record.server_pid)


def _kill_guardian(record: SandboxRecord) -> None:
    kill(record.guardian_pid)


def _kill_both(record: SandboxRecord) -> None:
    kill(record.guardian_pid, record.server_pid)


@pytest.mark.parametrize(
    "strike", [_kill_nobody, _kill_server, _kill_guardian, _kill_both], ids=lambda f: f.__name__
)
def test_escaped_daemon_dies_with_the_sandbox(
    place: Place, strike: Callable[[SandboxRecord], None]
) -> None:
    daemon = place.start_daemon(place.start())
    assert alive(daemon)
    strike(place.record())
    place.provider.release("box")
    assert not alive(daemon)
    assert place.family() == set()
    assert not place.files().directory.exists()


@pytest.mark.parametrize("strike", [_kill_nobody, _kill_server, _kill_guardian])
def test_daemon_that_dropped_the_marker_dies_too(
    place: Place, strike: Callable[[SandboxRecord], None]
) -> None:
    daemon = place.start_daemon(place.start(), environment=WITHOUT_MARKER)
    strike(place.record())
    place.provider.release("box")
    wait_until(lambda: not alive(daemon), message="the daemon lives")


@pytest.mark.parametrize("strike", [_kill_server, _kill_guardian])
def test_death_of_either_half_takes_everything_at_once(
    place: Place, strike: Callable[[SandboxRecord], None]
) -> None:
    daemon = place.start_daemon(place.start())
    strike(place.record())
    wait_until(lambda: not place.family(), message="something lives on")
    assert not alive(daemon)
    assert place.provider.find("box") is None
    assert place.provider.names() == ()


def test_stopped_guardian_is_ended_from_outside(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = place.start_daemon(place.start(), environment=WITHOUT_MARKER)
    os.kill(place.record().guardian_pid, signal.SIGSTOP)
    monkeypatch.setattr(sandbox_end, "_RELEASE_TIMEOUT_S", 0.3)
    place.provider.release("box")
    assert not alive(daemon)
    assert not place.files().directory.exists()


@pytest.mark.parametrize("request_id", ["one", "two"])
def test_start_after_the_death_of_everything_gives_an_empty_disk(
    place: Place, request_id: str
) -> None:
    first = place.start()
    assert place.ssh(first).run("touch left").returncode == 0
    daemon = place.start_daemon(first)
    record = place.record()
    kill(record.guardian_pid, record.server_pid)
    second = place.start(request_id=request_id)
    assert second.ssh.host_key != first.ssh.host_key
    assert not alive(daemon)
    assert place.ssh(second).run("ls -A").stdout == b""


@contextlib.contextmanager
def held_lock(files: SandboxFiles) -> Iterator[None]:
    files.directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        assert take_lock(handle)
        yield
    finally:
        os.close(handle)


def test_sandbox_that_does_not_say_how_it_is_is_not_called_gone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_FIND_TIMEOUT_S", 0.2)
    with held_lock(place.files()), pytest.raises(RuntimeUnreachable, match="starting or ending"):
        place.provider.find("box")


def test_unreadable_record_of_a_running_sandbox_is_an_error(place: Place) -> None:
    place.start()
    place.files().record.write_text(json.dumps({"port": "none"}))
    with pytest.raises(ColabdevError, match=r"cannot read .*sandbox\.json"):
        place.provider.find("box")
    place.provider.release("box")
    assert place.provider.find("box") is None


def test_release_that_cannot_be_proved_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_end, "_LOCK_TIMEOUT_S", 0.2)
    with held_lock(place.files()), pytest.raises(ReleaseUnproven, match="another process holds"):
        place.provider.release("box")


def test_start_finishes_a_release_that_was_interrupted(place: Place) -> None:
    first = place.start()
    place.files().ending.touch()
    second = place.start()
    assert second.ssh.host_key != first.ssh.host_key
    assert place.ssh(second).run("true").returncode == 0


def test_unknown_sandbox_is_gone(place: Place) -> None:
    assert place.provider.find("box") is None
    assert place.provider.names() == ()
    place.provider.release("box")


def test_login_python_is_not_that_of_an_active_venv(tmp_path: Path) -> None:
    for name in ("venv", "system"):
        fake = tmp_path / name / "bin" / "python3"
        fake.parent.mkdir(parents=True)
        fake.write_text(f"#!/bin/sh\necho /opt/{name}/python3 ${{VIRTUAL_ENV-}}${{PYTHONPATH-}}\n")
        fake.chmod(0o755)
    path = f"{tmp_path}/venv/bin:{tmp_path}/system/bin:/usr/bin:/bin"
    environ = {"PATH": path, "VIRTUAL_ENV": f"{tmp_path}/venv", "PYTHONPATH": "/x"}
    assert find_login(environ) == LocalLogin("/opt/system/python3")


def test_login_python_without_any_on_path_is_our_own() -> None:
    assert os.access(find_login({"PATH": "/nonexistent"}).python, os.X_OK)
