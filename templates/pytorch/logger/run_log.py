"""What a run tells: a line of JSON for each row, and TensorBoard where it is installed.

`metrics.jsonl` holds no times, so that a run that was interrupted writes the very same file.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, Self


class RunLog:
    """The metrics of a run in its folder. The folder is local: event files on a Drive stay empty."""

    def __init__(self, folder: Path, before: str, *, tensorboard: bool) -> None:
        """`before` is what the checkpoint has that the run goes on from: later rows are written anew."""
        self.text = before
        self.path = folder / "metrics.jsonl"
        self.path.write_text(before, encoding="utf-8")
        self.board = None
        if tensorboard and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            rows = self.rows()
            self.board = SummaryWriter(
                folder / "tensorboard", purge_step=rows[-1]["step"] + 1 if rows else 0
            )

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
                tag = f"{what}/{part}" if part in ("train", "valid", "test") else name
                self.board.add_scalar(tag, value, row["step"])

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()
