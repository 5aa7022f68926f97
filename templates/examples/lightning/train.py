"""Handwritten digits with Lightning: its own checkpoints, mirrored and resumed like any others."""

import argparse
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("runs/digits"))
parser.add_argument("--resume", help="a checkpoint, or auto for the newest in --out")
args = parser.parse_args()


class Digits(lightning.LightningModule):
    """What is learned, and how; the loop is Lightning's."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        pictures, labels = batch
        return nn.functional.cross_entropy(self.network(pictures), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        pictures, labels = batch
        hits = (self.network(pictures).argmax(1) == labels).float().mean()
        self.log("valid_accuracy", hits, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


lightning.seed_everything(args.seed)
pixels, digits = load_digits(return_X_y=True)
samples = TensorDataset(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits))
train, valid = random_split(samples, [0.8, 0.2], torch.Generator().manual_seed(0))

checkpoints = args.out / "checkpoints"
path = args.resume
if args.resume == "auto":
    path = max(
        checkpoints.glob("epoch=*.ckpt"), key=lambda found: found.stat().st_mtime, default=None
    )
trainer = lightning.Trainer(
    max_epochs=args.epochs,
    logger=CSVLogger(args.out),
    enable_progress_bar=False,
    callbacks=[ModelCheckpoint(checkpoints, save_top_k=3, monitor="valid_accuracy", mode="max")],
)
# On its own Lightning does not restore random numbers: a resumed run learns as well, not the same.
trainer.fit(Digits(), DataLoader(train, 32, shuffle=True), DataLoader(valid, 360), ckpt_path=path)
accuracy = trainer.callback_metrics["valid_accuracy"]
print(f"valid accuracy {accuracy:.3f} after {trainer.current_epoch} epochs")
