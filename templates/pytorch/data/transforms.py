"""What is done to a sample on its way to the network, with random numbers of its own."""

import numpy as np
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from data.datasets import Sample


class Augmented(Dataset[Sample]):
    """A data set whose pictures are moved a little, another way in each epoch; or not, to compare.

    Its random numbers depend on the seed, the epoch and the sample alone, so that it does not matter
    which worker prepares it, and when.
    """

    def __init__(self, samples: Dataset[Sample], seed: int, *, moved: bool) -> None:
        self.samples, self.seed, self.moved = samples, seed, moved

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        picture, label = self.samples[index]
        if self.moved:
            picture = shifted(picture, np.random.default_rng([self.seed, epoch, index]))
        return picture, label


def shifted(picture: Tensor, random: np.random.Generator, most: int = 1) -> Tensor:
    """The picture, moved by up to `most` pixels in each direction; what comes in is black."""
    down, right = random.integers(0, 2 * most + 1, size=2).tolist()
    height, width = picture.shape[1:]
    return pad(picture, [most] * 4)[:, down : down + height, right : right + width]
