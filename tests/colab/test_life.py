"""The whole life of a runtime of Colab's, as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from colabdev.errors import RuntimeUnreachable
from tests.support.colab import Colab
from tests.support.colab_user import CLIENT_SECRET, ColabHouse, files_with
from tests.support.vscode import Window
from tests.support.waiting import wait_until
from tests.support.web import through_socks
from tests.support.wsl import WINDOWS_PROFILE, FakeWindows, make_windows

IDLE_S = 30 * 60


class Arguments:
    """The command lines of all processes, looked at again and again while something runs."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Arguments:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def with_(self, text: str) -> list[bytes]:
        return [line for line in self._seen if text.encode() in line]

    def _look(self) -> None:
        while not self._stopping.wait(0.2):
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                try:
                    self._seen.add(Path(f"/proc/{pid}/cmdline").read_bytes())
                except OSError:
                    continue


def runtime(colab: Colab) -> dict[str, Any]:
    (found,) = colab.describe()["runtimes"]
    assert isinstance(found, dict)
    return found


def ssh(house: ColabHouse, *words: str, program: str = "ssh") -> subprocess.Popen[str]:
    """The system's own program, by our host entry."""
    return start(house, program, "-F", str(config(house)), *words)


def config(house: ColabHouse) -> Path:
    return house.ssh_files.config_file


