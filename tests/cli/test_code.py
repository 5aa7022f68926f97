"""`code`: what an editor is told, and what it does then. The editors are programs that write down their
arguments; `tests.support.vscode` plays VS Code's part."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.jobs import workdir
from tests.support.programs import put_program, put_recorder, recorded
from tests.support.relay import Relay
from tests.support.vscode import Window, wait_for_entry
from tests.support.web import web_server
from tests.support.wsl import make_windows

_EXTENSION = 'if [ "$1" = --list-extensions ]; then echo ms-python.python; echo %s; exit; fi'
MICROSOFTS = _EXTENSION % "ms-vscode-remote.remote-ssh"
OPEN = _EXTENSION % "jeanp413.open-remote-ssh"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def programs(house: House, tmp_path: Path) -> Iterator[Path]:
    """A folder in front of a PATH on which no editor is; settings are the test's own."""
    before = dict(house.environment)
    folder, plain = tmp_path / "bin", tmp_path / "plain"
    plain.mkdir()
    for name in ("ssh", "ssh-keygen", "sh", "bash", "env"):
        (plain / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    house.environment["PATH"] = f"{folder}:{plain}"
    house.environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    yield folder
    house.environment.clear()
    house.environment |= before


def settings_file(tmp_path: Path, editor: str = "Code") -> Path:
    return tmp_path / "config" / editor / "User" / "settings.json"


def test_work_dir_is_opened_through_the_host_entry(house: House, programs: Path) -> None:
    record = put_recorder(programs, "code", MICROSOFTS)
    done = house.colabdev("code")
    assert done.returncode == 0, done.stderr
    path = house.record().workdir
    assert done.stdout == f"VS Code opens {path} on local\n"
    assert recorded(record) == [["--folder-uri", f"vscode-remote://ssh-remote+local{path}"]]
    assert "VS Code asks once what local runs: Linux. colabdev code --settings" in done.stderr
    # This configuration is none that VS Code reads by itself.
    assert f"set remote.SSH.configFile to {house.places.ssh_config}" in done.stderr
    machine = workdir(house).parents[1] / "root/.vscode-server/data/Machine/settings.json"
    python = json.loads(machine.read_text())["python.defaultInterpreterPath"]
    shown = house.colabdev("ssh", "local", "--", "command -v python3").stdout.strip()
    assert python == shown
    machine.write_text("{}")
    assert house.colabdev("code").returncode == 0
    assert machine.read_text() == "{}"


def test_file_and_folder_with_odd_names_are_told_apart(house: House, programs: Path) -> None:
    record = put_recorder(programs, "code", MICROSOFTS)
    odd = workdir(house) / "100% sure & more"
    odd.mkdir()
    (odd / "no suffix").touch()
    root = f"vscode-remote://ssh-remote+local{workdir(house)}"
    opened = json.loads(house.colabdev("code", odd.name, "--json").stdout)
    assert opened == {"schema": 1, "runtime": "local", "editor": "code", "path": str(odd)}
    assert house.colabdev("code", f"{odd}/no suffix").returncode == 0
    assert recorded(record) == [
        ["--folder-uri", f"{root}/100%25%20sure%20%26%20more"],
        ["--file-uri", f"{root}/100%25%20sure%20%26%20more/no%20suffix"],
    ]
    done = house.colabdev("code", "nothing here")
    assert done.returncode == 1
    assert "local has no such folder or file" in done.stderr
    assert len(recorded(record)) == 2


def test_installed_editor_is_taken_or_the_one_that_is_typed(house: House, programs: Path) -> None:
    codium = put_recorder(programs, "codium", OPEN)
    assert house.colabdev("code").stdout.startswith("VSCodium opens ")
    cursor = put_recorder(programs, "cursor", MICROSOFTS)
    assert house.colabdev("code").stdout.startswith("Cursor opens ")
    assert house.colabdev("code", "--editor", "codium").returncode == 0
    assert (len(recorded(codium)), len(recorded(cursor))) == (2, 1)


def test_editor_that_cannot_go_there_is_said_with_what_helps(house: House, programs: Path) -> None:
    def complaint(*words: str) -> str:
        done = house.colabdev("code", *words)
        assert done.returncode in (1, 2)
        return done.stderr

    assert "cannot find an editor on the PATH" in complaint()
    assert "install VS Code from https://" in complaint()
    assert "did you mean 'cursor'?" in complaint("--editor", "curser")
    assert "Install 'cursor' command in PATH" in complaint("--editor", "cursor")
    record = put_recorder(programs, "windsurf", MICROSOFTS)
    said = complaint()
    assert "Windsurf cannot go to another machine" in said
    assert "next: windsurf --install-extension jeanp413.open-remote-ssh" in said
    assert recorded(record) == []
    put_program(programs, "code", f"{MICROSOFTS}\necho 'no display' >&2; exit 1")
    assert "cannot start VS Code: no display" in complaint("--editor", "code")


def test_settings_that_spare_a_question_are_written_when_asked_for(
    house: House, programs: Path, tmp_path: Path
) -> None:
    put_recorder(programs, "code", MICROSOFTS)
    path = settings_file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text('{\n    // mine\n    "editor.fontSize": 12,\n}\n')
    assert house.colabdev("code", "--settings").returncode == 0
    wanted = (
        '{\n    "remote.SSH.remotePlatform": {"local": "linux"},\n    // mine\n'
        '    "editor.fontSize": 12,\n}\n'
    )
    assert path.read_text() == wanted
    assert "// mine" in path.with_name("settings.json.before-colabdev").read_text()
    again = house.colabdev("code")
    assert "asks once" not in again.stderr
    path.write_text("{ what is this")
    said = house.colabdev("code", "--settings")
    assert said.returncode == 0
    assert 'put this into it: "remote.SSH.remotePlatform": {"local": "linux"}' in said.stderr
    assert path.read_text() == "{ what is this"


def test_windows_editor_is_started_from_a_wsl(house: House, programs: Path, tmp_path: Path) -> None:
    windows = make_windows(tmp_path / "windows")
    (windows.bin / "cmd.exe").rename(windows.bin / "profile-of-cmd.exe")
    answers = f"""case "$1 $2 $3" in
"/c where code") exit 0;;
"/c where "*) exit 1;;
"/c code --list-extensions") echo ms-vscode-remote.remote-ssh; exit;;
"/u "*) exec '{windows.bin}/profile-of-cmd.exe' "$@";;
esac"""
    record = put_recorder(windows.bin, "cmd.exe", answers)
    house.environment["PATH"] += f":{os.environ['PATH']}"
    house.environment = windows.environment(house.environment)
    put_recorder(programs, "code", "exit 9")
    done = house.colabdev("code", "--settings")
    assert done.returncode == 0, done.stderr
    uri = f"vscode-remote://ssh-remote+local{workdir(house)}"
    assert recorded(record) == [["/c", "code", "--folder-uri", uri]]
    assert "Host local\n" in (windows.ssh / "colabdev" / "config").read_text()
    settings = windows.profile / "AppData/Roaming/Code/User/settings.json"
    assert json.loads(settings.read_text()) == {"remote.SSH.remotePlatform": {"local": "linux"}}


def test_windows_survive_and_come_back_as_vs_code_needs_it(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        machine = house.connect().machine
        assert machine is not None
        main = house.places.ssh_config
        (house.project / "page").write_text("through the runtime")
        with (
            web_server(house.project) as port,
            Relay(machine.ssh.host, machine.ssh.port) as first,
            Relay(machine.ssh.host, machine.ssh.port) as second,
        ):
            house.move(first.port)
            wait_for_entry(house, first.port)
            with Window(house, "local", main) as window, Window(house, "local", main) as other:
                assert window.said == ["installed", "start: served :end"]
                # The second finds what the first installed; a login prints nothing of its own.
                assert other.said == ["start: served :end"]
                assert window.get(port, "page") == other.get(port, "page") == b"through the runtime"
                # A link that drops ends both, and a window comes back under the same name.
                assert first.cut() >= 2
                assert (window.wait_ended(), other.wait_ended()) == (255, 255)
            with Window(house, "local", main) as again:
                assert again.said == ["start: served :end"]
                # The address changes under an open -D: what is open goes on, what comes is led anew.
                house.move(second.port)
                wait_for_entry(house, second.port)
                assert again.get(port, "page") == b"through the runtime"
                first.refuse()
                with Window(house, "local", main) as elsewhere:
                    assert elsewhere.said == ["start: served :end"]
                    assert elsewhere.get(port, "page") == b"through the runtime"
                assert second.connections >= 1
