"""Several processes that train one model: `torchrun --nproc-per-node 2 train.py`. Or one, alone."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Processes:
    """This process among the others; `rank` 0 prints and writes."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Where they can talk to each other: over NCCL between GPUs, else over gloo."""
        if self.world == 1:
            yield
            return
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        yield
        # Not when something was raised: the others may never come here. See `fail`.
        dist.destroy_process_group()

    def fail(self, status: int) -> int:
        """How to end when something was raised; torchrun then ends the others.

        At once, because PyTorch's destructors may wait for ever for what the others do not send.
        """
        if self.world > 1:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    def total(self, sums: Tensor) -> Tensor:
        """The sum of what all have."""
        if self.world > 1:
            sums = sums.clone()
            dist.all_reduce(sums)
        return sums

    def any(self, mine: int | None, device: torch.device) -> int | None:
        """The highest that one of them has: all must leave the loop at the same step."""
        if self.world == 1:
            return mine
        highest = torch.tensor(mine or 0, device=device)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return int(highest) or None

    def gathered(self, mine: Any) -> list[Any]:
        """What each has, by rank; everybody gets it."""
        if self.world == 1:
            return [mine]
        all_of_them = [None] * self.world
        dist.all_gather_object(all_of_them, mine)
        return all_of_them

    def from_first(self, work: Callable[[], Any]) -> Any:
        """What rank 0 comes to; the others wait for it."""
        return self.gathered(work() if self.rank == 0 else None)[0]

    def first_before_others(self, work: Callable[[], Any]) -> Any:
        """What each comes to, rank 0 before the others: they find what it downloaded."""
        if self.rank == 0:
            mine = work()
        self.gathered(None)
        return mine if self.rank == 0 else work()
