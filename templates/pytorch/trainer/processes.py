"""Several processes that train one model: `torchrun --nproc-per-node 2 train.py`. Or one, alone."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.distributed as dist

RANK = int(os.environ.get("RANK", "0"))  # The first one, 0, prints and writes.
WORLD = int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Where they can talk to each other: over NCCL between GPUs, else over gloo."""
    if WORLD > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield
    # Not when something was raised: the others may never come here, and torchrun ends them.
    if WORLD > 1:
        dist.destroy_process_group()


@contextmanager
def first_before_others() -> Iterator[None]:
    """The others begin when the first one is through, and find what it downloaded."""
    if RANK > 0:
        dist.barrier()
    yield
    if WORLD > 1 and RANK == 0:
        dist.barrier()


def total(values: Sequence[float]) -> list[float]:
    """The sum of what all have, of each value."""
    if WORLD == 1:
        return list(values)
    place = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(values, dtype=torch.float64, device=place)
    dist.all_reduce(sums)
    return sums.tolist()


def gathered(mine: Any) -> list[Any]:
    """What each has, by rank; everybody gets it."""
    everyones = [mine] * WORLD
    if WORLD > 1:
        dist.all_gather_object(everyones, mine)
    return everyones


def say(*words: object, **options: Any) -> None:
    if RANK == 0:
        print(*words, **options)


def let_first_tell() -> None:
    """Wait until the first process has said what is wrong for all: once it ends, torchrun ends this
    one, and would end the first if this one were quicker."""
    if RANK > 0:
        time.sleep(10)


def leave(status: int) -> NoReturn:
    """End this process; torchrun then ends the others when something was raised in this one.

    At once, because PyTorch's destructors may wait for ever for what the others do not send.
    """
    if WORLD > 1 and status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
