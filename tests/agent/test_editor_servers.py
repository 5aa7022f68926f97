"""Editors' servers that Drive keeps: the program and its extensions, and nothing about their user."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.agent import editor_servers
from tests.agent.test_jobs import Bench, make_bench
from tests.support.waiting import wait_until

COMMIT = "c0ffee" * 6 + "cafe"
SERVER = f"cli/servers/Stable-{COMMIT}/server"
KEPT = {
    f"code-{COMMIT}": "the launcher",
    f"{SERVER}/node": "a program",
    f"{SERVER}/out/token.js": "of a lexer, not of a user",
    "cli/servers/lru.json": "[]",
    f"bin/{COMMIT}/server.sh": "as it was before",
    "extensions/extensions.json": "[]",
    "extensions/ms-python-1.0/main.js": "an extension",
}
PRIVATE = [
    f".{COMMIT}.token",
    f".{COMMIT}.log",
    f".cli.{COMMIT}.log",
    f"cli/servers/Stable-{COMMIT}/log.txt",
    f"cli/servers/Stable-{COMMIT}/pid.txt",
    f"{SERVER}/.connection.token",
    f"{SERVER}/logs/all.js",
    "data/Machine/settings.json",
    "data/User/globalStorage/state.vscdb",
    "data/logs/20261121/remoteagent.log",
    "extensions/ms-python-1.0/.env",
    "extensions/ms-python-1.0/.env.local",
    "extensions/ms-python-1.0/debug.log",
    "extensions/.ssh/id_rsa",
    "extensions/cloud-1.0/credentials",
    "extensions/cloud-1.0/id_ed25519",
]
PLANTED = "planted-7Hq2-secret"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, Path(sys.executable))
    (tmp_path / "drive").mkdir()
    yield bench
    (tmp_path / "home" / ".colabdev" / "editors.lock").unlink(missing_ok=True)  # Ends the daemon.
    bench.close()


def test_program_and_extensions_come_back_and_nothing_else_is_kept(machine: Bench) -> None:
    server, drive = machine.root / "home" / ".vscode-server", machine.root / "drive"
    for path, text in {**KEPT, **dict.fromkeys(PRIVATE, PLANTED)}.items():
        (server / path).parent.mkdir(parents=True, exist_ok=True)
        (server / path).write_text(text)
    (server / SERVER / "node").chmod(0o755)
    (server / SERVER / "node-18").symlink_to("node")
    (server / "extensions" / "away").symlink_to("/etc")
    (server / "extensions" / "passwords").symlink_to("/etc/passwd")
    os.mkfifo(server / "extensions" / "pipe")
    asked = {"drive_dir": str(drive), "folders": [".vscode-server"], "look_s": 0.1}
    told = machine.talk().request("editor.restore", **asked)
    assert told == {"brought": [], "problems": []}  # One is here already.
    [stored] = wait_until(
        lambda: list(drive.glob("colabdev/editors/vscode-server-*.zip")),
        timeout_s=30,
        message="it is not kept",
    )
    wait_until(lambda: zipfile.is_zipfile(stored), message="it is never whole")
    with zipfile.ZipFile(stored) as packed:
        names = {name for name in packed.namelist() if not name.startswith(".colabdev/")}
        assert names == {*KEPT, f"{SERVER}/node-18"}
        assert not any(PLANTED.encode() in packed.read(name) for name in packed.namelist())

    shutil.rmtree(server)
    told = machine.talk().request("editor.restore", **asked)
    [row] = told["brought"]
    assert (row["folder"], row["size_bytes"]) == (".vscode-server", stored.stat().st_size)
    found = {str(one.relative_to(server)) for one in server.rglob("*") if not one.is_dir()}
    assert found == {*KEPT, f"{SERVER}/node-18"}
    assert (server / SERVER / "node-18").read_text() == "a program"
    assert os.access(server / SERVER / "node", os.X_OK)
    # What was brought is what is kept: it is not stored once more.
    assert list(drive.glob("colabdev/editors/*")) == [stored]

    shutil.rmtree(server)
    content = bytearray(stored.read_bytes())
    content[60] ^= 1
    stored.write_bytes(content)
    told = machine.talk().request("editor.restore", **asked)
    assert told["brought"] == []
    assert told["problems"][0][0] == ".vscode-server"
    assert not server.exists()


def test_only_a_servers_folder_is_ever_written() -> None:
    with pytest.raises(ValueError, match="no editor's folder"):
        editor_servers.check_folder("../.ssh")
    with pytest.raises(ValueError, match="no editor's folder"):
        editor_servers.check_folder(".ssh")
