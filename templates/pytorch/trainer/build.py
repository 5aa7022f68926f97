"""What is trained, and with what: everything that the configuration names, built."""

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from config import Config, build, pick
from data.datasets import Splits
from model import net
from model.metrics import METRICS, Metric


class Parts(NamedTuple):
    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    metrics: dict[str, Metric]


def build_parts(config: Config, splits: Splits, device: torch.device) -> Parts:
    """All parts, new, on the device. The same seed makes the same weights."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(config.seed)
    models, losses = classes(net, nn.Module), classes(nn.modules.loss, nn.Module)
    optimizers = classes(torch.optim, torch.optim.Optimizer)
    schedulers = classes(torch.optim.lr_scheduler, LRScheduler) | {"off": lambda _: None}
    # First to the device, then to the optimizer: it keeps what belongs to each weight beside it.
    model = build("model", config.model, models, splits.shape, splits.classes).to(device)
    optimizer = build("optimizer", config.optimizer, optimizers, model.parameters())
    return Parts(
        model=model,
        loss=build("loss", config.loss, losses).to(device),
        optimizer=optimizer,
        scheduler=build("scheduler", config.scheduler, schedulers, optimizer),
        metrics={name: pick("metric", name, METRICS) for name in config.metrics},
    )


def classes(module: Any, base: type) -> dict[str, Any]:
    """What a module has to choose from."""
    found = {name: one for name, one in vars(module).items() if isinstance(one, type)}
    return {name: one for name, one in found.items() if issubclass(one, base) and name[0] != "_"}
