"""Our files beside the user's OpenSSH configuration."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from colabdev.adapters.host_entries import SshFiles
from colabdev.core.ssh_config import HEADER
from colabdev.errors import ColabdevError, StateNotWritable
from colabdev.models import RuntimeRecord
from tests.core.test_ssh_config import HOSTILE_HOST
from tests.support.records import make_record
from tests.support.sshd import Sshd

MAKE_KEY = """
import sys
from pathlib import Path
from colabdev.adapters.host_entries import SshFiles
print(SshFiles(Path(sys.argv[1])).public_key())
"""

WRITE = """
import sys
from pathlib import Path
from colabdev.adapters.host_entries import SshFiles
from tests.support.records import make_record
files = SshFiles(Path(sys.argv[1]))
for name in sys.argv[2:]:
    files.write(make_record(name))
"""

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path) -> SshFiles:
    return SshFiles(tmp_path / ".ssh" / "config")


def folder(files: SshFiles) -> Path:
    return files.config_file.parent


def start(script: str, files: SshFiles, *arguments: str) -> subprocess.Popen[str]:
    main_config = folder(files).parent / "config"
    return subprocess.Popen(
        [sys.executable, "-c", script, main_config, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def content(files: SshFiles) -> dict[str, bytes]:
    """Every file of ours."""
    return {path.name: path.read_bytes() for path in folder(files).iterdir()}


def private_key(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b""
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


def test_key_is_made_once_and_matches_its_files(files: SshFiles) -> None:
    public = files.public_key()
    assert files.public_key() == public
    assert SshFiles(folder(files).parent / "config").public_key() == public
    assert (folder(files) / "id_ed25519.pub").read_text() == f"{public} colabdev\n"
    told = subprocess.run(
        ["ssh-keygen", "-y", "-f", files.private_key_file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split()[:2] == public.split()
    assert public.startswith("ssh-ed25519 ")


def test_key_is_made_once_by_processes_at_the_same_time(files: SshFiles) -> None:
    processes = [start(MAKE_KEY, files) for _ in range(4)]
    lines = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert lines == {f"{files.public_key()}\n"}


def test_files_are_0600_in_0700(files: SshFiles) -> None:
    before = os.umask(0)
    try:
        files.public_key()
        files.write(make_record())
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder(files).stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder(files).iterdir()}
    assert modes == dict.fromkeys(
        ("config", "known_hosts", "id_ed25519", "id_ed25519.pub", ".lock"), 0o600
    )


DAMAGED_KEYS = {
    "empty": b"",
    "words": b"no key",
    "not text": b"\xff" * 400,
    "half": private_key(Ed25519PrivateKey.generate())[:200],
    "of another kind": private_key(ec.generate_private_key(ec.SECP256R1())),
    "with a passphrase": private_key(Ed25519PrivateKey.generate(), b"secret"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("damaged", DAMAGED_KEYS.values(), ids=DAMAGED_KEYS)
def test_damaged_key_is_said_and_left_as_it_is(files: SshFiles, damaged: bytes) -> None:
    files.public_key()
    files.private_key_file.write_bytes(damaged)
    with pytest.raises(ColabdevError) as caught:
        files.public_key()
    assert caught.value.message.startswith(
        f"cannot use this computer's key {files.private_key_file}: "
    )
    assert "rename that file" in caught.value.hint
    assert files.private_key_file.read_bytes() == damaged


def test_removed_key_is_made_anew(files: SshFiles) -> None:
    public = files.public_key()
    files.private_key_file.unlink()
    assert files.public_key() not in ("", public)


def test_write_makes_stanza_and_pinned_key(files: SshFiles) -> None:
    record = make_record()
    files.write(record)
    text = files.config_file.read_text()
    assert text.startswith(f"{HEADER}\nHost box\n  HostName 127.0.0.1\n  Port 2222\n")
    assert record.machine is not None
    assert (folder(files) / "known_hosts").read_text() == (
        f"colabdev-box {record.machine.ssh.host_key}\n"
    )


def test_write_twice_leaves_the_same_bytes(files: SshFiles) -> None:
    files.write(make_record("box"))
    files.write(make_record("other"))
    before, inode = content(files), files.config_file.stat().st_ino
    files.write(make_record("box"))
    assert content(files) == before
    assert files.config_file.stat().st_ino == inode


def test_changed_address_replaces_the_old_one(files: SshFiles) -> None:
    files.write(make_record())
    files.write(_moved(make_record(), port=3333, host_key="ssh-ed25519 new"))
    config = files.config_file.read_text()
    assert config.count("Host box\n") == 1
    assert ("Port 3333" in config, "Port 2222" in config) == (True, False)
    assert (folder(files) / "known_hosts").read_text() == "colabdev-box ssh-ed25519 new\n"


def test_remove_takes_out_this_one_only(files: SshFiles) -> None:
    files.write(make_record("other"))
    before = content(files)
    files.write(make_record("box"))
    for _ in range(2):
        files.remove("box")
        assert content(files) == before


def test_remove_where_nothing_is_makes_no_folder(files: SshFiles) -> None:
    files.remove("box")
    assert not folder(files).exists()


def test_remove_before_anything_was_written_is_harmless(files: SshFiles) -> None:
    files.public_key()
    files.remove("box")
    assert "Host box" not in files.config_file.read_text() if files.config_file.exists() else True
    files.write(make_record("box"))
    assert "Host box\n" in files.config_file.read_text()


def test_writers_at_the_same_time_are_all_there(files: SshFiles) -> None:
    names = [f"box-{number}" for number in range(8)]
    processes = [start(WRITE, files, *names[at::4]) for at in range(4)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    hosts = [line for line in files.config_file.read_text().splitlines() if line[:5] == "Host "]
    assert hosts == [f"Host {name}" for name in names]
    known = (folder(files) / "known_hosts").read_text().splitlines()
    assert sorted(line.split()[0] for line in known) == [f"colabdev-{name}" for name in names]


def test_file_in_place_of_the_folder_is_refused_with_the_variable(files: SshFiles) -> None:
    folder(files).parent.mkdir()
    folder(files).touch()
    for attempt in (files.public_key, lambda: files.write(make_record())):
        with pytest.raises(StateNotWritable) as caught:
            attempt()
        assert "COLABDEV_SSH_CONFIG" in caught.value.hint


@pytest.mark.parametrize("name", ["config", "known_hosts"])
def test_folder_in_place_of_a_file_is_said(files: SshFiles, name: str) -> None:
    files.public_key()
    (folder(files) / name).mkdir()
    with pytest.raises(ColabdevError, match=name):
        files.write(make_record())


def test_bytes_that_are_no_utf_8_survive(files: SshFiles) -> None:
    # As a latin-1 comment, or a stanza from a folder whose name is no UTF-8.
    files.public_key()
    files.config_file.write_bytes(HEADER.encode() + b"\nHost other\n  # caf\xe9\n")
    files.write(make_record())
    files.remove("box")
    assert files.config_file.read_bytes() == HEADER.encode() + b"\nHost other\n  # caf\xe9\n"


def test_command_names_our_file_and_passes_arguments_on(files: SshFiles) -> None:
    assert files.command("box", ["-L", "1:2:3", "echo 'x y'"]) == [
        "ssh",
        "-F",
        str(files.config_file),
        "box",
        "-L",
        "1:2:3",
        "echo 'x y'",
    ]


@pytest.mark.parametrize(
    "home",
    [
        "plain",
        "with space",
        'quo"te',
        "apo's",
        "100% %h %%",
        "back\\slash",
        "$HOME",
        "schön-日本語",
        "\udcff",  # A byte that is no UTF-8.
    ],
    ids=ascii,
)
def test_ssh_logs_in_from_a_hostile_home(tmp_path: Path, home: str) -> None:
    files = SshFiles(tmp_path / home / "config")
    with Sshd(files.public_key()) as server:
        machine = make_record().machine
        assert machine is not None
        files.write(replace(make_record(), machine=replace(machine, ssh=server.address)))
        done = _run_ssh(files)
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr


def test_ssh_logs_in_under_a_hostile_host(tmp_path: Path) -> None:
    files = SshFiles(tmp_path / "config")
    with Sshd(files.public_key()) as server:
        files.write(_at(server))
        main_config = tmp_path / "config"
        main_config.write_text(f'Include "{files.config_file}"\n{HOSTILE_HOST}')
        argv = ["ssh", "-F", str(main_config), "-o", "BatchMode=yes", "box", "echo in"]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr


def test_ssh_refuses_a_host_key_that_is_not_the_pinned_one(tmp_path: Path) -> None:
    files = SshFiles(tmp_path / "config")
    with Sshd(files.public_key()) as server:
        files.write(_moved(_at(server), host_key=files.public_key()))
        done = _run_ssh(files)
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"Host key verification failed" in done.stderr


def _run_ssh(files: SshFiles) -> subprocess.CompletedProcess[bytes]:
    argv = files.command("box", ["echo in"])
    return subprocess.run(argv, capture_output=True, check=False, timeout=20)


def _at(server: Sshd) -> RuntimeRecord:
    machine = make_record().machine
    assert machine is not None
    return replace(make_record(), machine=replace(machine, ssh=server.address))


def _moved(record: RuntimeRecord, **ssh: object) -> RuntimeRecord:
    assert record.machine is not None
    address = replace(record.machine.ssh, **ssh)  # type: ignore[arg-type]
    return replace(record, machine=replace(record.machine, ssh=address))
