"""`python trainer.py DIR SIZE INTERVAL_S SAVED [--in-place]`: what a training looks like from outside.

Every interval it writes a checkpoint of random bytes as `templates/pytorch/checkpoint.py` does, or with
--in-place a plain file as `torch.save` does; when one is whole, SAVED gets a line. It needs nothing but
the standard library, and goes on until it is killed.
"""

import hashlib
import json
import os
import sys
import time

STEPS_PER_S = 100


def main(directory: str, size: int, interval_s: float, saved: str, in_place: bool) -> None:
    """Until somebody kills us."""
    os.makedirs(directory, exist_ok=True)
    begun = time.monotonic()
    while True:
        time.sleep(interval_s)
        step = int((time.monotonic() - begun) * STEPS_PER_S)
        content = os.urandom(size)
        path = (
            save_in_place(directory, step, content) if in_place else save(directory, step, content)
        )
        line = {
            "step": step,
            "saved": time.time(),
            "path": path,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        with open(saved, "a") as file:
            file.write(json.dumps(line) + "\n")


def save(directory: str, step: int, content: bytes) -> str:
    """Whole or not there at all; the manifest last."""
    final = os.path.join(directory, f"step-{step:06d}")
    staging = os.path.join(directory, f".saving-{os.getpid()}")
    os.mkdir(staging)
    write(os.path.join(staging, "state.pt"), content)
    entry = {
        "path": "state.pt",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
    }
    manifest = {"step": step, "files": [entry]}
    write(os.path.join(staging, "MANIFEST.json"), json.dumps(manifest).encode("ascii"))
    os.rename(staging, final)
    return final


def save_in_place(directory: str, step: int, content: bytes) -> str:
    path = os.path.join(directory, f"step-{step:06d}.pt")
    write(path, content)
    return path


def write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--in-place"]
    main(words[0], int(words[1]), float(words[2]), words[3], "--in-place" in sys.argv)
