"""Who else is on a runtime by SSH, as the agent sees it below OpenSSH's own sshd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from tests.support.house import House
from tests.support.keys import Keypair
from tests.support.own_hosts import UserSsh
from tests.support.sshd import Sshd

CONNECT = ["connect", "box", "--provider", "ssh", "--host", "gpu"]


def wait_for(frames: Iterator[tuple[Mapping[str, object], bytes]], others: bool) -> None:
    """The next word that says so; how long that may take is the test's own timeout."""
    assert any(frame["others"] is others for frame, _ in frames)


def test_a_session_counts_while_it_lasts_and_a_daemon_never(
    house: House, user: UserSsh, key: Keypair, host: Sshd, remote_home: Path
) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    done = house.colabdev(*CONNECT)
    assert done.returncode == 0, done.stderr
    command = ["ssh", "-F", str(house.places.ssh_config), "box"]
    # Its connection ends, its environment stays.
    daemon = "setsid sh -c 'echo $$; exec sleep 100' < /dev/null 2> /dev/null & sleep 0.1"
    with closing(house.keeper("box").agent()) as agent:
        frames = agent.stream("sessions.follow", {"grace_s": 0})
        assert next(frames)[0] == {"others": False}
        with subprocess.Popen(
            [*command, daemon, ";", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as shell:
            assert shell.stdin is not None
            assert shell.stdout is not None
            pid = int(shell.stdout.readline())
            wait_for(frames, True)
            shell.stdin.close()
            shell.kill()
        wait_for(frames, False)
        assert (Path("/proc") / str(pid)).exists()
        subprocess.run(["kill", str(pid)], check=True)
