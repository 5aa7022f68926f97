"""`python told.py TRUTH SCRIPT ARGS…`: SCRIPT, and all that it prints is told to TRUTH first.

TRUTH is a folder that outlives the machine. Each start writes a file of its own there,
`<attempt>-<process id>.jsonl`, a line `[time, text]` for each write, so that two starts of one attempt
are seen, and what a log lacks.
"""

import io
import json
import os
import runpy
import sys
import time


class Told(io.RawIOBase):
    """stdout or stderr, told first."""

    def __init__(self, path: str, handle: int) -> None:
        self._truth = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._handle = handle

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        line = json.dumps([time.time(), bytes(data).decode("latin-1")])
        os.write(self._truth, line.encode("ascii") + b"\n")
        return os.write(self._handle, data)


if __name__ == "__main__":
    truth, *sys.argv = sys.argv[1:]
    os.makedirs(truth, exist_ok=True)
    name = f"{os.environ['COLABDEV_ATTEMPT']}-{os.getpid()}.jsonl"
    path = os.path.join(truth, name)
    sys.stdout = io.TextIOWrapper(Told(path, 1), line_buffering=True)
    sys.stderr = io.TextIOWrapper(Told(path, 2), line_buffering=True)
    # Beside this file, wherever the code lies.
    runpy.run_path(os.path.join(sys.path[0], sys.argv[0]), run_name="__main__")
