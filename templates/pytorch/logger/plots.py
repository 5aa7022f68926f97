"""What a run looks like: its curves, and what the network makes of some samples, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # Not pyplot: nobody looks at a window here.
from matplotlib.ticker import MaxNLocator
from torch import Tensor


def curves(rows: Sequence[dict[str, Any]], name: str, best: int, path: Path) -> None:
    """The means of each epoch by step, a panel for the loss and for each metric, the best marked."""
    epochs = [row for row in rows if "epoch" in row]
    steps = [row["step"] for row in epochs]
    keys = [key.removeprefix("valid_") for key in epochs[0] if key.startswith("valid_")]
    figure = Figure(figsize=(4.6 * len(keys), 4.2), layout="constrained")
    figure.suptitle(f"{name}: {len(epochs)} epochs of {steps[0]} steps")
    for panel, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        for part, style in (("train", "C7.--"), ("valid", "C0.-")):
            panel.plot(steps, [row[f"{part}_{key}"] for row in epochs], style, label=part)
        if best in steps:
            value = epochs[steps.index(best)][f"valid_{key}"]
            panel.plot(best, value, "C3*", markersize=12, label=f"best: {value:.4f} at step {best}")
            panel.axvline(best, color="C3", linewidth=0.8, alpha=0.5)
        panel.set(title=key.replace("_", " "), xlabel="step", ylabel=key.replace("_", " "))
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=120)


def predictions(pictures: Tensor, labels: Tensor, scores: Tensor, path: Path) -> None:
    """A grid of samples, each with what it is taken for, and how surely; mistakes in red."""
    columns = 8
    rows = -(-len(pictures) // columns)
    sure, guesses = scores.max(1)
    figure = Figure(figsize=(columns * 1.25, rows * 1.5 + 0.6), layout="constrained")
    hits = int((labels == guesses).sum())
    figure.suptitle(f"{hits} of these {len(labels)} test samples are right")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel in panels:
        panel.set_axis_off()
    for at, panel in zip(range(len(pictures)), panels, strict=False):
        grey = len(pictures[at]) == 1
        panel.imshow(pictures[at].permute(1, 2, 0), cmap="gray" if grey else None)
        right = bool(labels[at] == guesses[at])
        said = f"{guesses[at]}" if right else f"{guesses[at]}, not {labels[at]}"
        panel.set_title(f"{said}  {sure[at]:.0%}", color="C2" if right else "C3", fontsize=9)
    figure.savefig(path, dpi=120)
