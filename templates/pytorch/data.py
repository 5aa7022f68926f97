"""The data: 1797 handwritten digits that come with scikit-learn, so nothing is downloaded."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor


def load(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures and labels to train on, pictures and labels to test on.

    The split is the same in every run, whatever its seed, so that accuracies can be compared.
    """
    pictures, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures, digits, test_size=360, stratify=digits, random_state=0
    )
    return (
        as_images(train_x, device),
        torch.tensor(train_y, device=device),
        as_images(test_x, device),
        torch.tensor(test_y, device=device),
    )


def batches(size: int, batch_size: int, *, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """The indices of each batch of an epoch, in an order that depends on seed and epoch alone.

    A resumed run asks for the same epoch again and leaves out what was done: no state is needed.
    """
    order = np.random.default_rng([seed, epoch]).permutation(size)
    return torch.from_numpy(order).split(batch_size)


def as_images(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Rows of 64 pixels from 0 to 16, as pictures with one channel of values from 0 to 1."""
    return torch.tensor(pixels / 16, dtype=torch.float32, device=device).view(-1, 1, 8, 8)
