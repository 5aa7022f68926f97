"""A look at what was learned, without learning."""

import torch
from torch.utils.data import DataLoader

from data.loaders import Batch
from model.metrics import Meter
from trainer.hardware import autocast
from trainer.parts import Parts
from trainer.processes import Processes


@torch.no_grad()
def evaluate(
    parts: Parts,
    loader: DataLoader[Batch],
    device: torch.device,
    precision: str,
    processes: Processes,
) -> dict[str, float]:
    """Loss and metrics over all that the loaders of all processes have."""
    parts.model.eval()
    meter = Meter(parts.metrics, device)
    for batch in loader:
        pictures, labels = batch.to(device)
        with autocast(device, precision):
            scores = parts.model(pictures)
            loss = parts.loss(scores, labels)
        meter.add(loss, scores, labels)
    return meter.means(processes.total(meter.sums))
