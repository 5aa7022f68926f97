"""Logistic regression by gradient descent: a real training run in the standard library alone."""

import argparse
import json
import math
import os
import random
from pathlib import Path

# Arguments
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--resume", help="a checkpoint to go on from, or auto for the newest")
args = parser.parse_args()

# Data: points of the unit square, labelled by the side of a line they lie on. Same seed, same data.
rng = random.Random(0)
points = [(rng.random(), rng.random()) for _ in range(2000)]
data = [((x, y, 1.0), 1.0 if 2 * x + y > 1.4 else 0.0) for x, y in points]

# Model: three weights, new or from a checkpoint
checkpoints = Path("runs/logistic/checkpoints")
checkpoints.mkdir(parents=True, exist_ok=True)
weights, first_epoch, path = [0.0, 0.0, 0.0], 1, args.resume
if path == "auto":
    path = max(checkpoints.glob("epoch-*.ckpt"), default=None)
if path:
    saved = json.loads(Path(path).read_text())
    weights, first_epoch = saved["weights"], saved["epoch"] + 1
    print(f"resumed {path} at epoch {first_epoch}", flush=True)

# Training: one step of gradient descent for each point, in an order that depends on the epoch alone
for epoch in range(first_epoch, args.epochs + 1):
    random.Random(epoch).shuffle(order := list(data))
    loss, correct = 0.0, 0
    for features, label in order:
        score = sum(w * x for w, x in zip(weights, features, strict=True))
        predicted = 1 / (1 + math.exp(-score))
        loss -= math.log(max(predicted if label else 1 - predicted, 1e-12))
        correct += (predicted > 0.5) == bool(label)
        weights = [
            w - 0.1 * (predicted - label) * x for w, x in zip(weights, features, strict=True)
        ]
    loss, accuracy = loss / len(data), correct / len(data)
    print(f"epoch {epoch} loss {loss:.4f} accuracy {accuracy:.3f}", flush=True)

    # Checkpoint: under another name until it is whole, so that nobody ever sees half of one
    path = checkpoints / f"epoch-{epoch:04d}.ckpt"
    with open(staging := path.with_suffix(".tmp"), "w") as file:
        json.dump({"epoch": epoch, "weights": weights}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, path)
