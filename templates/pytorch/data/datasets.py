"""Where the samples come from: map-style data sets, and how each is split.

A new one is a function here that takes the folder for its files, with its name in SOURCES.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from config import ConfigError, pick

Sample = tuple[Tensor, Tensor]  # a picture and its label


class Pictures(Dataset[Sample]):
    """Pictures and their labels in memory. A map-style data set: a length, and a sample by its index."""

    def __init__(self, pictures: Tensor, labels: Tensor) -> None:
        self.pictures, self.labels = pictures, labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        return self.pictures[index], self.labels[index]


class Splits(NamedTuple):
    """What to learn from, what to choose by, and what to judge by at the end."""

    train: Subset[Sample]
    valid: Subset[Sample]
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
    shape, classes = known.pictures.shape[1:], int(known.labels.max()) + 1
    train, valid = Subset(known, order[held_back:]), Subset(known, order[:held_back])
    return Splits(train, valid, test, shape, classes)


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

        make = getattr(torchvision.datasets, name)
        parts = [make(root, train=train, download=True) for train in (True, False)]
    except ImportError:
        raise ConfigError(
            f"{name} needs torchvision: install it, or use data.name=digits"
        ) from None
    except (OSError, RuntimeError) as exc:  # RuntimeError: a file is not what it should be.
        reason = str(exc).splitlines()[0]
        raise ConfigError(f"cannot have {name} in {root}: {reason}; try data.name=digits") from exc
    found = []
    for part in parts:
        # Bytes, grey or with the colours last, become values from 0 to 1 with the channels first.
        pixels = torch.as_tensor(part.data).float() / 255
        pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        found.append(Pictures(pixels.contiguous(), torch.as_tensor(part.targets)))
    return tuple(found)


SOURCES: dict[str, Callable[[Path], tuple[Pictures, ...]]] = {
    "digits": digits,
    "mnist": partial(from_torchvision, "MNIST"),
    "cifar10": partial(from_torchvision, "CIFAR10"),
}
