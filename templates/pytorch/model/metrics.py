"""How good the scores are. A metric gives a value for each sample; a Meter makes their mean.

A new metric is a function here, with its name in METRICS and in `metrics` of the configuration.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]

TOGETHER = 50_000  # scores


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the highest score is that of the right class."""
    return scores.argmax(1) == labels


def top3_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the right class is among the three highest scores."""
    return (scores.topk(3).indices == labels.unsqueeze(1)).any(1)


METRICS: dict[str, Metric] = {"accuracy": accuracy, "top3_accuracy": top3_accuracy}


class Meter:
    """Means over samples, summed up on the device: to read a number makes a GPU wait for us.

    Scores of small batches are kept until they are worth it: what many small operations cost is not
    what they compute. How they fall together is a function of their sizes, so it is always the same.
    """

    def __init__(self, metrics: Mapping[str, Metric], device: torch.device) -> None:
        self.metrics = metrics
        # Samples, loss, metrics; in double precision where there is one.
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(2 + len(metrics), dtype=exact, device=device)
        self.waiting: list[list[Tensor]] = []
        self.size = 0

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Count a batch; `loss` is its mean."""
        self.waiting.append([loss.detach(), scores.detach(), labels])
        self.size += scores.numel()
        if self.size >= TOGETHER:
            self.count()

    def count(self) -> Tensor:
        """The sums, of everything that was added."""
        if self.waiting:
            losses, *batches = zip(*self.waiting, strict=True)
            scores, labels = (torch.cat(batch) for batch in batches)
            sizes = torch.tensor([len(batch) for batch in batches[1]], device=labels.device)
            values = [sizes, torch.stack(losses).to(self.sums.dtype) * sizes]
            values += [metric(scores, labels) for metric in self.metrics.values()]
            self.sums += torch.stack([value.sum(dtype=self.sums.dtype) for value in values])
            self.waiting, self.size = [], 0
        return self.sums

    def means(self, sums: Tensor) -> dict[str, float]:
        """The means by name, of sums that may be those of all processes."""
        samples, *rest = sums.tolist()
        names = ("loss", *self.metrics)
        return {name: value / max(samples, 1) for name, value in zip(names, rest, strict=True)}

    def state(self) -> dict[str, Any]:
        """All that was added, as a checkpoint holds it."""
        waiting = [[one.cpu() for one in batch] for batch in self.waiting]
        return {"sums": self.sums.cpu(), "waiting": waiting}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.sums.copy_(state["sums"])
        self.waiting = [[one.to(self.sums.device) for one in batch] for batch in state["waiting"]]
        self.size = sum(scores.numel() for _, scores, _ in self.waiting)
