"""What the keeper does before a runtime ends: its jobs save, and that is safe then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from colabdev.adapters.agent_archive import build_agent
from colabdev.adapters.store import FileStore
from colabdev.models import ColabTunnel, RuntimeRecord
from colabdev.ports import AgentStream
from colabdev.services.foresight import Foresight
from tests.agent.test_asking import train
from tests.support.carrying import Carried
from tests.support.records import make_record

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
SOON, MUCH_LATER = NOW + timedelta(seconds=100), NOW + timedelta(hours=8)


def rented(ends: datetime) -> RuntimeRecord:
    """A runtime that its provider takes then."""
    record = make_record("colab", provider="colab")
    assert record.machine is not None
    ssh = replace(record.machine.ssh, login=None, tunnel=ColabTunnel("gpu-t4", (), ends))
    return replace(record, machine=replace(record.machine, ssh=ssh))


class Keeper:
    """Looks ahead at a machine of this computer, by a clock that a test sets."""

    def __init__(self, root: Path, carried: Carried) -> None:
        self.store = FileStore(root / "state")
        self.carried = carried
        self.clock = NOW
        self.funds: datetime | None = None
        self.is_unpaid = False
        self.opened = 0
        self.foresight = Foresight(
            name="colab",
            runtimes=self.store,
            open_agent=self._open,
            funds_end=lambda: self.funds,
            is_unpaid=lambda: self.is_unpaid,
            now=lambda: self.clock,
        )

    def _open(self) -> AgentStream:
        self.opened += 1
        return self.carried.talk().stream_port()

    def look(self) -> set[str]:
        """One look; the checkpoints that are there then."""
        self.foresight.look()
        return {path.name for path in self.carried.checkpoints.iterdir()}


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    carried = Carried(tmp_path, build_agent(), Path(sys.executable))
    yield Keeper(tmp_path, carried)
    carried.close()


def test_jobs_save_once_before_the_end_and_again_when_that_is_put_off(keeper: Keeper) -> None:
    train(keeper.carried, "USR1", "exec python3 train.py")
    keeper.store.save(rented(MUCH_LATER))
    assert (keeper.look(), keeper.opened) == (set(), 0)
    keeper.store.save(rented(SOON))
    assert keeper.look() == {"step-20.pt"}
    assert keeper.foresight.notice == ""
    assert keeper.carried.standing()["safe"]["step"] == 20
    assert keeper.look() == {"step-20.pt"}
    assert keeper.opened == 1
    (keeper.carried.directory / "checkpoints" / "asked.json").unlink()  # As if a minute had passed.
    keeper.store.save(rented(MUCH_LATER))
    keeper.clock = MUCH_LATER - timedelta(seconds=100)
    assert keeper.look() == {"step-20.pt", "step-30.pt"}
    assert not keeper.foresight.have_saved
    (keeper.carried.directory / "checkpoints" / "asked.json").unlink()
    keeper.is_unpaid = True
    assert keeper.look() == {"step-20.pt", "step-30.pt", "step-40.pt"}
    assert keeper.foresight.have_saved
    assert keeper.carried.standing()["safe"]["step"] == 40
    opened = keeper.opened
    keeper.look()
    assert keeper.opened == opened


def test_end_of_the_balance_is_one_and_what_cannot_be_asked_is_said(keeper: Keeper) -> None:
    train(keeper.carried, "USR1", "touch ready; exec sleep 1000")
    keeper.store.save(rented(MUCH_LATER))
    keeper.funds = SOON
    assert keeper.look() == set()
    assert keeper.foresight.notice == (
        f"{keeper.carried.job} did not save before its machine's end: "
        "no process of it catches SIGUSR1 yet"
    )
