"""How far the run is, for whoever watches: one line that changes, or a line now and then in a file."""

import sys
import time

EVERY_S = {True: 0.2, False: 30.0}
"""Seconds between lines, on a terminal and elsewhere."""


class Progress:
    """Speed and remaining time, by what this process has done since it started."""

    def __init__(self, total_steps: int, batch_size: int) -> None:
        self.total_steps = total_steps
        self.batch_size = batch_size
        self.done = 0
        self.started = self.shown = time.monotonic()
        self.on_terminal = sys.stderr.isatty()

    def step(self, step: int, loss: float, lr: float) -> None:
        """Count a step, and show it when it is time to."""
        self.done += 1
        now = time.monotonic()
        if now - self.shown < EVERY_S[self.on_terminal]:
            return
        self.shown = now
        per_step = (now - self.started) / self.done
        line = (
            f"step {step}/{self.total_steps}  loss {loss:.4f}  lr {lr:.2e}"
            f"  {self.samples_per_s():,.0f} samples/s"
            f"  {minutes((self.total_steps - step) * per_step)} left"
        )
        # \r goes back to the start of the line, \033[K clears what was longer before.
        print(
            f"\r{line}\033[K" if self.on_terminal else line,
            end="" if self.on_terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(line, flush=True)

    def samples_per_s(self) -> float:
        return self.done * self.batch_size / (time.monotonic() - self.started)


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
