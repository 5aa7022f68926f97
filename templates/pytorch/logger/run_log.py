"""What a run tells: rows of JSON, TensorBoard where it is installed, and lines for who watches.

`metrics.jsonl` holds no times, so that a run that was interrupted writes the very same file.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any, Self

from config import Config


class RunLog:
    """The metrics of a run in its folder. The folder is local: event files on a Drive stay empty."""

    def __init__(self, folder: Path, config: Config, before: str, step: int, steps: int) -> None:
        """`before` is what the checkpoint has that the run goes on from: later rows are written anew."""
        self.config, self.first, self.steps = config, step, steps
        self.lines = before.splitlines(keepends=True)
        self.file = (folder / "metrics.jsonl").open("w", encoding="utf-8", buffering=1)
        self.file.write(before)
        self.started = self.shown = time.monotonic()
        # On a terminal a line that changes, cleared from \r to \033[K; in a file a line now and then.
        on_terminal = sys.stderr.isatty()
        self.every_s, self.clear, self.end = (
            (0.2, "\r\033[K", "") if on_terminal else (30, "", "\n")
        )
        self.board = None
        if config.trainer.tensorboard and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def step(self, step: int, loss: float, lr: float) -> None:
        now = time.monotonic()
        if now - self.shown >= self.every_s:
            self.shown = now
            per_s = (step - self.first) / (now - self.started)
            left = int((self.steps - step) / per_s)
            line = f"step {step}/{self.steps}  loss {loss:.4f}  lr {lr:.2e}"
            line += f"  {per_s * self.config.data.batch_size:,.0f} samples/s"
            line += f"  {left // 60}:{left % 60:02} left"
            print(self.clear + line, end=self.end, file=sys.stderr, flush=True)
        if step % self.config.trainer.log_every == 0:
            self.write(step=step, loss=loss, lr=lr)

    def epoch(self, step: int, epoch: int, means: dict[str, float], lr: float) -> None:
        self.write(step=step, epoch=epoch, **means, lr=lr)
        shown = "".join(f"  {name} {mean:.4f}" for name, mean in means.items())
        print(self.clear, end="", file=sys.stderr, flush=True)
        print(f"epoch {epoch}/{self.config.trainer.epochs}  step {step}{shown}")

    def write(self, **row: Any) -> None:
        """A row with its `step`, and numbers by name."""
        self.lines.append(json.dumps(row) + "\n")
        self.file.write(self.lines[-1])
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, row["step"])

    def text(self) -> str:
        return "".join(self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()
