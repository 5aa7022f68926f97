"""Classify the pictures of a folder with a folder for each class; EMA, torch.compile, optional W&B."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="with a folder of pictures for each class")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--size", type=int, default=64, help="pixels that pictures are scaled to")
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--compile", action="store_true", help="with torch.compile")
parser.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases, if installed")
parser.add_argument("--out", type=Path, default=Path("runs/image-folder"))
parser.add_argument("--resume", help="a checkpoint, or auto for the newest in --out")
args = parser.parse_args()


class Folder(Dataset):
    """Pictures by their index. An epoch's are turned over by chance, its own for each picture."""

    def __init__(self, files: list[Path], classes: list[str], seed: int | None) -> None:
        self.files, self.classes, self.seed, self.epoch = files, classes, seed, 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file = self.files[index]
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB").resize((args.size, args.size)))
        picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        if (
            self.seed is not None
            and np.random.default_rng([self.seed, self.epoch, index]).random() < 0.5
        ):
            picture = picture.flip(2)
        return picture, self.classes.index(file.parent.name)


# Data: every fifth picture is for validation.
files = sorted(path for path in args.folder.glob("*/*") if path.suffix.lower() in (".jpg", ".png"))
if len(files) < 10:
    parser.error(f"{args.folder} has {len(files)} pictures in folders of classes; 10 is the least")
classes = sorted({file.parent.name for file in files})
train_set = Folder([file for at, file in enumerate(files) if at % 5], classes, args.seed)
valid_set = Folder(files[::5], classes, None)

# Model, optimizer, and the slowly moving average of the weights, which is what is used in the end
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(args.seed)


def layer(of: int, to: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(of, to, 3, stride=2, padding=1), nn.GroupNorm(8, to), nn.ReLU())


def follow(average: Tensor, weight: Tensor, steps: Tensor) -> Tensor:
    """Fast at first, because the weights it starts with are worth nothing; a hundredth in the end."""
    return average.lerp(weight, (9 / (10 + steps)).clamp(min=0.01))


model = nn.Sequential(
    layer(3, 32), layer(32, 64), layer(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(128, len(classes)),
).to(device)  # fmt: skip
average = AveragedModel(model, avg_fn=follow)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
if args.compile:
    model.compile()  # in place: the names of the weights stay

# Resume
checkpoints = args.out / "checkpoints"
checkpoints.mkdir(parents=True, exist_ok=True)
path, done = args.resume, 0
if args.resume == "auto":
    path = max(checkpoints.glob("epoch-*.pt"), default=None)
if path:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["classes"] != classes:
        parser.error(f"{path} is of other classes: {', '.join(saved['classes'])}")
    for part, name in ((model, "model"), (average, "average"), (optimizer, "optimizer")):
        part.load_state_dict(saved[name])
    done = saved["epochs"]
    print(f"resumed {path}: {done} epochs are done", flush=True)

board = None
if args.wandb:
    import wandb

    board = wandb.init(project=args.wandb, id=args.out.name, resume="allow", config=vars(args))

# Training
for epoch in range(done, args.epochs):
    model.train()
    train_set.epoch = epoch
    order = np.random.default_rng([args.seed, epoch]).permutation(len(train_set)).tolist()
    for pictures, labels in DataLoader(
        train_set, args.batch_size, sampler=order, num_workers=args.workers
    ):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(pictures.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
    average.eval()
    with torch.no_grad():
        hits = [
            (average(pictures.to(device)).argmax(1).cpu() == labels).float()
            for pictures, labels in DataLoader(valid_set, args.batch_size)
        ]
    accuracy = torch.cat(hits).mean().item()
    print(f"epoch {epoch + 1}  loss {loss.item():.4f}  accuracy {accuracy:.3f}", flush=True)
    row = {"step": epoch + 1, "total_steps": args.epochs, "loss": loss.item(), "accuracy": accuracy}
    with open(args.out / "metrics.jsonl", "a") as file:
        print(json.dumps(row), file=file)
    if board is not None:
        board.log(row, step=epoch + 1)

    state = {"model": model.state_dict(), "average": average.state_dict(), "epochs": epoch + 1}
    state |= {"optimizer": optimizer.state_dict(), "classes": classes}
    final = checkpoints / f"epoch-{epoch + 1:04d}.pt"
    with open(staging := final.with_suffix(".tmp"), "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, final)
