"""The network: two convolutions and a linear layer, for small pictures of any size."""

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Pictures of shape (batch, channels, height, width) in, a score for each class out."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int, width: int = 32, dropout: float = 0.1
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        # GroupNorm, not BatchNorm: a picture's result does not depend on its batch, so a batch may
        # be split among parts and processes.
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=3, padding=1),
            nn.GroupNorm(8, width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),  # half of the height and of the width
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width * (height // 2) * (breadth // 2), classes)

    def forward(self, pictures: Tensor) -> Tensor:
        # Scores, not probabilities: CrossEntropyLoss takes them as they are.
        return self.head(self.dropout(self.features(pictures).flatten(1)))
