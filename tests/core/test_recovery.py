"""Whether a job goes on elsewhere: only by consent, only when its machine is gone for certain, within
bounds; and no number of an attempt is given out twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from colabdev.core.hand_overs import fate_of, news_of
from colabdev.core.job_records import format_job, parse_job
from colabdev.core.recovery import (
    CLAIMED,
    MOST_PER_HOUR,
    RECORDED,
    RETRY_CAP_S,
    STARTED,
    Case,
    Verdict,
    begin_attempt,
    decide,
    give_up,
    has_done,
    put_off,
    record_attempt,
    record_try,
    starts_left,
    told_of_checkpoint,
    units_left,
    wish_within,
)
from colabdev.core.recovery_records import (
    format_continuation,
    format_order,
    parse_continuation,
    parse_order,
)
from colabdev.models import ColabTunnel, HardwareWish, JobState, Phase
from colabdev.models.orders import JobOrder, MachineWish
from colabdev.models.recovery import Consent, Continuation, Resumed, Try
from colabdev.models.tunnels import TunnelUse
from tests.support.records import MOMENT, make_job, make_record

JOB = make_job(Consent(times=3, max_units=8.0, agreed="asked"))
UP = replace(make_record(), name="box", request_id="request-1", phase=Phase.UP)
LOST = replace(UP, phase=Phase.LOST)
NEW = replace(UP, request_id="request-2")
NONE_YET = Continuation()


def case(**changes: object) -> Case:
    known = Case(job=JOB, runtime=LOST, going_on=NONE_YET, has_order=True, now=MOMENT)
    known = replace(known, **changes)  # type: ignore[arg-type]
    # A start that was counted is the one that the job's record names.
    attempt = max(known.job.attempt, known.going_on.attempt)
    return replace(known, job=replace(known.job, attempt=attempt))


def tried(*steps: int | None, apart_s: float = 7200.0) -> Continuation:
    """Starts from these steps, the newest just now."""
    first = MOMENT - timedelta(seconds=apart_s * (len(steps) - 1))
    tries = tuple(
        Try(
            first + timedelta(seconds=apart_s * n),
            n + 2,
            None if step is None else Resumed(n + 1, step),
            ran=True,
        )
        for n, step in enumerate(steps)
    )
    return Continuation(attempt=len(steps) + 1, request_id="request-1", step=STARTED, tries=tries)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.GO_ON),
        ({"runtime": UP}, Verdict.LEAVE),
        ({"runtime": NEW}, Verdict.GO_ON),
        ({"runtime": None}, Verdict.LEAVE),
        ({"runtime": replace(LOST, phase=Phase.RELEASING)}, Verdict.LEAVE),
        (
            {
                "runtime": replace(NEW, phase=Phase.RELEASING),
                "going_on": give_up(NONE_YET, "no Drive"),
            },
            Verdict.NEVER,
        ),
        ({"has_order": False}, Verdict.LEAVE),
        ({"job": replace(JOB, continues=None)}, Verdict.LEAVE),
        ({"job": replace(JOB, ours=False)}, Verdict.LEAVE),
        ({"job": replace(JOB, state=JobState.FAILED)}, Verdict.LEAVE),
        ({"job": replace(JOB, state=JobState.STOPPED)}, Verdict.LEAVE),
        ({"job": replace(JOB, state=JobState.UNKNOWN)}, Verdict.LEAVE),
        ({"job": replace(JOB, state=JobState.LOST)}, Verdict.GO_ON),
        # Its runtime is there and does not know it: that is no death of a machine.
        ({"job": replace(JOB, state=JobState.LOST), "runtime": UP}, Verdict.LEAVE),
        ({"going_on": tried(None)}, Verdict.GO_ON),
        ({"going_on": tried(20)}, Verdict.GO_ON),
        ({"going_on": tried(10, 20, 30)}, Verdict.NEVER),
        ({"going_on": give_up(NONE_YET, "no code")}, Verdict.NEVER),
        ({"going_on": put_off(NONE_YET, "no GPU", MOMENT)}, Verdict.WAIT),
        (
            {"going_on": put_off(NONE_YET, "no GPU", MOMENT - timedelta(minutes=1))},
            Verdict.GO_ON,
        ),
    ],
)
def test_decision(changes: dict[str, object], verdict: Verdict) -> None:
    decision = decide(case(**changes))
    assert decision.verdict is verdict
    assert bool(decision.why) == (verdict in (Verdict.NEVER, Verdict.WAIT))


@pytest.mark.parametrize("has_ttl", [True, False])
def test_after_a_ttl_nothing_is_begun_anew_and_what_to_type_is_said(has_ttl: bool) -> None:
    """Whatever took the machine: nobody saw that while this computer slept past the ttl."""
    tunnel = ColabTunnel("gpu-t4", (), MOMENT, gives_back=has_ttl)
    machine = LOST.machine
    assert machine is not None
    gone = replace(LOST, machine=replace(machine, ssh=replace(machine.ssh, tunnel=tunnel)))
    slept = case(runtime=gone, now=MOMENT + timedelta(hours=1))
    said = (
        f"{JOB.id} is lost: its machine's ttl was over, and after that nothing is begun anew; "
        f"colabdev run --continue {JOB.id} goes on with it"
    )
    assert decide(slept).verdict is (Verdict.NEVER if has_ttl else Verdict.GO_ON)
    assert (news_of(slept, None)[1] == said) == has_ttl
    fate = fate_of(slept)
    assert fate is not None
    assert (fate.says == said) == has_ttl
    assert decide(replace(slept, by_hand=True)).verdict is Verdict.GO_ON


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, 3),
        ({"runtime": UP}, 3),
        ({"going_on": tried(20)}, 2),
        ({"going_on": tried(20, 30, 40, 50)}, 0),
        ({"job": replace(JOB, continues=None)}, 0),
        ({"job": replace(JOB, state=JobState.SUCCEEDED)}, 0),
        ({"has_order": False}, 0),
        ({"going_on": give_up(NONE_YET, "no units")}, 0),
    ],
)
def test_starts_that_are_left(changes: dict[str, object], left: int) -> None:
    assert starts_left(case(**changes)) == left


def test_starts_are_bounded_by_the_hour_whatever_was_agreed() -> None:
    generous = replace(JOB, continues=Consent(times=100))
    going_on = tried(*range(1, MOST_PER_HOUR + 1), apart_s=60)
    now = case(job=generous, going_on=going_on)
    decision = decide(now)
    assert decision.verdict is Verdict.WAIT
    assert decision.until == going_on.tries[0].time + timedelta(hours=1)
    assert decide(replace(now, now=decision.until)).verdict is Verdict.GO_ON


def test_number_of_an_attempt_is_for_one_machine_alone() -> None:
    first = begin_attempt(JOB, NONE_YET, "request-2", "token-1")
    assert (first.attempt, first.token, has_done(first, CLAIMED)) == (2, "token-1", False)
    claimed = replace(first, step=CLAIMED, began_from=Resumed(1, 20))
    assert begin_attempt(JOB, claimed, "request-2", "other") == claimed, "the same goes on"
    again = begin_attempt(JOB, claimed, "request-3", "token-2")
    assert (again.attempt, again.token, again.began_from) == (3, "token-2", None)


def test_attempt_is_recorded_before_it_may_start_and_once() -> None:
    claimed = Continuation(2, "token", "request-2", CLAIMED, Resumed(1, 20))
    counted = record_try(claimed, MOMENT)
    assert record_try(counted, MOMENT + timedelta(hours=1)).tries == counted.tries
    job = record_attempt(JOB, counted, 77)
    assert (job.attempt, job.request_id, job.state) == (2, "request-2", JobState.QUEUED)
    assert [(one.attempt, one.log_bytes) for one in job.past] == [(1, 77)]
    assert job.resumed == Resumed(1, 20)
    assert record_attempt(job, counted, 99) == job
    in_the_making = case(job=job, runtime=NEW, going_on=counted)
    assert decide(in_the_making).verdict is Verdict.GO_ON
    started = replace(counted, step=STARTED)
    assert decide(replace(in_the_making, going_on=started)).verdict is Verdict.LEAVE
    # That machine died before the start was known: what ran there, nobody knows.
    died = replace(in_the_making, runtime=replace(NEW, phase=Phase.LOST))
    assert decide(died).verdict is Verdict.GO_ON
    assert begin_attempt(job, counted, "request-3", "token-3").attempt == 3


def test_tries_come_later_each_time_up_to_a_cap() -> None:
    going_on, waits = NONE_YET, []
    for _ in range(12):
        going_on = put_off(going_on, "no GPU", MOMENT)
        assert going_on.waits_until is not None
        waits.append((going_on.waits_until - MOMENT).total_seconds())
    assert waits == sorted(waits)
    assert waits[-1] == RETRY_CAP_S


def test_script_is_told_of_the_checkpoint_last_and_in_whole_words() -> None:
    argv = ["train.py", "--resume", "old"]
    told = told_of_checkpoint(argv, "--resume {path} --strict", "/content/my runs/5")
    assert told == [*argv, "--resume", "/content/my runs/5", "--strict"]
    assert told_of_checkpoint(argv, None, "/content/5") == argv
    assert told_of_checkpoint(argv, "--resume {path}", None) == argv


def test_machine_is_asked_for_within_what_was_agreed() -> None:
    wish = MachineWish("colab", HardwareWish(("T4", "L4"), max_units=20.0))
    assert wish_within(wish, 8.0).hardware.max_units == 8.0
    assert wish_within(wish, 30.0).hardware.max_units == 20.0
    assert wish_within(wish, None) == wish
    before = replace(NONE_YET, balance=100.0)
    agreed = Consent(max_units=8.0)
    assert units_left(agreed, before, 95.0) == 3.0
    assert units_left(agreed, before, 110.0) == 8.0, "somebody bought more"
    assert units_left(agreed, NONE_YET, 95.0) == units_left(agreed, before, None) == 8.0
    assert units_left(Consent(), before, 95.0) is None


def test_whoever_types_it_is_asked_nothing_but_a_machine_that_is_there_is_left_alone() -> None:
    stopped = case(job=replace(JOB, continues=None), going_on=give_up(NONE_YET, "no"), by_hand=True)
    assert decide(stopped).verdict is Verdict.GO_ON
    assert decide(replace(stopped, runtime=UP)).verdict is Verdict.LEAVE
    assert decide(replace(stopped, runtime=None)).verdict is Verdict.GO_ON
    failed = replace(JOB, state=JobState.FAILED)
    assert decide(replace(stopped, job=failed)).verdict is Verdict.LEAVE


def test_records_are_given_back_as_they_were_written() -> None:
    going_on = put_off(
        record_try(Continuation(2, "t", "r", CLAIMED, Resumed(1, None)), MOMENT), "", MOMENT
    )
    assert going_on.step == RECORDED
    assert parse_continuation(format_continuation(going_on)) == going_on
    job = record_attempt(JOB, going_on, 5)
    assert parse_job(format_job(job)) == job
    order = JobOrder(
        {"spec": {"argv": ["a.py"]}},
        env={"SEED": "1"},
        held=("HF_TOKEN",),
        resume="--resume {path}",
        machine=MachineWish(
            "colab", HardwareWish(("T4",), ttl_s=60), TunnelUse("ngrok", ("auto",)), "/python"
        ),
        project_path="/p",
        project_name="p",
        taken_over=True,
    )
    assert parse_order(format_order(order)) == order
    for broken in ("[]", "{}", '{"schema": 1}', '{"schema": 9}'):
        for parse in (parse_order, parse_continuation):
            with pytest.raises((ValueError, KeyError, TypeError)):
                parse(broken)
