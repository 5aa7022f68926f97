"""A host of the user's own as a runtime, from `connect` to `down`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ssh.conftest import PYTHON
from tests.support.house import House, is_running
from tests.support.jobs import Running
from tests.support.keys import Keypair, make_keypair
from tests.support.own_hosts import UserSsh, ssh_agent
from tests.support.relay import Relay
from tests.support.sshd import Sshd
from tests.support.waiting import wait_until

SHELLS = [shell for shell in ("sh", "bash", "zsh", "fish", "tcsh") if shutil.which(shell)]

CONNECT = ["connect", "box", "--provider", "ssh", "--host", "gpu"]


def connect(house: House, *arguments: str) -> None:
    done = house.colabdev(*(arguments or CONNECT))
    assert done.returncode == 0, done.stderr


def shell(house: House, command: str, name: str = "box") -> str:
    """What the system's ssh brings back, reading all of the user's configuration."""
    argv = ["ssh", "-F", str(house.places.ssh_config), name, command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_host_is_a_runtime_like_any_other(
    house: House, user: UserSsh, key: Keypair, host: Sshd, remote_home: Path
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    done = house.colabdev(*CONNECT)
    assert done.returncode == 0, done.stderr
    assert "direct, because this computer reaches it by itself" in done.stdout
    workdir = remote_home / "colabdev" / "project"
    assert house.record("box").workdir == str(workdir)
    assert shell(house, "echo $HOME") == f"{remote_home}\n"
    (house.project / "train.py").write_text("print('trained'); raise SystemExit(7)")
    synced = house.colabdev("sync", "--json")
    assert json.loads(synced.stdout)["sent"]["files"] == 1
    assert (workdir / "train.py").exists()
    ran = house.colabdev("run", "train.py")
    assert (ran.stdout, ran.returncode) == ("trained\n", 7)
    down = house.colabdev("down", "--dry-run")
    assert down.stdout == f"would release box: your files stay on gpu, in {remote_home}/colabdev\n"
    down = house.colabdev("down")
    assert (down.returncode, down.stdout) == (
        0,
        f"box is released; your files stay on gpu, in {remote_home}/colabdev\n",
    )
    assert (workdir / "train.py").exists()
    assert house.colabdev("logs").stdout == "trained\n"
    assert house.store.names() == []
    assert "Host box" not in house.ssh_files.config_file.read_text()
    # What was synced before is recognised: the same files are not sent again.
    connect(house)
    assert json.loads(house.colabdev("sync", "--json").stdout)["sent"]["files"] == 0


def test_killed_keeper_is_healed_and_a_cut_path_comes_back(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    with Relay(host.address.host, host.address.port) as relay:
        address = replace(host.address, port=relay.port)
        user.add_host("gpu", address, key=key)
        user.know(address)
        connect(house)
        relay.refuse()
        relay.cut()
        wait_until(
            lambda: house.status()[0]["state"] == "unreachable",
            timeout_s=40,
            message="the cut is noticed",
        )
        # A host of one's own is not lost because it does not answer.
        assert house.store.names() == ["box"]
        relay.accept()
        wait_until(
            lambda: house.status()[0]["state"] == "ready", timeout_s=40, message="it is back"
        )
        house.end_keeper("box")
        assert house.status()[0]["state"] == "ready"


def test_log_goes_on_after_a_cut(house: House, user: UserSsh, key: Keypair, host: Sshd) -> None:
    with Relay(host.address.host, host.address.port) as relay:
        address = replace(host.address, port=relay.port)
        user.add_host("gpu", address, key=key)
        user.know(address)
        connect(house)
        loop = "for i in 1 2 3; do echo $i; sleep 0.3; done; while [ ! -e go ]; do sleep 0.1; done"
        with Running(house, "run", "sh", "-c", f"{loop}; echo end") as running:
            assert running.read(2) == b"1\n"
            assert relay.cut() >= 1
            Path(house.record("box").workdir or "", "go").touch()
            assert running.finish()[:2] == (0, b"2\n3\nend\n")


def test_agent_opens_the_host_and_its_end_is_told(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    user.add_host("gpu", host.address)
    user.know(host.address)
    with ssh_agent(key.private) as agent:
        done = house.colabdev(*CONNECT, env={"SSH_AUTH_SOCK": agent})
        assert done.returncode == 0, done.stderr
        argv = [*house.ssh_files.command("box", []), "echo in"]
        environment = {**os.environ, "SSH_AUTH_SOCK": agent}
        shown = subprocess.run(argv, env=environment, capture_output=True, timeout=20, check=True)
        assert shown.stdout == b"in\n"
    house.end_keeper("box")
    done = house.colabdev("sync", env={"SSH_AUTH_SOCK": agent})
    assert done.returncode == 10
    assert f"the agent at {agent} does not answer" in done.stderr
    with ssh_agent(key.private) as another:
        # The keeper still knows only the agent that has gone.
        assert house.colabdev("connect", env={"SSH_AUTH_SOCK": another}).returncode == 0
        assert house.colabdev("sync").returncode == 0


def test_jump_host_is_passed_by_the_users_ssh(
    house: House, user: UserSsh, key: Keypair, host: Sshd, remote_home: Path
) -> None:
    with Sshd(key.public) as jump:
        user.add_host("jump", jump.address, key=key)
        user.add_host("gpu", host.address, "ProxyJump jump", key=key)
        user.know(host.address)
        done = house.colabdev(*CONNECT)
        assert (done.returncode, house.store.names()) == (12, []), done.stderr
        assert "Host key verification failed" in done.stderr
        assert "Traceback" not in done.stderr
        user.know(jump.address)
        connect(house)
        assert shell(house, "echo $HOME") == f"{remote_home}\n"
        assert jump.log.count("Accepted publickey") >= 3
        (house.project / "a.py").write_text("print('in')")
        assert house.colabdev("run", "a.py").stdout == "in\n"
        ways = jump_processes(house)
        assert ways
        assert house.colabdev("down").returncode == 0
        wait_until(
            lambda: not any(map(is_running, ways)), timeout_s=20, message="the way there ends"
        )


def test_proxy_that_fails_is_not_started_in_a_rush(
    house: House, user: UserSsh, key: Keypair, host: Sshd, tmp_path: Path
) -> None:
    tries, broken = tmp_path / "tries", tmp_path / "broken"
    place = f"{host.address.host}', {host.address.port}"
    carry = tmp_path / "carry.py"
    carry.write_text(CARRY.format(tries=str(tries), broken=str(broken), place=place))
    user.add_host("gpu", host.address, f"ProxyCommand {sys.executable} {carry}", key=key)
    user.know(host.address)
    connect(house)
    before = tries.read_text().split()
    broken.touch()
    begun = time.monotonic()
    os.kill(int(before[-1]), signal.SIGKILL)
    wait_until(
        lambda: len(tries.read_text().split()) >= len(before) + 3,
        timeout_s=40,
        message="it tries again",
    )
    # 0.05 s doubling, as where a try costs nothing, would have come to it within 0.4 s.
    assert time.monotonic() - begun > 0.6
    status = house.colabdev("status")
    assert "the way is blocked" in status.stderr
    broken.unlink()
    connect(house, "connect")


CARRY = """
import os, select, socket, sys
open({tries!r}, "a").write(str(os.getpid()) + " ")
if os.path.exists({broken!r}):
    sys.exit("the way is blocked")
