"""What a runtime says of jobs is believed only as far as it makes sense."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from colabdev.core.job_records import (
    as_it_stands,
    choose_job_id,
    found_on_runtime,
    is_machine_gone,
    parse_job_list,
    told_by_runtime,
)
from colabdev.errors import ProtocolError, UsageError
from colabdev.models import JobRecord, JobState, Phase
from tests.support.records import MOMENT, make_record

JOB = JobRecord("a-261120-aaaa", "a", "box", "request-1", ("a.py",), MOMENT)


@pytest.mark.parametrize(
    "status",
    [
        None,
        [],
        {},
        {"state": "on fire"},
        {"state": "running", "started": 10**400},
        {"state": "running", "started": 1e300},
        {"state": "running", "started": float("nan")},
        {"state": "failed", "exit_code": "7"},
        {"state": "failed", "log_bytes": True},
    ],
)
def test_status_that_makes_no_sense_is_a_protocol_error(status: Any) -> None:
    with pytest.raises(ProtocolError):
        told_by_runtime(JOB, status)
    if isinstance(status, dict):
        with pytest.raises(ProtocolError):
            found_on_runtime({**status, "id": JOB.id}, make_record())


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"jobs": []},
        {"jobs": {}, "problems": 1},
        {"jobs": ["a-261120-aaaa"], "problems": []},
        {"jobs": [{"id": 1}], "problems": []},
        {"jobs": [], "problems": [{"id": "a-261120-aaaa"}]},
    ],
)
def test_list_that_makes_no_sense_is_a_protocol_error(answer: Any) -> None:
    with pytest.raises(ProtocolError):
        parse_job_list(answer)


def test_jobs_that_the_runtime_cannot_read_are_there() -> None:
    there = parse_job_list({"jobs": [], "problems": [{"id": JOB.id, "reason": "torn"}]})
    assert JOB.id in there
    assert "b-261120-aaaa" not in there


def test_machine_of_a_job_is_gone_with_the_runtime_or_when_another_has_its_name() -> None:
    here = make_record()
    assert not is_machine_gone(JOB, here)
    ended = replace(JOB, state=JobState.FAILED, ended=MOMENT + timedelta(1))
    for runtime in (None, replace(here, request_id="another"), replace(here, phase=Phase.LOST)):
        assert is_machine_gone(ended, runtime)
        assert as_it_stands(ended, runtime) == ended
        assert as_it_stands(JOB, runtime).state is JobState.LOST


def test_ambiguous_prefix_names_a_handful_and_counts_the_rest() -> None:
    ids = [f"train-261120-aaa{letter}" for letter in "abcdefgh"]
    with pytest.raises(UsageError, match=r"'tr' may mean (\S+, ){4}\S+ and 3 more$"):
        choose_job_id("tr", ids)
    with pytest.raises(UsageError, match=r"may mean train-261120-aaaa, train-261120-aaab$"):
        choose_job_id("tr", ids[:2])
