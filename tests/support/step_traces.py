"""Trainings that never were: when each of their steps was made, with all that makes that uneven, and
what an agent would have seen of it by some moment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from colabdev.agent.steps import Mark, thinned

Range = tuple[float, float]

_LOOK_S = 10.0
"""How often an agent looks."""


@dataclass(frozen=True)
class World:
    """Between which bounds each parameter of a training lies."""

    steps: Range
    pace_s: Range
    """A step takes so long, before anything else."""
    noise: Range
    """The deviation of the logarithm of a step's time."""
    wander: Range
    """The deviation of a slow change of the pace, as neighbours on a machine cause."""
    wander_length: Range
    """How long such a change lasts, as a share of the training."""
    drift: Range
    """How much slower, or as often faster, the last step is than the first; steadily."""
    epochs: Range
    warm_up: Range
    """How much longer a step of the first epoch takes."""
    validation: Range
    """What the end of an epoch costs, in steps."""
    checkpoints: Range
    """How many there are."""
    pause: Range
    """What one costs, in steps."""
    stragglers: Range
    """The share of the steps that take several times as long."""
    stalls: Range
    """How many there are."""
    stall: Range
    """What the smallest costs, as a share of the training."""
    stall_tail: Range
    """The exponent of their sizes: the smaller, the heavier the tail."""
    seen: Range
    """The share of the training after which somebody asks."""


MILD = World(
    steps=(300, 600),
    pace_s=(0.3, 1.0),
    noise=(0.02, 0.07),
    wander=(0.005, 0.02),
    wander_length=(0.03, 0.1),
    drift=(0, 0.03),
    epochs=(4, 8),
    warm_up=(1.1, 1.5),
    validation=(0, 3),
    checkpoints=(12, 20),
    pause=(0, 2),
    stragglers=(0, 0.002),
    stalls=(0, 2),
    stall=(0.003, 0.006),
    stall_tail=(2.2, 2.8),
    seen=(0.2, 0.9),
)
HARSH = World(
    steps=(1200, 2000),
    pace_s=(4.5, 12.0),
    noise=(0.17, 0.3),
    wander=(0.055, 0.08),
    wander_length=(0.28, 0.45),
    drift=(0.12, 0.2),
    epochs=(20, 40),
    warm_up=(2.8, 4.0),
    validation=(15, 30),
    checkpoints=(40, 60),
    pause=(8, 14),
    stragglers=(0.015, 0.03),
    stalls=(9, 15),
    stall=(0.0005, 0.0012),
    stall_tail=(1.2, 1.5),
    seen=(0.2, 0.9),
)
TUNING = (MILD, HARSH)
"""What the constants of `core/forecast.py` were tuned on."""

PROOF = World(
    steps=(650, 1100),
    pace_s=(1.1, 4.0),
    noise=(0.08, 0.15),
    wander=(0.025, 0.05),
    wander_length=(0.12, 0.25),
    drift=(0.04, 0.1),
    epochs=(9, 18),
    warm_up=(1.6, 2.5),
    validation=(4, 12),
    checkpoints=(22, 35),
    pause=(3, 7),
    stragglers=(0.004, 0.012),
    stalls=(3, 8),
    stall=(0.0015, 0.0028),
    stall_tail=(1.6, 2.0),
    seen=(0.2, 0.9),
)
"""What they are proved on: no parameter lies within the bounds of one of those, but when somebody
asks."""

_WORST_STALL = 0.05
"""Longer ones are no stalls any more but the end."""


@dataclass(frozen=True)
class Trace:
    """What was seen by `now`, and when it ended."""

    marks: Sequence[Mark]
    total: int
    now: float
    end: float


def traces(worlds: Sequence[World], count: int, seed: int) -> Iterator[Trace]:
    """So many, always the same for a seed."""
    random = Random(seed)
    for number in range(count):
        world = worlds[number // 2 % len(worlds)]
        steps = int(random.uniform(*world.steps))
        saved = int(steps / random.uniform(*world.checkpoints))
        times = list(accumulate(_durations(world, random, steps, saved)))
        # By a file that gets a line now and then, or by checkpoints alone.
        every = saved if number % 2 else random.randint(1, 10)
        now = times[-1] * random.uniform(*world.seen)
        yield Trace(_marks(times, every, now), steps, now, times[-1])


def _durations(world: World, random: Random, count: int, saved: int) -> list[float]:
    """Of each step, in seconds; every `saved` steps a checkpoint is made."""

    def draw(bounds: Range) -> float:
        return random.uniform(*bounds)

    pace_s, epoch = draw(world.pace_s), int(count / draw(world.epochs))
    noise, drift = draw(world.noise), draw(world.drift) * random.choice((-1, 1))
    wander, length = draw(world.wander), max(draw(world.wander_length) * count, 1.0)
    warm_up, validation, pause = draw(world.warm_up), draw(world.validation), draw(world.pause)
    straggling = draw(world.stragglers)
    stay = math.exp(-1 / length)
    shift = random.gauss(0, wander)
    durations = []
    for step in range(1, count + 1):
        shift = stay * shift + math.sqrt(1 - stay**2) * random.gauss(0, wander)
        pace = 1 + drift * step / count + shift
        pace *= random.lognormvariate(0, noise) * (warm_up if step <= epoch else 1)
        if random.random() < straggling:
            pace *= min(2 * random.paretovariate(1.5), 20)
        pace += validation * (step % epoch == 0) + pause * (step % saved == 0)
        durations.append(max(pace, 0.1) * pace_s)
    whole_s = sum(durations)
    tail, least = draw(world.stall_tail), draw(world.stall)
    for _ in range(round(draw(world.stalls))):
        size = min(least * random.paretovariate(tail), _WORST_STALL)
        durations[random.randrange(count)] += size * whole_s
    return durations


def _marks(times: Sequence[float], every: int, now: float) -> list[Mark]:
    """What was seen of every so many steps, by somebody who looks now and then."""
    marks: list[Mark] = []
    for step in range(every, len(times) + 1, every):
        moment = times[step - 1]
        if moment > now:
            break
        if not marks or moment - marks[-1][0] >= _LOOK_S:
            marks = thinned([*marks, (moment, step)])
    return marks
