"""How far the run is, for whoever watches: one line that changes, or a line now and then in a file."""

import sys
import time

from config import Config


class Progress:
    """Speed and remaining time, by what this process has done since it started."""

    def __init__(self, config: Config, steps_per_epoch: int) -> None:
        self.epochs = config.trainer.epochs
        self.total_steps = self.epochs * steps_per_epoch
        self.batch_size = config.data.batch_size
        self.done = 0
        self.on_terminal = sys.stderr.isatty()
        self.every_s = 0.2 if self.on_terminal else 30.0
        self.started = self.shown = time.monotonic()

    def step(self, step: int, loss: float, lr: float) -> None:
        """Count a step, and show it when it is time to."""
        self.done += 1
        now = time.monotonic()
        if now - self.shown < self.every_s:
            return
        self.shown = now
        left = int((self.total_steps - step) * (now - self.started) / self.done)
        line = (
            f"step {step}/{self.total_steps}  loss {loss:.4f}  lr {lr:.2e}"
            f"  {self.samples_per_s():,.0f} samples/s  {left // 60}:{left % 60:02} left"
        )
        # \r goes back to the start of the line, \033[K clears what was longer before.
        shown = f"\r{line}\033[K" if self.on_terminal else f"{line}\n"
        print(shown, end="", file=sys.stderr, flush=True)

    def epoch(self, epoch: int, step: int, row: dict[str, float]) -> None:
        """A line that stays."""
        if self.on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        shown = [name for name in row if name == "train_loss" or name.startswith("valid_")]
        means = "".join(f"  {name} {row[name]:.4f}" for name in shown)
        speed = f"{self.samples_per_s():,.0f} samples/s"
        print(f"epoch {epoch}/{self.epochs}  step {step}{means}  {speed}", flush=True)

    def samples_per_s(self) -> float:
        return self.done * self.batch_size / (time.monotonic() - self.started)
