"""Colab's runtimes by other tunnels than Colab's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.colab.test_life import Arguments
from tests.support.colab_user import ColabHouse
from tests.support.ngrok_edge import TOKEN, NgrokEdge

# What the kernel of a stand-in's machine sees of launch_ssh's traces.
TRACES = (
    "grep ^root: /etc/shadow | cut -d: -f2; md5sum /etc/ssh/sshd_config /etc/environment; "
    "ls /opt/colabdev; pgrep -fa 'sshd -[D]|place[h]older'; true"
)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[NgrokEdge]:
    with NgrokEdge(tmp_path) as edge:
        yield edge


def there(house: ColabHouse, script: str) -> str:
    done = house.colabdev("ssh", "colab", "--", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_classic_launch_ssh_opens_an_endpoint_and_leaves_nothing(
    house: ColabHouse, edge: NgrokEdge
) -> None:
    house.log_in_by_gcloud()
    house.environment |= {**edge.variables, "NGROK_AUTHTOKEN": TOKEN}
    house.connect_colab("--tunnel", "colab")
    before = there(house, TRACES)
    with Arguments() as arguments:
        done = house.colabdev("connect", "colab", "--tunnel", "colab-ssh", timeout_s=180)
        assert done.returncode == 0, done.stderr
        assert "colab-ssh, because you asked for it; Google's terms" in done.stdout
        by_tunnel = house.record("colab").ssh
        assert by_tunnel is not None
        assert by_tunnel.tunnel is None
        assert there(house, "cat /var/colab/hostname").startswith("gpu-t4")
    assert there(house, TRACES).replace("launch.lock\n", "") == before
    assert arguments.with_(TOKEN) == []
    assert arguments.with_("--authtoken") != []
    assert not [line for line in arguments.with_("--authtoken") if b"placeholder" not in line]
    assert house.colabdev("down", timeout_s=120).returncode == 0
    house.assert_nothing_is_billed()
