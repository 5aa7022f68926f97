"""A runtime of Colab's by ngrok, as the user who configured a token gets it: the host entry is ngrok's
address, and Colab's own way stays beside it for what brings a new one."""

from __future__ import annotations

import os
import signal

import pytest

from colabdev.models import RuntimeRecord
from tests.colab.test_life import runtime, ssh
from tests.support.colab import Colab
from tests.support.colab_continuing import LIMITED, reclaim, wait_for_attempt
from tests.support.colab_user import ColabHouse
from tests.support.ngrok_edge import TOKEN, NgrokEdge
from tests.support.recovering import settle, train
from tests.support.vscode import wait_for_entry
from tests.support.waiting import wait_until


def test_token_makes_ngrok_the_way_to_a_runtime(house: ColabHouse) -> None:
    house.log_in()
    with NgrokEdge(house.root) as edge:
        house.environment |= edge.variables | {"NGROK_AUTHTOKEN": TOKEN}
        connected = house.colabdev("connect", timeout_s=150)
        assert connected.returncode == 0, connected.stderr
        assert (
            "tunnel     ngrok, because an ngrok token is configured; Google's terms allow SSH only "
            "with a positive balance" in connected.stdout
        )
        record = house.record("colab")
        assert record.tunnel is not None
        assert record.tunnel.endpoint is not None
        wait_for_entry(house, record.tunnel.endpoint.port)
        clients = edge.clients
        with ssh(house, "colab", "cat /etc/hostname") as shell:
            assert shell.stdout is not None
            assert shell.stdout.read().strip()
        assert edge.clients == clients + 1
        # Without a connection by Colab's way nobody would hear of another address.
        edge.keeps_address = False
        edge.cut_all()
        wait_until(
            lambda: _port(house.record("colab")) != record.tunnel.endpoint.port,  # type: ignore[union-attr]
            timeout_s=30,
            message="another address",
        )
        wait_for_entry(house, _port(house.record("colab")))
        released = house.colabdev("down", timeout_s=120)
        assert released.returncode == 0, released.stderr
    house.assert_nothing_is_billed()


@pytest.mark.long
def test_job_left_alone_by_ngrok_ends_its_runtime(house: ColabHouse, colab: Colab) -> None:
    """The machine gives itself back, however it was reached."""
    house.log_in()
    with NgrokEdge(house.root) as edge:
        house.environment |= edge.variables | {"NGROK_AUTHTOKEN": TOKEN}
        run = ("run", "--provider", "colab", "--yes", "--detach", "--down")
        started = house.colabdev(*run, "sleep", "2", timeout_s=150)
        assert started.returncode == 0, started.stderr
        assert house.record("colab").tunnel is not None
        os.kill(house.keeper_pid("colab"), signal.SIGKILL)
        wait_until(
            lambda: list(colab.describe()["ended"].values()) == ["unassigned from within"],
            timeout_s=60,
            message="it does not end itself",
        )
        assert house.colabdev("down", timeout_s=60).returncode == 0
    house.assert_nothing_is_billed()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_job_goes_on_on_the_next_runtime_by_ngrok(house: ColabHouse, colab: Colab) -> None:
    """That is reached as the one before, by the same keeper, and the host entry leads to it."""
    house.log_in()
    settle(house, LIMITED)
    with NgrokEdge(house.root) as edge:
        house.environment |= edge.variables | {"NGROK_AUTHTOKEN": TOKEN}
        connected = house.colabdev("connect", timeout_s=150)
        assert connected.returncode == 0, connected.stderr
        job, keeper = train(house, "--yes"), house.keeper_pid("colab")
        reclaim(colab)
        assert wait_for_attempt(house, job, 2) > 0
        assert house.keeper_pid("colab") == keeper
        assert house.record("colab").tunnel is not None
        wait_for_entry(house, _port(house.record("colab")))
        with ssh(house, "colab", "cat /var/colab/hostname") as shell:
            assert shell.stdout is not None
            assert shell.stdout.read().strip() == runtime(colab)["endpoint"]
        released = house.colabdev("down", "--force", timeout_s=120)
        assert released.returncode == 0, released.stderr
    house.assert_nothing_is_billed()


def _port(record: RuntimeRecord) -> int:
    assert record.tunnel is not None
    assert record.tunnel.endpoint is not None
    return record.tunnel.endpoint.port
