"""Where the samples come from: map-style data sets, and how each is split.

A new one is a function here that takes the folder for its files, with its name in SOURCES.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from config import ConfigError, pick


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures and their labels in memory. A map-style data set: a length, and a sample by its index."""

    def __init__(self, pictures: Tensor, labels: Tensor) -> None:
        self.pictures = pictures
        self.labels = labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pictures[index], self.labels[index]


class Splits(NamedTuple):
    """What to learn from, what to choose by, and what to judge by at the end."""

    train: Subset[tuple[Tensor, Tensor]]
    valid: Subset[tuple[Tensor, Tensor]]
    test: Pictures
    shape: tuple[int, ...]  # channels, height and width
    classes: int


def load(name: str, root: Path, valid: float) -> Splits:
    """The data set `name`. The split is the same in every run, whatever its seed."""
    known, test = pick("data.name", name, SOURCES)(root)
    order = np.random.default_rng(0).permutation(len(known)).tolist()
    held_back = round(valid * len(known))
    if not 0 < held_back < len(known):
        raise ConfigError(f"data.valid {valid} of {len(known)} samples leaves nothing on one side")
    train, valid = Subset(known, order[held_back:]), Subset(known, order[:held_back])
    return Splits(train, valid, test, known.pictures.shape[1:], int(known.labels.max()) + 1)


def digits(_root: Path) -> tuple[Pictures, Pictures]:
    """1797 handwritten digits of 8 × 8 pixels, which come with scikit-learn: no download."""
    from sklearn.datasets import load_digits

    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    pictures = pixels.float().view(-1, 1, 8, 8) / 16
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, known = order[:360], order[360:]
    return Pictures(pictures[known], labels[known]), Pictures(pictures[test], labels[test])


def from_torchvision(name: str, root: Path) -> tuple[Pictures, ...]:
    """A data set that torchvision downloads to the folder, unless it is there."""
    try:
        import torchvision
    except ImportError:
        raise ConfigError(
            f"data.name {name.lower()} needs torchvision: pip install it, or data.name=digits"
        ) from None
    make = getattr(torchvision.datasets, name)
    try:
        parts = [make(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as exc:  # RuntimeError: a file is not what it should be.
        reason = str(exc).splitlines()[0]
        raise ConfigError(f"cannot have {name} in {root}: {reason}; try data.name=digits") from exc
    return tuple(as_floats(part.data, part.targets) for part in parts)


def as_floats(pixels: Any, labels: Any) -> Pictures:
    """Bytes, grey or with the colours last, as values from 0 to 1 with the channels first."""
    values = torch.as_tensor(pixels).float() / 255
    values = values.unsqueeze(1) if values.ndim == 3 else values.permute(0, 3, 1, 2)
    return Pictures(values.contiguous(), torch.as_tensor(labels))


SOURCES: dict[str, Callable[[Path], tuple[Pictures, ...]]] = {
    "digits": digits,
    "mnist": partial(from_torchvision, "MNIST"),
    "cifar10": partial(from_torchvision, "CIFAR10"),
}
