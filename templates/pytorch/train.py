"""Train a small network to read handwritten digits. This file runs as it reads: top to bottom."""

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import torch
from torch.nn.functional import cross_entropy

# isort: split
import checkpoint
import data
from model import DigitsNet


def refuse(sentence: str) -> NoReturn:
    """End with what the user can mend; 2 is the exit code of wrong usage."""
    print(f"train.py: {sentence}", file=sys.stderr)
    sys.exit(2)


# --- Arguments -----------------------------------------------------------------------------------
parser = argparse.ArgumentParser(description=__doc__)
parser.error = refuse
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--lr", type=float, default=3e-3, help="learning rate")
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same run")
parser.add_argument("--resume", metavar="PATH|auto", help="a checkpoint; auto: the newest in --out")
parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="default: runs/digits")
parser.add_argument("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto")
args = parser.parse_args()
if args.epochs < 1 or args.batch_size < 1:
    refuse("--epochs and --batch-size must be at least 1")
if not 0 < args.lr < math.inf or not 0 <= args.seed < 2**32:
    refuse("--lr must be a number above 0, --seed a whole number from 0 to 4294967295")

# --- Device --------------------------------------------------------------------------------------
usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
kind = next(kind for kind in usable if usable[kind]) if args.device == "auto" else args.device
if not usable[kind]:
    refuse(f"--device {kind} was asked for, but PyTorch finds no such GPU here")
device = torch.device(kind)
device_name = torch.cuda.get_device_name(device) if kind == "cuda" else kind
why = {"cuda": "a CUDA GPU was found", "mps": "an Apple GPU was found", "cpu": "no GPU was found"}
sys.stdout.reconfigure(line_buffering=True)  # Each line at once, into a pipe or a file as well.
print(f"device: {device_name} ({why[kind] if args.device == 'auto' else 'as asked for'})")

# --- Data ----------------------------------------------------------------------------------------
images, labels, test_images, test_labels = data.load(device)
steps_per_epoch = math.ceil(len(images) / args.batch_size)

# --- Model and optimizer -------------------------------------------------------------------------
torch.manual_seed(args.seed)
model = DigitsNet().to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)

# --- Resume: all that the next step depends on is in the checkpoint, or a function of the choices -
choices = {"--lr": args.lr, "--batch-size": args.batch_size, "--seed": args.seed}
step, history, sums = 0, [], torch.zeros(2, device=device)  # of loss and hits, in this epoch
checkpoints, metrics = args.out / "checkpoints", args.out / "metrics.jsonl"
try:
    path = checkpoint.latest(checkpoints) if args.resume == "auto" else args.resume
    if path is not None:
        saved = checkpoint.load(Path(path), map_location="cpu")
        for option, value in saved["choices"].items():
            if choices[option] != value:
                refuse(f"cannot resume {path}: its run had {option} {value}")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, history, sums = saved["step"], saved["history"], saved["sums"].to(device)
        checkpoint.restore_random_state(saved["random"], device)
        print(f"resumed {path}: {saved['epoch']} epochs and {step} steps are done")
except checkpoint.CheckpointError as exc:
    refuse(str(exc))
except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as exc:
    refuse(f"cannot resume {path}: it is of another model ({str(exc).splitlines()[-1].strip()})")
if step > args.epochs * steps_per_epoch:
    refuse(f"cannot resume {path}: its run is beyond --epochs {args.epochs} already")
newer = [other for at, other in checkpoint.checkpoints(checkpoints) if at > step]
if newer and args.resume != "auto":
    refuse(f"{newer[-1]} is of an earlier run: add --resume auto, or choose another --out")
try:
    checkpoints.mkdir(parents=True, exist_ok=True)
    metrics.write_text("".join(json.dumps(row) + "\n" for row in history))
except OSError as exc:
    refuse(f"cannot write to {args.out}: {exc.strerror}")

# --- Loop ----------------------------------------------------------------------------------------
received = []  # the signal that asks us to stop


def stop_after_this_step(number, frame) -> None:
    received.append(number)
    signal.signal(number, signal.SIG_DFL)  # A second Ctrl-C ends the run at once.


signal.signal(signal.SIGINT, stop_after_this_step)
signal.signal(signal.SIGTERM, stop_after_this_step)
for epoch in range(step // steps_per_epoch, args.epochs):
    model.train()
    batches = data.batches(len(images), args.batch_size, seed=args.seed, epoch=epoch)
    started, samples = time.perf_counter(), 0
    for batch in batches[step % steps_per_epoch :]:
        optimizer.zero_grad()
        scores = model(images[batch])
        loss = cross_entropy(scores, labels[batch])
        loss.backward()
        optimizer.step()
        step, samples = step + 1, samples + len(batch)
        # Summed up on the device: to read a number at every step would make a GPU wait for us.
        hits = (scores.argmax(1) == labels[batch]).sum()
        sums += torch.stack((loss.detach() * len(batch), hits))
        if received:
            break

    epochs_done = step // steps_per_epoch
    if step % steps_per_epoch == 0:
        mean_loss, accuracy = (sums / len(images)).tolist()
        sums = torch.zeros(2, device=device)
        speed = samples / (time.perf_counter() - started)
        row = {"epoch": epochs_done, "step": step, "loss": mean_loss, "accuracy": accuracy}
        history.append(row | {"samples_per_s": speed})
        with metrics.open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")
        progress = f"epoch {epochs_done}/{args.epochs}  step {step}  loss {mean_loss:.4f}"
        print(f"{progress}  accuracy {accuracy:.3f}  {speed:,.0f} samples/s")

    # --- Checkpoint: after each epoch, and when we are told to stop ------------------------------
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    state |= {"epoch": epochs_done, "sums": sums, "random": checkpoint.random_state(device)}
    state |= {"choices": choices, "history": history}
    try:
        checkpoint.save(checkpoints, step, state, device_name)
    except checkpoint.CheckpointError as exc:
        sys.exit(f"train.py: {exc}")
    if received:
        print(f"stopped after step {step}; go on with --resume auto", file=sys.stderr)
        sys.exit(128 + received[0])

# --- Evaluation ----------------------------------------------------------------------------------
model.eval()
with torch.no_grad():
    accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
print(f"test accuracy {accuracy:.3f}")
