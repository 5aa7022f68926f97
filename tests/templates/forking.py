"""Runs scripts of the templates and their tests: `python forking.py`, by a Python that has PyTorch.

What takes long to import is imported once; each run is a fork of that, which then is as `python SCRIPT`
or `python -m MODULE` would be. A line of JSON on stdin asks for one, `{"folder", "arguments"}`; a line
tells how it ended, `{"status", "output"}`.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from typing import Any

SLOW = ("torch._dynamo", "torch.utils.data", "sklearn.datasets", "lightning", "PIL.Image")


def serve() -> None:
    for name in SLOW:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        output, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            become(request, theirs)
            return
        os.close(theirs)
        with open(output, "rb") as file:
            text = file.read().decode()
        _, status = os.waitpid(child, 0)
        ended = {"status": os.waitstatus_to_exitcode(status), "output": text}
        print(json.dumps(ended), flush=True)


def become(request: dict[str, Any], output: int) -> None:
    os.chdir(request["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.argv = request["arguments"]
    sys.path[0] = request["folder"]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    serve()
