"""A job's one log across machines, and what is said of it meanwhile: the services alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.cli import render_jobs
from colabdev.core.recovery import RECORDED, STARTED, give_up, put_off, record_attempt
from colabdev.errors import RuntimeLost, RuntimeUnreachable, UsageError
from colabdev.models import Begin, JobRecord, JobState, Phase
from colabdev.models.orders import JobOrder
from colabdev.models.recovery import Consent, Continuation, Resumed
from colabdev.services.jobs import JobListing
from tests.support.odd_runtimes import Answer, Bench, OddRuntime, make_bench
from tests.support.records import MOMENT, make_record

FROM = Resumed(1, 1200)


@dataclass
class Died:
    """A job whose machine dies while its log is read, and an engine that goes on with it when its keeper
    is looked for."""

    bench: Bench
    recovery: FileRecoveryStore
    job: JobRecord
    is_going_on: bool = True

    def follow(self, arguments: Mapping[str, Any]) -> Iterator[Answer]:
        """As the runtimes answer: the first dies behind its third byte."""
        if arguments["attempt"] == 1:
            yield {"offset": 0}, b"one"
            self.die()
            raise RuntimeUnreachable("cut")
        yield {"offset": 0}, b"tw"
        yield {"offset": 2}, b"o\n"
        ended = {"state": "succeeded", "exit_code": 0, "log_bytes": 4, "attempt": 2}
        yield {"status": ended}, b""

    def die(self) -> None:
        self.bench.runtimes.save(replace(make_record(), phase=Phase.LOST))

    def ensure(self, name: str) -> OddRuntime:
        """A keeper that goes on in no time."""
        record = self.bench.runtimes.load(name)
        if self.is_going_on and record is not None and record.phase is Phase.LOST:
            self.bench.runtimes.save(replace(make_record(), request_id="request-2"))
            self.record(STARTED)
        return self.bench.runtime

    def record(self, step: str) -> None:
        """That attempt 2 is made, as far as that."""
        going_on = Continuation(2, "token", "request-2", step, FROM)
        self.recovery.save_continuation(self.job.id, going_on)
        known = self.bench.store.load(self.job.id)
        assert known is not None
        self.bench.store.save(replace(record_attempt(known, going_on, 3), started=MOMENT))

    def known(self) -> JobRecord:
        [job] = self.listing().jobs
        return job

    def listing(self) -> JobListing:
        return self.bench.jobs.ps(self.bench.said.append)

    def tell(self) -> list[str]:
        """What the next command says of it."""
        said: list[str] = []
        self.bench.jobs.hand_overs.tell(said.append)
        return said


@pytest.fixture
def died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Died:
    bench = make_bench(tmp_path)
    recovery = FileRecoveryStore(tmp_path / "train-state")
    job = bench.job("train", continues=Consent(), started=MOMENT)
    recovery.save_order(job.id, JobOrder({}))
    died = Died(bench, recovery, job)
    bench.runtime.answers["job.follow"] = died.follow
    monkeypatch.setattr(OddRuntime, "ensure", lambda self, name: died.ensure(name))
    return died


def test_log_goes_on_with_the_next_machine_and_reads_as_one_later(died: Died) -> None:
    bench = died.bench
    assert b"".join(bench.jobs.follow(died.job, bench.said.append, wait=True)) == b"onetwo\n"
    assert bench.said == [
        "the connection to box was cut; reconnecting",
        "attempt 1 ended unseen after byte 3",
        "starting a new machine for it",
        "starting attempt 2 from step 1200",
    ]
    assert died.tell() == [], "who followed it need not be told"
    known = bench.store.load(died.job.id)
    assert known is not None
    assert (known.state, known.attempt) == (JobState.SUCCEEDED, 2)
    bench.said.clear()
    pieces = bench.jobs.pieces(known, bench.said.append, wait=False, begin=Begin())
    rows = [json.loads(line) for line in render_jobs.log_lines(known, pieces)]
    assert [(row["attempt"], row["offset"], row["text"]) for row in rows] == [
        (1, 0, "one"),
        (2, 0, "two\n"),
    ]
    assert bench.said == ["attempt 1 ended unseen after byte 3"]


def test_one_attempt_and_the_end_of_the_newest_are_printed_alone(died: Died) -> None:
    bench = died.bench
    list(bench.jobs.follow(died.job, bench.said.append, wait=True))
    known = died.bench.store.load(died.job.id)
    assert known is not None

    def printed(begin: Begin, attempt: int | None = None) -> bytes:
        pieces = bench.jobs.pieces(
            known, bench.said.append, wait=False, begin=begin, attempt=attempt
        )
        return b"".join(piece.data for piece in pieces)

    bench.runtime.answers["job.status"] = lambda _: {"begin": 2}
    assert (printed(Begin(), 1), printed(Begin(), 2)) == (b"one", b"two\n")
    assert printed(Begin(tail=1)) == b"o\n"
    with pytest.raises(UsageError, match="has no attempt 3"):
        printed(Begin(), 3)


def test_who_waits_for_a_job_that_does_not_go_on_is_told_why(died: Died) -> None:
    died.is_going_on = False
    died.recovery.save_continuation(died.job.id, give_up(Continuation(), "no units are left"))
    said = died.bench.said
    with pytest.raises(RuntimeLost, match=r"^train-\S+ is lost: no units are left$") as lost:
        list(died.bench.jobs.follow(died.job, said.append, wait=True))
    assert lost.value.hint.startswith(f"colabdev run --continue {died.job.id} goes on with it; ")
    assert said[-1] == "attempt 1 ended unseen after byte 3"
    assert died.known().state is JobState.LOST


def test_status_of_the_lost_machine_says_whether_its_jobs_continue(died: Died) -> None:
    died.is_going_on = False
    name, hand_overs = died.job.id, died.bench.jobs.hand_overs
    runtime = make_record()
    assert (hand_overs.fates(runtime), hand_overs.to_go_on("box")) == ([], [name])
    died.die()
    aside = died.bench.job("aside", started=MOMENT).id
    died.bench.job("gone", started=MOMENT, request_id="an earlier machine's")
    assert [(fate.goes_on, fate.says) for fate in hand_overs.fates(runtime)] == [
        (False, f"{aside} is lost with it"),
        (True, f"{name} continues: starting a new machine for it"),
    ]
    died.recovery.save_continuation(name, give_up(Continuation(), "no units are left"))
    by_hand = f"colabdev run --continue {name} goes on with it"
    assert says_of(died) == f"{name} is lost: no units are left; {by_hand}"
    died.bench.store.save(replace(died.job, continues=None))
    assert says_of(died) == f"{name} is lost with it: nobody agreed that it continues; {by_hand}"
    assert hand_overs.to_go_on("box") == []


def says_of(died: Died) -> str:
    fates = died.bench.jobs.hand_overs.fates(make_record())
    return next(fate.says for fate in fates if fate.job == died.job.id)


def test_job_between_two_machines_is_starting(died: Died) -> None:
    died.is_going_on = False
    died.die()
    assert died.known().state is JobState.STARTING
    assert died.listing().is_current(died.known())
    # The machine is there, and is asked for the job only once that was started there.
    died.bench.runtimes.save(replace(make_record(), request_id="request-2"))
    died.record(RECORDED)
    assert died.known().state is JobState.STARTING
    died.record(STARTED)
    died.bench.runtime.answers["job.list"] = lambda _: {
        "jobs": [{"id": died.job.id, "state": "running", "attempt": 2}],
        "problems": [],
    }
    assert (died.known().state, died.known().attempt) == (JobState.RUNNING, 2)


def test_what_happened_meanwhile_is_told_once(died: Died) -> None:
    died.is_going_on = False
    name = died.job.id
    assert died.tell() == []
    died.die()
    assert died.tell() == [f"{name}: its machine died; starting a new machine for it"]
    assert died.tell() == []
    waiting = put_off(Continuation(), "no T4 is to be had", datetime.now(UTC))
    died.recovery.save_continuation(name, waiting)
    [told] = died.tell()
    assert told == f"{name}: its machine died; it is tried again soon: no T4 is to be had"
    died.recovery.save_continuation(name, Continuation())
    died.is_going_on = True
    died.tell()  # Sees to it that a keeper goes on.
    died.bench.store.append(name, 1, 0, b"one")
    [told] = died.tell()
    assert told.startswith(f"{name}: attempt 1 ended unseen, last heard of at ")
    assert told.endswith(" from step 1200")
    assert "; attempt 2 runs since " in told
    assert died.tell() == []