def start(house: ColabHouse, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        env=house.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_runtime_from_nothing_to_its_release(
    house: ColabHouse, colab: Colab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    windows = make_windows(tmp_path_factory.mktemp("windows"))
    house.environment = windows.environment(house.environment)
    house.log_in()
    colab.account(consented=False)
    colab.fault("assign_status", 503, times=1)  # No L4 is free.
    colab.fault("ambiguous_assign", True, times=1)  # And of the T4 nobody hears.
    (house.project / "train.py").write_text(
        "import os\nopen('made.txt', 'w').write('made there')\nprint(os.environ['LD_LIBRARY_PATH'])\n"
    )
    with Arguments() as arguments:
        connected = house.colabdev("connect", "--gpu", "l4,T4", timeout_s=120)
        assert connected.returncode == 0, connected.stderr
        assert "asking Colab for L4 (about 1.54 compute units an hour), else T4" in connected.stderr
        assert "Colab has no L4 free now" in connected.stderr
        assert "say yes in the browser" in connected.stderr
        assert colab.counters()["runtime made"] == 1

        record = house.record("colab")
        assert record.machine is not None
        assert record.machine.drive_dir == "/content/drive/MyDrive"
        assert record.machine.accelerator == "Tesla T4"

        check_ssh_sessions_side_by_side(house, colab)
        check_windows_ssh(house, windows)
        check_job_and_edits(house)
        check_kept_alive(house, colab)

        seen = house.colabdev("--verbose", "doctor", "--bundle", house.root / "report.zip")
        secrets = secrets_used(house, colab)
        check_no_secret_is_on_the_runtime(house, secrets)
        released = house.colabdev("--verbose", "down", timeout_s=120)
        assert released.returncode == 0, released.stderr
    house.assert_nothing_is_billed()
    assert colab.describe()["ended"] == {record.machine.ssh.tunnel.endpoint: "unassigned"}  # type: ignore[union-attr]
    assert colab.counters()["drive flushed"] == 1
    assert any(file["name"].endswith(".zip") for file in colab.drive())
    said = [one.stdout + one.stderr for one in (connected, seen, released)]
    check_no_secret_got_out(house, secrets, arguments, said)


def check_ssh_sessions_side_by_side(house: ColabHouse, colab: Colab) -> None:
    """Colab admits one connection; ours lets everybody else in."""
    show = "sleep 1; cat /var/colab/hostname; nvidia-smi -L; echo $LD_LIBRARY_PATH"
    sessions = [ssh(house, "colab", show) for _ in range(3)]
    script = str(house.project / "train.py")
    copies = [
        ssh(house, script, "colab:/tmp/by-scp", program="scp"),
        start(house, "rsync", "-e", f"ssh -F {config(house)}", script, "colab:/tmp/by-rsync"),
    ]
    with Window(house, "colab", config(house)) as window:
        assert window.said == ["installed", "start: served :end"]
        machine = house.record("colab").machine
        assert machine is not None
        greeting = through_socks(window.port, machine.ssh.port, b"nobody\r\n")
        assert greeting.startswith(b"SSH-2.0-"), "what VS Code forwards goes through it, too"
    for session in sessions:
        said, complained = session.communicate(timeout=60)
        assert (session.returncode, complained) == (0, "")
        assert said.splitlines() == [
            runtime(colab)["endpoint"],
            "GPU 0: Tesla T4 (UUID: GPU-00000000-0000-0000-0000-000000000000)",
            "/usr/lib64-nvidia",
        ]
    for copying in copies:
        _, complained = copying.communicate(timeout=60)
        assert copying.returncode == 0, complained
    compared = ssh(house, "colab", "cmp /tmp/by-scp /tmp/by-rsync && cat /tmp/by-scp")
    assert compared.communicate(timeout=60)[0] == (house.project / "train.py").read_text()
    assert colab.counters()["ssh opened"] == 1
    cut = ssh(house, "colab", "sleep 100")
    wait_until(lambda: b"proxy" in children_arguments(cut.pid), message="no ProxyCommand")
    cut.send_signal(signal.SIGTERM)
    _, complained = cut.communicate(timeout=30)
    assert "bug" not in complained


def check_windows_ssh(house: ColabHouse, windows: FakeWindows) -> None:
    """As ssh.exe would, once its names of the files are those of here."""
    entry = (windows.ssh / "colabdev" / "config").read_text()
    assert "  ProxyCommand wsl.exe -d Debian-12 -u " in entry
    translated = windows.profile / "translated"
    translated.write_text(entry.replace(WINDOWS_PROFILE.replace("\\", "/"), str(windows.profile)))
    session = start(house, "ssh", "-F", str(translated), "colab", "cat /var/colab/hostname")
    said, complained = session.communicate(timeout=60)
    assert said.strip() == runtime(house.colab)["endpoint"], complained


def children_arguments(pid: int) -> bytes:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return b" ".join(Path(f"/proc/{child}/cmdline").read_bytes() for child in children)


def check_job_and_edits(house: ColabHouse) -> None:
    ran = house.colabdev("run", "train.py")
    assert (ran.returncode, ran.stdout) == (0, "/usr/lib64-nvidia\n"), ran.stderr
    assert house.colabdev("sync").returncode == 0
    assert (house.project / "made.txt").read_text() == "made there"


def check_kept_alive(house: ColabHouse, colab: Colab) -> None:
    """By a websocket, which is opened again when it breaks, with new tokens."""
    endpoint = runtime(colab)["endpoint"]

    def is_held() -> bool:
        return bool(runtime(colab)["kernel_websockets"])

    def opened() -> int:
        return colab.counters()["kernel websocket opened"]

    wait_until(is_held, message="nobody holds the kernel")
    colab.advance(IDLE_S)
    before = opened()
    colab.do("expire_tokens", endpoint)
    assert colab.do("drop_websockets", endpoint)["dropped"] == 1
    wait_until(lambda: opened() > before, message="it was not opened again")
    wait_until(is_held, message="nobody holds the kernel any more")
    colab.advance(IDLE_S)
    os.kill(house.keeper_pid("colab"), signal.SIGKILL)
    colab.do("expire_tokens", endpoint)
    (again,) = house.status()
    assert again["state"] == "ready"
    assert runtime(colab)["endpoint"] == endpoint


def secrets_used(house: ColabHouse, colab: Colab) -> dict[str, str]:
    """What nobody may read, by its value; each with the one file that may have it, or ""."""
    login = str(house.login_file.relative_to(house.root))
    key_file = house.ssh_files.private_key_file
    kept = json.loads(house.login_file.read_text())["secret"]
    secrets = {kept["refresh_token"]: login, CLIENT_SECRET: login}
    secrets[key_file.read_text().splitlines()[2]] = str(key_file.relative_to(house.root))
    for request in colab.requests():
        headers = request["headers"]
        for name in ("authorization", "x-colab-runtime-proxy-token", "x-goog-colab-token"):
            if token := headers.get(name, "").removeprefix("Bearer "):
                secrets[token] = ""
    assert len(secrets) > 8, "they were used"
    (house.root / "client.json").unlink()
    return secrets


def check_no_secret_is_on_the_runtime(house: ColabHouse, secrets: dict[str, str]) -> None:
    looking = "cd / && grep -rlFf - root content opt/colabdev tmp var/log run/colab etc/ssh"
    found = subprocess.run(
        ["ssh", "-F", config(house), "colab", looking],
        env=house.environment,
        input="\n".join(secrets),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stdout) == (1, ""), found.stderr


def check_no_secret_got_out(
    house: ColabHouse, secrets: dict[str, str], arguments: Arguments, said: list[str]
) -> None:
    """Not in any file or log, not in a report, not in what was printed, and on neither end in any
    command line: the processes of the runtime are among those of this computer."""
    with zipfile.ZipFile(house.root / "report.zip") as report:
        said.extend(report.read(name).decode() for name in report.namelist())
    for secret, place in secrets.items():
        assert files_with(secret, house.root) == ([place] if place else []), secret
        assert arguments.with_(secret) == []
        assert not any(secret in text for text in said), secret
    assert arguments.with_("/opt/colabdev"), "the runtime's command lines were looked at"


def test_lost_runtime_is_said_to_be_lost(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    record = house.connect_colab()
    first = runtime(colab)["endpoint"]
    colab.fault("backend_status", 500)
    colab.do("drop_websockets", first)
    assert [one["state"] for one in house.status()] == ["ready"]
    colab.fault("backend_status", None)
    check_answer_that_tells_nothing(house, colab, first)
    colab.do("reclaim", first)
    wait_until(
        lambda: [one["state"] for one in house.status()] == ["lost"],
        timeout_s=30,
        message="it is not taken for lost",
    )
    assert house.colabdev("down").returncode == 0
    house.assert_nothing_is_billed()
    assert record.machine is not None


def check_answer_that_tells_nothing(house: ColabHouse, colab: Colab, endpoint: str) -> None:
    """It does not say either that the runtime is gone."""
    provider = house.colab_provider()
    in_a_new_form = json.dumps({"assignments": [{"endpoint": endpoint}]})
    for body in ("", in_a_new_form, json.dumps({"assignments": "none"})):
        colab.fault("list_gives", body)
        with pytest.raises(RuntimeUnreachable, match="cannot make sense of what Colab answers"):
            provider.find("colab")
    colab.fault("list_gives", None)
    assert provider.find("colab")


def test_runtime_is_given_back_at_the_end_of_its_ttl(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    (house.project / "colabdev.toml").write_text('[runtime]\nprovider = "colab"\nttl = "1s"\n')
    house.connect_colab()
    wait_until(lambda: not house.store.names(), timeout_s=60, message="nobody gives it back")
    assert list(colab.describe()["ended"].values()) == ["unassigned"]
    assert colab.counters()["drive flushed"] == 1
    house.assert_nothing_is_billed()