way = socket.create_connection(('{place}))
while True:
    for ready in select.select([0, way], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else way.recv(65536)
        if not data:
            sys.exit()
        way.sendall(data) if ready == 0 else os.write(1, data)
"""


def test_keeper_that_was_killed_leaves_no_jump(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    with Sshd(key.public) as jump:
        user.add_host("jump", jump.address, key=key)
        user.add_host("gpu", host.address, "ProxyJump jump", key=key)
        user.know(host.address)
        user.know(jump.address)
        connect(house)
        ways = jump_processes(house)
        assert ways
        house.end_keeper("box")
        wait_until(
            lambda: not any(map(is_running, ways)), timeout_s=20, message="the way there ends"
        )


def jump_processes(house: House) -> list[int]:
    """The processes by which this house's keepers pass a jump host."""
    config = os.fsencode(house.places.ssh_config)
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-W" in words and config in words:
            found.append(int(directory.name))
    return found


def test_runtime_of_ours_may_be_the_host_and_the_jump(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    house.connect("near")
    connect(house, "connect", "again", "--provider", "ssh", "--host", "near")
    assert shell(house, "echo $COLABDEV_RUNTIME", "again") == "near\n"
    user.add_host("gpu", host.address, "ProxyJump again", key=key)
    user.know(host.address)
    connect(house)
    assert shell(house, "echo in") == "in\n"
    assert [runtime["state"] for runtime in house.status()] == ["ready"] * 3
    assert house.colabdev("down", "--all").returncode == 0


def test_noisy_shell_with_few_sessions_is_good_enough(
    house: House, user: UserSsh, key: Keypair, remote_home: Path
) -> None:
    shell_line = (
        "ForceCommand printf 'Welcome! colabdev-agent? \\nno newline'; echo noise >&2; "
        'exec sh -c "$SSH_ORIGINAL_COMMAND"'
    )
    config = ["MaxSessions 2", shell_line]
    with Sshd(key.public, home=remote_home, python=PYTHON, config=config) as host:
        user.add_host("gpu", host.address, key=key)
        user.know(host.address)
        connect(house)
        (house.project / "a.py").write_text("print('in')")
        for _ in range(3):
            done = house.colabdev("run", "a.py")
            assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


@pytest.mark.parametrize("program", SHELLS)
def test_login_shell_may_be_any(
    house: House, user: UserSsh, key: Keypair, remote_home: Path, program: str
) -> None:
    config = [f'ForceCommand exec {program} -c "$SSH_ORIGINAL_COMMAND"']
    with Sshd(key.public, home=remote_home, python=PYTHON, config=config) as host:
        user.add_host("gpu", host.address, key=key)
        user.know(host.address)
        connect(house)
        (house.project / "it's.py").write_text("print('in')")
        assert house.colabdev("run", "it's.py").stdout == "in\n"


def test_host_without_python_is_told(house: House, user: UserSsh, key: Keypair) -> None:
    with Sshd(key.public, config=['ForceCommand echo "no logins today" >&2; exit 1']) as host:
        user.add_host("gpu", host.address, key=key)
        user.know(host.address)
        done = house.colabdev(*CONNECT)
    assert done.returncode == 1
    assert "cannot start python3 on the host: no logins today" in done.stderr
    assert house.store.names() == []


def test_down_without_the_host_forgets_it_and_names_the_jobs(
    house: House, user: UserSsh, key: Keypair, remote_home: Path
) -> None:
    with Sshd(key.public, home=remote_home, python=PYTHON) as host:
        user.add_host("gpu", host.address, key=key)
        user.know(host.address)
        connect(house)
        job = house.colabdev("run", "--detach", "sleep", "60").stdout.strip()
        pids = json.loads((remote_home / ".colabdev" / "jobs" / job / "pid").read_text())
    try:
        done = house.colabdev("down")
        assert done.returncode == 3
        assert f"may run on there, because nobody could be asked to end them: {job}" in done.stderr
        assert house.store.names() == []
        assert not list(house.places.hosts_dir.glob("*"))
    finally:
        os.kill(pids["command"]["pid"], signal.SIGKILL)


def test_jobs_of_another_computer_are_listed_and_followed_but_not_ended_by_down(
    house: House, user: UserSsh, key: Keypair, host: Sshd, tmp_path: Path
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    connect(house)
    with House(tmp_path / "other") as other:
        others = UserSsh(other)
        others.add_host("gpu", host.address, key=key)
        others.know(host.address)
        connect(other)
        started = other.colabdev("run", "--detach", "sh", "-c", "echo there; exec sleep 60")
        job = started.stdout.strip()
        [seen] = json.loads(house.colabdev("ps", "--json").stdout)["jobs"]
        assert (seen["id"], seen["state"]) == (job, "running")
        assert house.colabdev("logs", job).stdout == "there\n"
        assert house.colabdev("down").returncode == 0
        [listed] = json.loads(other.colabdev("ps", "--json").stdout)["jobs"]
        assert (listed["id"], listed["state"]) == (job, "running")
        assert other.colabdev("down").returncode == 0
        [listed] = json.loads(other.colabdev("ps", "--json").stdout)["jobs"]
        assert listed["state"] == "stopped"


def test_connect_again_resolves_anew(
    house: House, user: UserSsh, key: Keypair, host: Sshd, tmp_path: Path
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    connect(house)
    before = house.record("box")
    connect(house, "connect", "box")
    assert house.record("box") == replace(
        before, projects=house.record("box").projects, keeper=house.record("box").keeper
    )
    home = tmp_path / "moved"
    home.mkdir()
    with Sshd(key.public, home=home, python=PYTHON) as moved:
        user.config.write_text("")
        user.add_host("gpu", moved.address, key=key)
        done = house.colabdev("connect", "box")
        assert done.returncode == 13
        assert "not in your known_hosts" in done.stderr
        user.know(moved.address)
        connect(house, "connect", "box")
        # The keeper that was connected to the old one has gone.
        (house.project / "a.py").write_text("print('in')")
        assert house.colabdev("run", "a.py").returncode == 0
        assert (home / "colabdev" / "project" / "a.py").exists()
        assert shell(house, "echo $HOME") == f"{home}\n"


def test_other_host_under_a_name_that_is_up_is_refused(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    connect(house)
    done = house.colabdev("connect", "box", "--provider", "ssh", "--host", "cpu")
    assert done.returncode == 2
    assert "'box' is the host 'gpu' already, and not 'cpu'" in done.stderr
    done = house.colabdev("connect", "box", "--provider", "local")
    assert (done.returncode, "provider 'ssh'" in done.stderr) == (2, True)


def test_settings_name_the_host(house: House, user: UserSsh, key: Keypair, host: Sshd) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    settings = house.project / "colabdev.toml"
    settings.write_text('[runtime]\nprovider = "ssh"\nhost = "gpu"\n')
    connect(house, "connect")
    assert house.record("ssh").host == "gpu"
    connect(house, "connect", "--provider", "ssh")
    connect(house, "connect", "ssh", "--host", "gpu")
    settings.write_text('[runtime]\nprovider = "ssh"\nhost = "cpu"\n')
    done = house.colabdev("connect")
    assert (done.returncode, "not 'cpu'" in done.stderr) == (2, True), done.stderr
    connect(house, "connect", "ssh")


def test_name_of_the_users_own_host_is_refused(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.add_host("box", host.address, key=key)
    done = house.colabdev(*CONNECT)
    assert done.returncode == 2
    assert "--provider ssh --host gpu" in done.stderr


def test_unreadable_record_is_rebuilt_with_its_host(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    connect(house)
    before = house.record("box")
    (house.places.state_dir / "runtimes" / "box.json").write_text("{")
    assert house.colabdev("doctor", "--repair", "box").returncode == 0
    after = house.record("box")
    assert (after.host, after.request_id, after.machine) == (
        "gpu",
        before.request_id,
        replace(before.machine, accelerator=None) if before.machine else None,
    )
    connect(house, "connect", "box")
    assert house.colabdev("down", "box").returncode == 0


def test_unreadable_note_of_the_host_is_told_and_down_removes_it(
    house: House, user: UserSsh, key: Keypair, host: Sshd
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    connect(house)
    (house.places.hosts_dir / "box.json").write_text("[]")
    host.stop()
    wait_until(
        lambda: house.status()[0]["state"] == "unreachable",
        timeout_s=40,
        message="its end is noticed",
    )
    done = house.colabdev("connect", "box")
    assert done.returncode == 1
    assert "next: colabdev down box" in done.stderr
    assert house.colabdev("down", "box").returncode == 0
    assert house.store.names() == []


def test_users_files_are_not_touched(house: House, user: UserSsh, key: Keypair, host: Sshd) -> None:
    stranger = make_keypair(house.home, "stranger")
    user.add_host("gpu", host.address, f'IdentityFile "{stranger.private}"', key=key)
    user.know(host.address)
    config, known = user.config.read_text(), user.known_hosts.read_text()
    connect(house)
    assert user.config.read_text().endswith(config)
    assert user.known_hosts.read_text() == known
    assert house.colabdev("down").returncode == 0
    assert user.known_hosts.read_text() == known
