"""`python train.py STEPS PAUSE_S ENOUGH [--resume PATH]`: a training that resumes exactly.

Its weights are a hash over the steps that were done, so that they tell whether each was done once and
in order. It pauses after each step until the file ENOUGH is there. Where it runs, `saving.py` beside it
is `tests/support/drive/trainer.py`. Nothing but the standard library.
"""

import hashlib
import os
import shutil
import sys
import time

try:
    import saving  # type: ignore[import-not-found]
except ImportError:
    from tests.support.drive import trainer as saving

SAVE_EVERY = 10
CHECKPOINTS = os.path.join("runs", "a", "checkpoints")


def learned(weights: bytes, step: int) -> bytes:
    """The weights after that step."""
    return hashlib.sha256(weights + b"%d" % step).digest()


def trained(steps: int) -> str:
    """What an uninterrupted run ends with."""
    weights = b""
    for step in range(1, steps + 1):
        weights = learned(weights, step)
    return weights.hex()


def main(steps: int, pause_s: float, enough: str, resume: str) -> None:
    done, weights = loaded(resume) if resume else (0, b"")
    print("begins after step", done)
    for step in range(done + 1, steps + 1):
        weights = learned(weights, step)
        print("step", step)
        if step % SAVE_EVERY == 0 or step == steps:
            saving.save(CHECKPOINTS, step, b"%d " % step + weights * 600)
            print("saved", step)
            prune()
        if not os.path.exists(enough):
            time.sleep(pause_s)
    print("ends with", weights.hex())


def prune() -> None:
    """All but the newest three of them."""
    for name in sorted(name for name in os.listdir(CHECKPOINTS) if name.startswith("step-"))[:-3]:
        shutil.rmtree(os.path.join(CHECKPOINTS, name))


def loaded(checkpoint: str) -> tuple[int, bytes]:
    with open(os.path.join(checkpoint, "state.pt"), "rb") as file:
        step, _, weights = file.read().partition(b" ")
    return int(step), weights[:32]


if __name__ == "__main__":
    _, steps, pause_s, enough, *more = sys.argv
    os.makedirs(CHECKPOINTS, exist_ok=True)
    main(int(steps), float(pause_s), enough, more[-1] if more else "")
