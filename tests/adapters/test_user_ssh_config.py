"""The one line of ours in the user's main OpenSSH configuration, and what ssh makes of it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from colabdev.adapters.host_entries import SshFiles
from colabdev.adapters.user_ssh_config import UserSshConfig
from tests.core.test_ssh_config import HOSTILE_HOST, understood
from tests.support.read_only import read_only_mount
from tests.support.records import make_record

ROOT = Path(__file__).parents[2]
CONNECT = """
import sys
from pathlib import Path
from colabdev.adapters.host_entries import SshFiles
from tests.support.records import make_record
files = SshFiles(Path(sys.argv[1]))
files.write(make_record(sys.argv[2]))
print(files.include())
"""


class Home:
    """A user's `.ssh`; ssh looks for it elsewhere, in the password database's home."""

    def __init__(self, root: Path) -> None:
        self.ssh = root / ".ssh"
        self.ssh.mkdir(mode=0o700)
        self.main = self.ssh / "config"
        self.files = SshFiles(self.main)
        self.line = f'Include "{self.files.config_file}"\n'.encode()

    def backups(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.ssh.glob("config.*")}

    def listing(self) -> set[str]:
        return {path.name for path in self.ssh.iterdir()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"Host a\n  Port 1\n",
        b"Host a\r\n  Port 1\r\n",
        b"Host a",
        b"# caf\xe9 \xff\n",
        HOSTILE_HOST.encode(),
        b"Match all\n  Include colabdev/config\n",
        # ssh on Linux refuses it before and after; on Windows it may be an editor's.
        b"\xef\xbb\xbfHost a\r\n",
    ],
    ids=ascii,
)
def test_include_is_put_at_the_top_and_the_old_bytes_are_kept(home: Home, before: bytes) -> None:
    home.main.write_bytes(before)
    home.main.chmod(0o640)
    assert home.files.include() == ""
    mark = before[:3] if before.startswith(b"\xef\xbb\xbf") else b""
    line = home.line.replace(b"\n", b"\r\n") if b"\r\n" in before else home.line
    assert home.main.read_bytes() == mark + line + before[len(mark) :]
    assert home.backups() == {"config.before-colabdev": before}
    for path in (home.main, home.ssh / "config.before-colabdev"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_include_twice_leaves_bytes_time_and_inode(home: Home) -> None:
    home.main.write_text("Host a\n")
    home.files.include()
    before, known = home.main.read_bytes(), home.main.stat()
    assert home.files.include() == ""
    after = home.main.stat()
    assert home.main.read_bytes() == before
    assert (after.st_mtime_ns, after.st_ino) == (known.st_mtime_ns, known.st_ino)
    assert len(home.backups()) == 1


def test_missing_main_file_is_made_private_without_a_backup(tmp_path: Path) -> None:
    files = SshFiles(tmp_path / ".ssh" / "config")
    before = os.umask(0)
    try:
        assert files.include() == ""
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE((tmp_path / path).stat().st_mode) for path in (".ssh", ".ssh/config")
    }
    assert modes == {".ssh": 0o700, ".ssh/config": 0o600}
    assert {path.name for path in (tmp_path / ".ssh").iterdir()} == {"config", "colabdev"}


def test_owner_of_the_main_file_stays(home: Home) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    home.main.write_text("Host a\n")
    os.chown(home.main, 1234, 5678)
    home.files.include()
    assert (home.main.stat().st_uid, home.main.stat().st_gid) == (1234, 5678)


def test_backups_are_numbered_and_never_overwritten(home: Home) -> None:
    for text in ("first\n", "second\n", "first\n", "third\n"):
        home.main.write_text(text)
        home.files.include()
    assert home.backups() == {
        "config.before-colabdev": b"first\n",
        "config.before-colabdev-2": b"second\n",
        "config.before-colabdev-3": b"third\n",
    }


@pytest.mark.parametrize("exists", [True, False], ids=["target", "dangling"])
def test_symlink_stays_and_its_target_is_written(home: Home, tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "dotfiles" / "ssh_config"
    target.parent.mkdir()
    if exists:
        target.write_text("Host a\n")
    (tmp_path / "hop").symlink_to(target)
    home.main.symlink_to("../hop")
    assert home.files.include() == ""
    assert os.readlink(home.main) == "../hop"
    assert target.read_bytes() == home.line + (b"Host a\n" if exists else b"")
    assert [path.name for path in target.parent.iterdir()] == ["ssh_config"]
    assert set(home.backups()) == ({"config.before-colabdev"} if exists else set())


def _as_directory(home: Home) -> None:
    home.main.mkdir()


def _as_device(home: Home) -> None:
    home.main.symlink_to("/dev/null")


def _as_loop(home: Home) -> None:
    home.main.symlink_to("config")


def _into_nowhere(home: Home) -> None:
    home.main.symlink_to("/nowhere/config")


def _as_utf_16(home: Home) -> None:
    home.main.write_text("Host a\n", encoding="utf-16")


def _without_write_bits(home: Home) -> None:
    home.main.write_text("Host a\n")
    home.main.chmod(0o444)


OBSTACLES = {
    "a directory": (_as_directory, "it is not a file"),
    "a device": (_as_device, "it is not a file"),
    "a loop": (_as_loop, "it is a symbolic link that leads nowhere"),
    "no directory": (_into_nowhere, "No such file or directory"),
    "UTF-16": (_as_utf_16, "it is no text that ssh can read"),
    "no write bits": (_without_write_bits, "it is read-only"),
}


@pytest.mark.parametrize(("make", "reason"), OBSTACLES.values(), ids=OBSTACLES)
def test_main_file_that_cannot_be_changed_is_left_and_the_line_is_said(
    home: Home, make: Callable[[Home], None], reason: str
) -> None:
    make(home)
    assert_left_alone(home, reason)


@contextmanager
def read_only_target_directory(home: Home) -> Iterator[None]:
    """As of home-manager: a link into a tree that nobody writes."""
    store = home.ssh.parent / "store"
    store.mkdir()
    home.main.rename(store / "config")
    home.main.symlink_to(store / "config")
    with read_only_mount(store):
        yield


@contextmanager
def immutable(home: Home) -> Iterator[None]:
    done = subprocess.run(["chattr", "+i", home.main], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this file system knows no immutable files")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", home.main], check=True)


@pytest.mark.parametrize("kind", ["file", "directory", "immutable"])
def test_main_file_that_refuses_even_root_is_left_and_the_line_is_said(
    home: Home, kind: str
) -> None:
    home.main.write_text("Host a\n")
    home.files.public_key()
    refusing: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "file": lambda: read_only_mount(home.main),
        "directory": lambda: read_only_target_directory(home),
        "immutable": lambda: immutable(home),
    }
    with refusing[kind]():
        assert_left_alone(home, "it is read-only")
        assert home.main.read_text() == "Host a\n"


def test_file_that_cannot_be_replaced_is_left_and_the_line_is_said(home: Home) -> None:
    # As a container has it that mounts this one file: it can be written, but not renamed over.
    home.main.write_text("Host a\n")
    done = subprocess.run(["mount", "--bind", home.main, home.main], check=False)
    if done.returncode != 0:
        pytest.skip("cannot mount")
    try:
        said = home.files.include()
        assert home.main.read_text() == "Host a\n"
    finally:
        subprocess.run(["umount", "-l", home.main], check=True)
    assert "Device or resource busy" in said
    assert home.listing() == {"colabdev", "config", "config.before-colabdev"}


def assert_left_alone(home: Home, reason: str) -> None:
    """Nothing changes, the user gets the line, and our own file works all the same."""
    home.files.write(make_record("box"))
    before = home.listing()
    assert home.files.include() == (
        f"cannot change {home.main}: {reason}; for plain ssh and for editors add this at its very "
        f"top: {home.line.decode().strip()}"
    )
    assert home.listing() == before == {"colabdev", "config"}
    assert home.files.short_command("box") == ["ssh", "-F", str(home.files.config_file), "box"]


def test_connects_at_the_same_time_leave_all_stanzas_and_one_include(home: Home) -> None:
    home.main.write_text("Host a\n")
    names = [f"box-{number}" for number in range(8)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECT, home.main, name],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in names
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["\n"] * 8
    assert home.main.read_bytes() == home.line + b"Host a\n"
    hosts = [x for x in home.files.config_file.read_text().splitlines() if x.startswith("Host ")]
    assert hosts == [f"Host {name}" for name in names]
    assert home.backups() == {"config.before-colabdev": b"Host a\n"}


@pytest.mark.parametrize("ours", ["top", "in a Host block", "in a Match block"])
def test_hostile_configuration_changes_nothing(home: Home, ours: str) -> None:
    inner = f"  {home.line.decode()}"
    home.main.write_text(
        HOSTILE_HOST
        + {"top": "", "in a Host block": inner, "in a Match block": f"Match all\n{inner}"}[ours]
    )
    home.files.write(make_record("box"))
    assert home.files.short_command("box")[2] == str(home.files.config_file)
    assert home.files.include() == ""
    assert home.files.short_command("box") == ["ssh", "-F", str(home.main), "box"]
    options = understood(home.main)
    assert (options["hostname"], options["port"], options["hostkeyalias"]) == (
        ["127.0.0.1"],
        ["2222"],
        ["colabdev-box"],
    )
    assert "proxyjump" not in options


@pytest.mark.parametrize(
    "main",
    [
        "Include {elsewhere}\n{line}",  # Somebody else's file may stand in front, and may be hostile.
        "\ufeff{line}",
        "{line}Nonsense yes\n",
    ],
    ids=["hostile in front", "BOM", "refused by ssh"],
)
def test_main_file_in_which_ours_does_not_work_is_avoided(home: Home, main: str) -> None:
    elsewhere = home.ssh / "elsewhere"
    elsewhere.write_text(HOSTILE_HOST)
    home.main.write_text(main.format(elsewhere=elsewhere, line=home.line.decode()))
    home.files.write(make_record("box"))
    assert home.files.include() == ""
    assert home.files.short_command("box") == ["ssh", "-F", str(home.files.config_file), "box"]


def test_plain_ssh_is_only_for_the_file_that_ssh_reads_by_itself(tmp_path: Path) -> None:
    # OpenSSH finds it by the password database, not by HOME: a real plain ssh cannot be sent into a
    # test's home, except by a mount; tests/cli/test_host_entry.py has that.
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (tmp_path / "link").symlink_to(home / ".ssh")
    options = {
        path: UserSshConfig(path, path.parent / "colabdev/config", home=home).ssh_options
        for path in (
            home / ".ssh" / "config",
            tmp_path / "link" / "config",
            home / ".ssh" / "config-2",
            tmp_path / "config",
        )
    }
    assert list(options.values()) == [
        (),
        (),
        ("-F", str(home / ".ssh" / "config-2")),
        ("-F", str(tmp_path / "config")),
    ]


@pytest.mark.parametrize(
    ("main", "place"),
    [
        ("Host a box\n", "{main} line 1"),
        ("Host *\n  Include {more}\n", "{more} line 2"),
        ("Host b*\n  HostName elsewhere\nMatch host box\n  Port 1\n", ""),
        ("Host a\n  Include {more}\n", ""),
        ("", ""),
        (None, ""),
    ],
    ids=["main file", "included", "wildcards", "not for this host", "empty", "missing"],
)
def test_name_that_the_user_has_is_found(home: Home, main: str | None, place: str) -> None:
    more = home.ssh / "more"
    more.write_text("# mine\nHost box\n")
    if main is not None:
        home.main.write_text(main.format(more=more))
    assert home.files.taken_by("box") == place.format(main=home.main, more=more)
    assert home.files.taken_by("other") == ""


def test_name_with_a_stanza_of_ours_is_ours(home: Home) -> None:
    # A Host of the user's behind ours adds options to it, as a LocalForward.
    home.files.write(make_record("box"))
    home.files.include()
    assert home.files.taken_by("box") == ""
    with home.main.open("a") as file:
        file.write("Host box\n  LocalForward 8888 localhost:8888\n")
    assert home.files.taken_by("box") == ""
    assert home.files.short_command("box") == ["ssh", "-F", str(home.main), "box"]


def test_without_ssh_the_main_file_alone_is_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home.ssh))
    home.main.write_text("Host box\n")
    assert home.files.taken_by("box") == f"{home.main} line 1"
    assert home.files.taken_by("other") == ""
    home.files.write(make_record("other"))
    assert home.files.short_command("other") == ["ssh", "-F", str(home.files.config_file), "other"]


def test_removed_runtime_leaves_nothing_for_ssh(home: Home) -> None:
    home.files.write(make_record("box"))
    home.files.include()
    home.files.remove("box")
    (home.ssh / "empty").touch()
    assert understood(home.main) == understood(home.ssh / "empty")
