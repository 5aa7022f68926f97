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

    As the `batch_sampler` of a DataLoader it gives the process `rank` of `world` its share of the steps
    from `start` to `stop`. Each batch is whole: what remains of an epoch is left out, another few in
    each.
    """

    size: int
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    start: int = 0
    stop: int = 0

    @property
    def steps_per_epoch(self) -> int:
        if self.batch_size > self.size:
            raise ConfigError(
                f"data.batch_size {self.batch_size} is more than the {self.size} training samples"
            )
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.stop):
            epoch, at = divmod(step, self.steps_per_epoch)
            if at == 0 or step == self.start:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.size).tolist()
            batch = order[at * self.batch_size : (at + 1) * self.batch_size]
            yield [(epoch, index) for index in batch[self.rank :: self.world]]
