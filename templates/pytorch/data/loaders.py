"""From samples to batches: the DataLoaders, and the function that puts samples together."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from config import Config
from data.datasets import Splits
from data.order import Order
from data.transforms import Augmented

Batch = tuple[Tensor, Tensor]  # pictures and labels


class Loaders(NamedTuple):
    train: DataLoader[Batch]  # all that is left to learn from, across epochs: workers start once
    valid: DataLoader[Batch]
    test: DataLoader[Batch]


def make_loaders(config: Config, splits: Splits, order: Order, *, pin: bool) -> Loaders:
    """Loaders for this process; with several, each gets its share of every batch."""

    def loader(samples: Dataset[Any], **options: Any) -> DataLoader[Batch]:
        # With a generator of its own, because a DataLoader draws a number whenever it starts: from
        # the common one, a run that was interrupted would draw another number of times.
        own = torch.Generator()
        return DataLoader(samples, collate_fn=collate, pin_memory=pin, generator=own, **options)

    def every_sample(samples: Any) -> DataLoader[Batch]:
        mine = range(order.rank, len(samples), order.world)
        return loader(samples, sampler=mine, batch_size=config.data.batch_size)

    moved = Augmented(splits.train, config.seed, moved=config.data.augment)
    workers = {"num_workers": config.data.workers, "worker_init_fn": end_with_training}
    train = loader(moved, batch_sampler=order, **workers)
    return Loaders(train, every_sample(splits.valid), every_sample(splits.test))


def collate(samples: Sequence[Batch]) -> Batch:
    """What makes a batch of samples: here all have one shape; texts would be padded."""
    pictures, labels = zip(*samples, strict=True)
    return torch.stack(pictures), torch.stack(labels)


def end_with_training(_worker: int) -> None:
    """A worker ends at once when the training was killed; by itself it would look every five seconds."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
