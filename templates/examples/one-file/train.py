"""A network for handwritten digits in one file, which goes on after a kill as if nothing had been."""

import argparse
import json
import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("runs/digits"))
parser.add_argument("--resume", help="a checkpoint, or auto for the newest in --out")
args = parser.parse_args()

# Data: 1797 pictures of 8 × 8 pixels; every fifth is kept for the test.
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pixels, digits = load_digits(return_X_y=True)
pictures = torch.tensor(pixels / 16, dtype=torch.float32, device=device)
labels = torch.tensor(digits, device=device)
is_test = torch.arange(len(labels), device=device) % 5 == 0
train_x, train_y, test_x, test_y = (
    part[mask] for mask in (~is_test, is_test) for part in (pictures, labels)
)

# Model and optimizer
torch.manual_seed(args.seed)
model = nn.Sequential(
    nn.Linear(64, 128),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Linear(128, 10),
).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
print(f"{sum(weight.numel() for weight in model.parameters()):,} weights on {device}", flush=True)

# Resume: weights, optimizer, random numbers, and how many epochs are done
checkpoints = args.out / "checkpoints"
checkpoints.mkdir(parents=True, exist_ok=True)
first_epoch, history = 0, []
path = args.resume
if args.resume == "auto":
    path = max(checkpoints.glob("epoch-*.pt"), default=None)
if path:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["random"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(saved["random_cuda"])
    first_epoch, history = saved["epochs"], saved["history"]
    print(f"resumed {path}: {first_epoch} epochs are done", flush=True)


def accuracy() -> float:
    model.eval()
    with torch.no_grad():
        return (model(test_x).argmax(1) == test_y).float().mean().item()


# Training
for epoch in range(first_epoch, args.epochs):
    model.train()
    # An order of its own for each epoch, from seed and epoch alone: a resumed run has the same.
    order = torch.randperm(len(train_y), generator=torch.Generator().manual_seed(args.seed + epoch))
    total = 0.0
    for batch in order.to(device).split(args.batch_size):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    history.append({"epoch": epoch + 1, "loss": total / len(train_y), "accuracy": accuracy()})
    print(
        "epoch {epoch}  loss {loss:.4f}  accuracy {accuracy:.3f}".format(**history[-1]), flush=True
    )
    (args.out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))

    # Checkpoint: under another name until it is whole, so that nobody ever sees half of one
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    state |= {"epochs": epoch + 1, "random": torch.get_rng_state()}
    if device.type == "cuda":
        state["random_cuda"] = torch.cuda.get_rng_state()
    final = checkpoints / f"epoch-{epoch + 1:04d}.pt"
    with open(staging := final.with_suffix(".tmp"), "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, final)

print(f"test accuracy {accuracy():.3f}")
