"""The judge of recoveries sees each wrong that there is."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.support.recovery.judge import Death, History, Written, complaints


def written(attempt: int, begun: float, after: int, steps: int) -> Written:
    """A step each second."""
    lines = [f"begins after step {after}\n", *(f"step {after + n + 1}\n" for n in range(steps))]
    return Written(attempt, [(begun + at, line.encode()) for at, line in enumerate(lines)])


FIRST, SECOND = written(1, 100.0, 0, 20), written(2, 130.0, 15, 25)
LOGS = {1: FIRST.text[:-8], 2: SECOND.text}
GOOD = History(
    written=(FIRST, SECOND),
    deaths=(Death(1, 121.0, safe=15),),
    claimed=(1, 2),
    logs=LOGS,
    read=LOGS[1] + LOGS[2],
    ended="w40",
    wanted="w40",
)


def test_a_good_history_has_no_complaint() -> None:
    assert complaints(GOOD) == []
    assert [one.begun_after for one in GOOD.written] == [0, 15]
    assert FIRST.steps[-1] == (120.0, 20)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"deaths": (Death(1, 121.0, safe=16),)}, "step 16 was safe when attempt 1 died"),
        ({"written": (FIRST, SECOND, replace(SECOND, pieces=[(200.0, b"x")]))}, "more than once"),
        ({"claimed": (1, 2, 2)}, r"claimed more than once: \[2\]"),
        ({"claimed": (1,)}, r"claimed nothing: \[2\]"),
        ({"written": (FIRST, written(2, 119.5, 15, 25))}, "attempt 1 wrote while attempt 2 ran"),
        ({"written": (written(2, 1.0, 15, 25), written(1, 100.0, 0, 20))}, "another order"),
        ({"logs": {**LOGS, 1: b"begins after step 1\n"}}, "attempt 1 is no prefix"),
        ({"logs": {**LOGS, 2: SECOND.text[:-1]}}, "attempt 2, which lived to its end"),
        ({"logs": {1: FIRST.text[:-24], 2: SECOND.text}}, r"the last 3.0 s are missing"),
        ({"read": LOGS[1] + LOGS[1] + LOGS[2]}, "the reader read b'0"),
        ({"read": b""}, "the reader read b''"),
        ({"ended": "w41"}, "it ended with w41"),
    ],
)
def test_each_wrong_is_seen(wrong: dict[str, object], said: str) -> None:
    history = replace(GOOD, **wrong)  # type: ignore[arg-type]
    if "logs" in wrong:
        history = replace(history, read=history.logs[1] + history.logs[2])
    assert re.search(said, "\n".join(complaints(history)))


def test_a_job_that_was_given_up_has_no_end_to_be_judged() -> None:
    logs = {1: FIRST.text, 2: SECOND.text[:-8]}
    history = replace(GOOD, ended=None, logs=logs, read=logs[1] + logs[2])
    assert complaints(history) == []


def test_nobody_answers_for_what_is_missing_while_no_keeper_was_there() -> None:
    logs = {1: b"", 2: SECOND.text}
    history = replace(GOOD, logs=logs, read=SECOND.text, deaths=(Death(1, 121.0, 15, False),))
    assert complaints(history) == []
