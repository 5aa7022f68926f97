"""How good the scores are. A metric gives a value for each sample; a Meter makes their mean.

A new metric is a function here, with its name in METRICS and in `metrics` of the configuration.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the highest score is that of the right class."""
    return scores.argmax(1) == labels


def top3_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the right class is among the three highest scores."""
    return (scores.topk(3).indices == labels.unsqueeze(1)).any(1)


METRICS: dict[str, Metric] = {"accuracy": accuracy, "top3_accuracy": top3_accuracy}


class Meter:
    """Means over samples, summed up on the device: to read a number makes a GPU wait for us."""

    def __init__(self, metrics: Mapping[str, Metric], device: torch.device) -> None:
        self.metrics = metrics
        self.sums = torch.zeros(2 + len(metrics), device=device)  # samples, loss, metrics

    @torch.no_grad()
    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Count a batch; `loss` is its mean."""
        count = len(labels)
        self.sums[0] += count
        self.sums[1] += loss * count
        for at, metric in enumerate(self.metrics.values(), start=2):
            self.sums[at] += metric(scores, labels).sum()

    def means(self, sums: Tensor | None = None) -> dict[str, float]:
        """The means by name; of `sums` when they are those of all processes."""
        count, *rest = (self.sums if sums is None else sums).tolist()
        names = ("loss", *self.metrics)
        return {name: value / max(count, 1) for name, value in zip(names, rest, strict=True)}
