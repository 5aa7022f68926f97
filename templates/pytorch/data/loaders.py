"""From samples to batches: the DataLoaders, and the function that puts samples together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from config import Config
from data.datasets import Splits
from data.order import Order
from data.transforms import Augmented, Plain


class Batch(NamedTuple):
    pictures: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        """On the device, without waiting for the copy where that is possible."""
        return Batch(*(one.to(device, non_blocking=True) for one in self))


def collate(samples: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """What makes a batch of samples: here all have one shape; texts would be padded."""
    pictures, labels = zip(*samples, strict=True)
    return Batch(torch.stack(pictures), torch.stack(labels))


class Loaders(NamedTuple):
    train: DataLoader[Batch]
    """All that is left to learn from, across the ends of epochs, so that workers start once."""
    valid: DataLoader[Batch]
    test: DataLoader[Batch]


def make_loaders(
    config: Config, splits: Splits, order: Order, first_step: int, last_step: int, *, pin: bool
) -> Loaders:
    """Loaders for this process; with several, each gets its share of every batch."""

    def loader(samples: Dataset, **options: Any) -> DataLoader[Batch]:
        # With a generator of its own, because a DataLoader draws a number whenever it starts: from
        # the common one, a run that was interrupted would draw another number of times.
        own = torch.Generator()
        return DataLoader(samples, collate_fn=collate, pin_memory=pin, generator=own, **options)

    def every_sample(samples: Dataset) -> DataLoader[Batch]:
        mine = range(order.rank, len(samples), order.world)
        return loader(samples, sampler=mine, batch_size=config.data.batch_size)

    make = Augmented if config.data.augment else Plain
    todo = replace(order, start=first_step, stop=last_step)
    workers = config.data.workers
    return Loaders(
        train=loader(make(splits.train, config.seed), batch_sampler=todo, num_workers=workers),
        valid=every_sample(splits.valid),
        test=every_sample(splits.test),
    )
