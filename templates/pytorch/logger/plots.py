"""What a run looks like: its curves, and what the network makes of some samples, as PNG files."""

import json
from pathlib import Path

import torch
from matplotlib.figure import Figure  # Not pyplot: nobody looks at a window here.
from matplotlib.ticker import MaxNLocator
from torch import nn

from data.datasets import Pictures


def curves(run: Path, best: int | None) -> None:
    """The means of each epoch by step, a panel for the loss and for each metric, the best marked."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    epochs = [row for row in rows if "epoch" in row]
    steps = [row["step"] for row in epochs]
    keys = [key.removeprefix("valid_") for key in epochs[0] if key.startswith("valid_")]
    figure = Figure(figsize=(4.6 * len(keys), 4.2), layout="constrained")
    figure.suptitle(f"{run.name}: {len(epochs)} epochs of {steps[0]} steps")
    for panel, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        for part, style in (("train", "C7.--"), ("valid", "C0.-")):
            panel.plot(steps, [row[f"{part}_{key}"] for row in epochs], style, label=part)
        if best in steps:
            value = epochs[steps.index(best)][f"valid_{key}"]
            panel.plot(best, value, "C3*", markersize=12, label=f"best: {value:.4f} at step {best}")
        panel.set(title=key.replace("_", " "), xlabel="step", ylabel=key.replace("_", " "))
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(run / "curves.png", dpi=120)


def predictions(run: Path, model: nn.Module, samples: Pictures, device: torch.device) -> None:
    """The samples that the network is least sure of, each with what it is taken for."""
    pictures, labels = samples.pictures[:1000], samples.labels[:1000]
    with torch.no_grad():
        sure, guesses = model.eval()(pictures.to(device)).softmax(1).cpu().max(1)
    figure = Figure(figsize=(10.4, 6.7), layout="constrained")
    figure.suptitle(
        f"The least sure of {len(labels)} test samples, of which {(labels == guesses).sum()} are"
        " right; mistakes in red"
    )
    for panel, at in zip(figure.subplots(4, 8).flat, sure.argsort(), strict=False):
        panel.imshow(pictures[at].permute(1, 2, 0), cmap="gray")  # a map for those without colours
        is_right = bool(labels[at] == guesses[at])
        said = f"{guesses[at]}" if is_right else f"{guesses[at]}, not {labels[at]}"
        panel.set_title(f"{said}  ({sure[at]:.0%})", color="k" if is_right else "C3", fontsize=9)
        panel.set(xticks=[], yticks=[])
    figure.savefig(run / "predictions.png", dpi=120)
