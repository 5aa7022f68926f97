"""What a run tells: rows of JSON, TensorBoard where it is installed, and lines for who watches.

`metrics.jsonl` holds no times, so that a run that was interrupted writes the very same file.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, Self

from config import Config
from logger.progress import Progress


class RunLog:
    """The metrics of a run in its folder. The folder is local: event files on a Drive stay empty."""

    def __init__(self, folder: Path, config: Config, before: str, progress: Progress) -> None:
        """`before` is what the checkpoint has that the run goes on from: later rows are written anew."""
        self.text = before
        self.progress = progress
        self.every = config.trainer.log_every
        self.path = folder / "metrics.jsonl"
        self.path.write_text(before, encoding="utf-8")
        self.board = None
        if config.trainer.tensorboard and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            rows = self.rows()
            last = rows[-1]["step"] if rows else -1
            self.board = SummaryWriter(folder / "tensorboard", purge_step=last + 1)

    def step(self, step: int, loss: float, lr: float) -> None:
        self.progress.step(step, loss, lr)
        if step % self.every == 0:
            self.write(step=step, loss=loss, lr=lr)

    def epoch(self, step: int, epoch: int, row: dict[str, float], lr: float) -> None:
        self.write(step=step, epoch=epoch, **row, lr=lr)
        self.progress.epoch(epoch, step, row)

    def write(self, **row: Any) -> None:
        """A row with its `step`, and numbers by name."""
        line = json.dumps(row) + "\n"
        self.text += line
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        if self.board is not None:
            for name, value in row.items():
                # train_loss and valid_loss become loss/train and loss/valid: one chart for both.
                part, _, what = name.partition("_")
                tag = f"{what}/{part}" if part in ("train", "valid") else name
                self.board.add_scalar(tag, value, row["step"])

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()
