"""Which samples each step learns from: a function of the seed, the epoch and the step, and nothing else.

So a run that goes on at step 1234 asks for the batch of step 1234: nothing is stored, nothing is
skipped, and neither the number of workers nor that of processes changes what a step sees.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from config import ConfigError


@dataclass(frozen=True)
class Order:
    """The keys of all samples, batch by batch; a key is an epoch and the index of a sample.

    As the `batch_sampler` of a DataLoader it gives this process its part of the steps from `start` to
    `stop`. Each batch is whole: what remains of an epoch is left out, another few in each.
    """

    size: int
    batch_size: int
    seed: int
    parts: int = 1
    """That a batch goes through the network in, one after the other."""
    rank: int = 0
    world: int = 1
    start: int = 0
    stop: int = 0

    def __post_init__(self) -> None:
        if self.batch_size > self.size:
            raise ConfigError(
                f"data.batch_size {self.batch_size} is more than the {self.size} training samples"
            )
        if self.batch_size % (self.parts * self.world):
            raise ConfigError(
                f"data.batch_size {self.batch_size} cannot be split among {self.world} processes and"
                f" trainer.accumulate {self.parts} equal parts"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.size // self.batch_size

    def of_epoch(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0)
        for step in range(self.start, self.stop):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self.of_epoch(epoch)
            first = step % self.steps_per_epoch * self.batch_size
            batch = order[first : first + self.batch_size]
            for part in batch.reshape(self.parts, -1):
                yield [(epoch, int(index)) for index in part[self.rank :: self.world]]
