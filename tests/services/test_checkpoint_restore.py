"""From what a job goes on: never from less than anybody knows as safe, unless somebody says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from colabdev.adapters.checkpoint_copies import FileCheckpointCopies
from colabdev.errors import BehindProved, ColabdevError
from colabdev.models.recovery import Resumed
from colabdev.services.checkpoint_lists import StoreChoice
from colabdev.services.checkpoint_restore import CheckpointRestorer, NewestWish, RestoredCheckpoint
from tests.support.odd_runtimes import Answer, OddRuntime
from tests.support.records import make_record

ROW = {
    **{"name": "1-20", "step": 20, "attempt": 1, "saved": 1.0, "level": "confirmed"},
    **{"store": "local", "path": "there", "size_bytes": 1, "sha256": "a" * 64, "levels": {}},
    **{"local": False, "since": 1.0, "unproven": False},
}
PLACE = {"store": "local", "drive_dir": "/drive", "project": "digits"}


@dataclass
class Store:
    """One that has a checkpoint of step 20, and tells of what was confirmed."""

    tmp_path: Path
    proved: list[int] | None = None
    row: Mapping[str, object] | None = field(default_factory=lambda: ROW)
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def answer(self, arguments: Mapping[str, Any]) -> Iterator[Answer]:
        self.asked.append(arguments)
        marks = [arguments["minimum"], self.proved if arguments["proved"] else None]
        least = max((mark for mark in marks if mark), default=None)
        is_behind = least is not None and (self.row is None or least > [1, 20])
        if is_behind and arguments["wait_s"]:
            yield {"waiting": least}, b""
            yield {"waiting": least}, b""
        problem = "behind" if is_behind else "" if self.row else "nothing"
        end: dict[str, object] = {"row": self.row, "path": "/x", "rejected": [], "problem": problem}
        yield {"end": True, "minimum": least, **end}, b""

    def newest(
        self, minimum: Resumed | None = None, *, accept_rollback: bool = False
    ) -> RestoredCheckpoint | None:
        runtime = OddRuntime()
        runtime.answers["checkpoint.restore"] = self.answer
        restorer = CheckpointRestorer(
            keepers=cast(Any, runtime),
            copies=FileCheckpointCopies(self.tmp_path),
            meter=lambda word, done, size: None,
            store=StoreChoice("local", ""),
        )
        wish = NewestWish(job="j", minimum=minimum, starts={}, accept_rollback=accept_rollback)
        return restorer.newest(make_record(), PLACE, wish, self.said.append)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_newest_is_taken_when_nobody_knows_of_a_newer_one(store: Store) -> None:
    for known in (None, Resumed(1, 20)):
        found = store.newest(known)
        assert found is not None
        assert found.checkpoint.step == 20
    store.row = None
    assert store.newest() is None, "there never was one"
    assert store.said == []


@pytest.mark.parametrize(
    ("here", "there"), [(Resumed(1, 30), None), (None, [1, 30]), (Resumed(1, 25), [1, 30])]
)
def test_older_one_is_waited_for_and_then_refused_until_somebody_accepts_it(
    store: Store, here: Resumed | None, there: list[int] | None
) -> None:
    store.proved = there
    with pytest.raises(BehindProved) as refused:
        store.newest(here)
    assert refused.value.message == (
        "step 30 of attempt 1 of j was proved safe, and the newest that is to be had is step 20 of "
        "attempt 1"
    )
    assert "colabdev run --continue j" in refused.value.hint
    assert "--accept-rollback" in refused.value.hint
    assert store.said == [
        "waiting for step 30 of attempt 1, which was proved and does not show yet"
    ]
    assert store.asked[-1]["wait_s"] > 60
    found = store.newest(here, accept_rollback=True)
    assert found is not None
    assert store.asked[-1]["wait_s"] == 0
    store.row = None
    with pytest.raises(BehindProved, match="nothing of it is to be had"):
        store.newest(here)
    assert store.newest(here, accept_rollback=True) is None


def test_store_that_does_not_tell_is_no_empty_one(store: Store) -> None:
    def silent(arguments: Mapping[str, Any]) -> Iterator[Answer]:
        yield {"end": True, "row": None, "problem": "the Drive API is overloaded"}, b""

    store.answer = silent  # type: ignore[method-assign]
    with pytest.raises(ColabdevError, match="overloaded"):
        store.newest(Resumed(1, 20), accept_rollback=True)
