"""How good the scores are. A metric gives a value for each sample; a Meter makes their means.

A new metric is a function here, with its name in METRICS and in `metrics` of the configuration.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainer import processes

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the highest score is that of the right class."""
    return scores.argmax(1) == labels


def top3_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the right class is among the three highest scores."""
    return (scores.topk(3).indices == labels.unsqueeze(1)).any(1)


METRICS: dict[str, Metric] = {"accuracy": accuracy, "top3_accuracy": top3_accuracy}


class Meter:
    """Means over samples, of the loss and of each metric."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self.metrics = metrics
        self.sums = [0.0] * (2 + len(metrics))  # samples, loss, metrics

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> float:
        """Count a batch; `loss` is its mean, which is returned as a number."""
        values = [loss.detach().float() * len(labels)]
        for metric in self.metrics.values():
            values.append(metric(scores.detach(), labels).sum().float())
        # All at once, because a GPU waits for us whenever a number is read from it.
        sums = [len(labels), *torch.stack(values).tolist()]
        self.sums = [old + new for old, new in zip(self.sums, sums, strict=True)]
        return sums[1] / sums[0]

    def means(self) -> dict[str, float]:
        """By name, of what all processes have counted."""
        samples, *rest = processes.total(self.sums)
        names = ("loss", *self.metrics)
        return {name: value / samples for name, value in zip(names, rest, strict=True)}
