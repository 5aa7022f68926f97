"""A host of the user's own as a runtime, from `connect` to `down`."""

from __future__ import annotations

from pathlib import Path

from tests.support.house import House
from tests.support.keys import Keypair
from tests.support.own_hosts import UserSsh
from tests.support.sshd import Sshd

CONNECT = ["connect", "box", "--provider", "ssh", "--host", "gpu"]


def test_flow(house: House, user: UserSsh, key: Keypair, host: Sshd, remote_home: Path) -> None:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    done = house.colabdev(*CONNECT)
    assert done.returncode == 0, done.stderr
    print(done.stdout, done.stderr)
    print(house.ssh_files.config_file.read_text())
    print(house.colabdev("ssh", "box", "--", "pwd; echo $HOME"))
    (house.project / "a.py").write_text("print('hello')")
    print(house.colabdev("run", "a.py"))
    print(house.colabdev("status"))
    print(house.colabdev("down"))
    assert 0
