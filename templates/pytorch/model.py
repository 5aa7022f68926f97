"""The network: two convolutions and a linear layer, for grey pictures of 8 × 8 pixels."""

from torch import Tensor, nn


class DigitsNet(nn.Module):
    """Pictures of shape (batch, 1, 8, 8) in, one score for each of the ten digits out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 8 × 8 becomes 4 × 4
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(64 * 4 * 4, 10)

    def forward(self, images: Tensor) -> Tensor:
        # Scores, not probabilities: cross_entropy in train.py takes them as they are.
        return self.head(self.dropout(self.features(images).flatten(1)))
