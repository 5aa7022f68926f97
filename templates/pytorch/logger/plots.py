"""What a run looks like: its curves, and what the network makes of some samples, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # Not pyplot: nobody looks at a window here.
from torch import Tensor


def curves(rows: Sequence[dict[str, Any]], name: str, best_step: int | None, path: Path) -> None:
    """The means of each epoch by step: losses on the left, metrics on the right."""
    epochs = [row for row in rows if "valid_loss" in row]
    steps = [row["step"] for row in epochs]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(f"{name}: {len(epochs)} epochs, {steps[-1]} steps")
    axes = dict(zip(("loss", "metric"), figure.subplots(1, 2), strict=True))
    for key in epochs[0]:
        part, _, what = key.partition("_")
        if part in ("train", "valid"):
            panel = axes["loss" if what == "loss" else "metric"]
            style = {"train": "--", "valid": "-"}[part]
            panel.plot(steps, [row[key] for row in epochs], style, marker=".", label=key)
    for title, panel in axes.items():
        panel.set(title=title.capitalize(), xlabel="step", ylabel=title)
        panel.grid(alpha=0.3)
        if best_step is not None:
            panel.axvline(best_step, color="grey", linewidth=0.8)
            panel.annotate(
                f"best: step {best_step}",
                (best_step, 0.5),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="right",
                va="center",
                fontsize=8,
            )
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def predictions(pictures: Tensor, labels: Tensor, predicted: Tensor, path: Path) -> None:
    """A grid of samples, each with what it is taken for; mistakes in red, with what is right."""
    columns = 8
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(columns * 1.2, rows * 1.4 + 0.4), layout="constrained")
    hits = int((labels == predicted).sum())
    figure.suptitle(f"{hits} of {len(labels)} of these test samples are right")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for panel in grid:
        panel.set_axis_off()
    for panel, picture, label, guess in zip(grid, pictures, labels, predicted, strict=False):
        panel.imshow(picture.permute(1, 2, 0), cmap="gray" if len(picture) == 1 else None)
        right = bool(label == guess)
        panel.set_title(
            f"{guess}" if right else f"{guess}, not {label}",
            color="black" if right else "red",
            fontsize=9,
        )
    figure.savefig(path, dpi=120)
