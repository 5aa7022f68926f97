"""From samples to batches: the DataLoaders, and the function that puts samples together."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from config import Config
from data.datasets import Sample, Splits
from data.order import Order
from data.transforms import Augmented
from trainer import processes

Batch = Sample  # pictures and labels, stacked
Loader = DataLoader[Batch]


def train_loader(config: Config, splits: Splits, order: Order) -> Loader:
    """All steps of the order, across epochs, so that workers start once."""
    moved = Augmented(splits.train, config.seed, moved=config.data.augment)
    return loader(moved, batch_sampler=order, num_workers=config.data.workers)


def plain_loader(config: Config, samples: Any) -> Loader:
    """Every sample once and as it is; of several processes each has its share."""
    mine = range(processes.RANK, len(samples), processes.WORLD)
    return loader(samples, sampler=mine, batch_size=config.data.batch_size)


def loader(samples: Any, **options: Any) -> Loader:
    # With a generator of its own, because a DataLoader draws a number whenever it starts: from the
    # common one, a run that was interrupted would draw another number of times.
    options |= {"generator": torch.Generator(), "pin_memory": torch.cuda.is_available()}
    return DataLoader(samples, collate_fn=collate, **options)


def collate(samples: Sequence[Sample]) -> Batch:
    """What makes a batch of samples: here all have one shape; texts would be padded."""
    pictures, labels = zip(*samples, strict=True)
    return torch.stack(pictures), torch.stack(labels)
