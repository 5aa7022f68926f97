"""Carrying checkpoints off a runtime: what is taken, how far it gets, and what nothing may spoil."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.adapters.agent_archive import AgentArchive, build_agent
from tests.support.carrying import Carried
from tests.support.pythons import find_pythons
from tests.support.waiting import wait_until

PYTHONS = {version: path for version, path in find_pythons().items() if version == "3.8"}
PYTHONS["ours"] = Path(sys.executable)


@pytest.fixture(scope="module")
def archive() -> AgentArchive:
    return build_agent()


@pytest.fixture
def carried(tmp_path: Path, archive: AgentArchive) -> Iterator[Carried]:
    place = Carried(tmp_path, archive)
    yield place
    place.close()


@pytest.fixture(params=list(PYTHONS))
def versioned(
    request: pytest.FixtureRequest, tmp_path: Path, archive: AgentArchive
) -> Iterator[Carried]:
    place = Carried(tmp_path, archive, PYTHONS[request.param])
    yield place
    place.close()


def test_what_has_a_manifest_goes_up_all_levels(versioned: Carried) -> None:
    place = versioned
    place.start()
    files = place.save(10)
    place.wait_for("1-10", "confirmed")
    told = place.standing()
    assert (told["is_safe"], told["at_risk_steps"], told["problems"]) == (True, 0, {})
    stored = place.stored / "checkpoints" / "1-10"
    assert {name: (stored / name).read_bytes() for name in files} == files
    events = [row.get("level") or row["event"] for row in place.events()]
    levels = ["accepted", "committed", "published", "confirmed"]
    assert events[:6] == ["found", "sending", *levels]
    wait_until((place.stored / "confirmed" / "1-10.json").exists, message="no record")
    assert (place.stored / "run.json").exists()
    assert (place.stored / "attempts" / "1.json").exists()
