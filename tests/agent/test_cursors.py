"""Where in a log to begin, against a plain look at all of it."""

from __future__ import annotations

import io
from random import Random

import pytest

from colabdev.agent.cursors import offset_of_last_lines, offset_since
from colabdev.agent.pruning import MAX_AGE_S, MAX_COUNT, Ended, prunable


@pytest.mark.parametrize("seed", range(20))
def test_last_lines_are_those_of_a_plain_look(seed: int) -> None:
    random = Random(seed)
    lines = [b"x" * random.choice((0, 1, 80, 70_000)) + b"\n" for _ in range(random.randrange(8))]
    log = b"".join(lines) + b"rest" * random.randrange(2)
    expected = [0]
    for at, byte in enumerate(log[:-1]):
        if byte == 10:
            expected.append(at + 1)
    file = io.BytesIO(log + b"later\n")
    assert offset_of_last_lines(file, len(log), 0) == len(log)
    for count in range(1, len(expected) + 2):
        wanted = expected[-count] if count <= len(expected) else 0
        assert offset_of_last_lines(file, len(log), count) == wanted


def test_since_takes_the_last_mark_before_and_bears_what_makes_no_sense() -> None:
    events = [b'{"time": 10, "offset": 0}', b"torn", b'{"time": 20, "offset": 5}', b'{"time": "x"}']
    events += [b"[]", b'{"time": 30, "offset": 9}', b'{"time": 15, "offset": 12}']
    wanted = {5: 0, 10: 0, 19: 0, 20: 5, 29: 5, 30: 12, 40: 12}
    assert {moment: offset_since(events, moment) for moment in wanted} == wanted
    assert offset_since([], 1) == 0


def test_old_jobs_go_but_never_the_last_of_a_name() -> None:
    now = 10 * MAX_AGE_S
    jobs = [
        Ended("new", "a", now - 1),
        Ended("old", "a", now - MAX_AGE_S - 1),
        Ended("older", "a", now - MAX_AGE_S - 2),
        Ended("last", "b", now - 2 * MAX_AGE_S),
        Ended("unseen", "c", None),
    ]
    assert prunable(jobs, now) == ["old", "older"]
    many = [Ended(f"{number:04}", "a", now - number) for number in range(MAX_COUNT + 3)]
    many.append(Ended("unseen", "a", None))
    random = Random(1)
    random.shuffle(many)
    ids = [f"{number:04}" for number in range(MAX_COUNT, MAX_COUNT + 3)]
    assert prunable(many, now) == [*ids, "unseen"]
