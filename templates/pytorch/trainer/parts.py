"""What is trained, and with what: everything that the configuration names, built."""

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from config import Choice, Config, ConfigError, build, subclasses, unknown
from data.datasets import Splits
from model import net
from model.metrics import METRICS, Metric

LOSSES = {name: made for name, made in subclasses(nn, nn.Module).items() if name.endswith("Loss")}


@dataclass(frozen=True)
class Parts:
    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    metrics: dict[str, Metric]


def build_parts(config: Config, splits: Splits, device: torch.device) -> Parts:
    """All parts, new, on the device. The same seed makes the same weights."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(config.seed)
    shape_and_classes = splits.shape, splits.classes
    model = build("model", config.model, subclasses(net, nn.Module), *shape_and_classes)
    # First to the device, then to the optimizer: it keeps what belongs to each weight beside it.
    model.to(device)
    optimizers = subclasses(torch.optim, torch.optim.Optimizer)
    optimizer = build("optimizer", config.optimizer, optimizers, model.parameters())
    return Parts(
        model=model,
        loss=build("loss", config.loss, LOSSES).to(device),
        optimizer=optimizer,
        scheduler=build_scheduler(config.scheduler, optimizer),
        metrics={name: metric_named(name) for name in config.metrics},
    )


def build_scheduler(choice: Choice, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
    if choice.name == "off":
        return None
    known = subclasses(torch.optim.lr_scheduler, LRScheduler)
    return build("scheduler", choice, known, optimizer)


def metric_named(name: str) -> Metric:
    if name not in METRICS:
        raise ConfigError(unknown("metric", name, METRICS))
    return METRICS[name]
