"""Executes a notebook: what its cells print goes to stdout as it comes, their outputs into the notebook.

`python3 notebook.py NOTEBOOK FOLDER` with the Python of the job, which has nbclient; FOLDER is where the
kernel runs. A copy of this file lies in the job's directory. The notebook is written again after each
cell, and while one prints, so that a kill at any moment loses little; never over somebody's edit.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional, Tuple

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LONGEST_SOCKET_PLACE = 80
"""In bytes; a socket's whole name has at most some 100."""
_SAVE_S = 1.0
_SAVING_SHARE = 20
"""Of the time that it takes to print: a large notebook is written more rarely."""


class Copy:
    """The notebook on the disk."""

    def __init__(self, path: str, content: Any) -> None:
        self._path = os.path.realpath(path)
        self._content = content
        self._look = _look(self._path)
        self._next = 0.0

    def save_sometimes(self) -> None:
        """`save`, unless that was done just now."""
        if time.monotonic() >= self._next:
            self.save()

    def save(self) -> None:
        """Replace the file, or write another one beside it when somebody edited it meanwhile."""
        begun = time.monotonic()
        if _look(self._path) != self._look:
            stem, suffix = os.path.splitext(self._path)
            self._path = "{}-{}{}".format(stem, os.environ.get("COLABDEV_JOB", "job"), suffix)
            _say("the notebook was edited meanwhile; the outputs are in " + self._path)
        staging = "{}.colabdev-{}".format(self._path, os.getpid())
        try:
            with open(staging, "w", encoding="utf-8") as file:
                importlib.import_module("nbformat").write(self._content, file)
            os.replace(staging, self._path)
        except OSError as exc:
            _say("cannot write the outputs: {}".format(exc))
        finally:
            if os.path.exists(staging):
                os.unlink(staging)
        self._look = _look(self._path)
        now = time.monotonic()
        self._next = now + max(_SAVE_S, _SAVING_SHARE * (now - begun))


def main(path: str, folder: str) -> int:
    """The exit status: 1 when a cell failed or nothing could be executed."""
    nbformat, nbclient = (importlib.import_module(name) for name in ("nbformat", "nbclient"))
    try:
        content = nbformat.read(path, as_version=4)
    except Exception as exc:  # noqa: BLE001  Whatever it raises, it is no notebook.
        _say("{} is no notebook: {}".format(path, exc))
        return 1
    copy = Copy(path, content)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, frame: _end_by(caught, copy))
    client = nbclient.NotebookClient(
        content, timeout=None, record_timing=False, resources={"metadata": {"path": folder}}
    )
    if client.has_trait("coalesce_streams"):  # Older ones leave an output for each line.
        client.coalesce_streams = True
    take = client.process_message

    def show_and_take(message: Dict[str, Any], *where: Any) -> Any:
        taken = take(message, *where)
        _show(message["msg_type"], message["content"])
        copy.save_sometimes()
        return taken

    client.process_message = show_and_take
    sockets = tempfile.mkdtemp()
    if _is_python(content):
        _use_own_python(client, os.path.dirname(path), sockets)
    try:
        with client.setup_kernel():
            for at, cell in enumerate(content.cells):
                client.execute_cell(cell, at)
                copy.save_sometimes()
    except nbclient.exceptions.CellExecutionError:
        return 1  # What it says was shown when it happened.
    except Exception as exc:  # noqa: BLE001  A kernel that dies, or is not there at all.
        _say("cannot go on with the notebook: {}".format(exc))
        return 1
    finally:
        copy.save()
        shutil.rmtree(sockets, ignore_errors=True)
    return 0


def _end_by(number: int, copy: Copy) -> None:
    """Keep what there is, then end as one ends by that signal."""
    copy.save()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _is_python(content: Any) -> bool:
    kernel = content.metadata.get("kernelspec") or {}
    return str(kernel.get("language", "python")).lower() == "python"


def _use_own_python(client: Any, code: str, sockets: str) -> None:
    """Run the cells by the Python that we run by, whatever the author's kernel is called, and take
    modules from where the notebook's own code is frozen."""
    client.kernel_name = "python3"
    kernel = client.create_kernel_manager()
    kernel.connection_file = os.path.join(sockets, "kernel.json")
    if len(os.fsencode(sockets)) <= _LONGEST_SOCKET_PLACE:
        kernel.transport = "ipc"  # Not by ports, which everybody on the machine could try.
    kernel.kernel_spec.argv = [
        sys.executable,
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
        "--log-level=ERROR",  # Else it says of ports that they are ports.
        "--InteractiveShellApp.ignore_cwd=True",
    ]
    paths = [code, os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def _show(kind: str, content: Dict[str, Any]) -> None:
    """What a cell prints, as far as it is text."""
    stream, text = sys.stdout, None  # type: Any, Optional[str]
    if kind == "stream":
        stream = sys.stderr if content.get("name") == "stderr" else sys.stdout
        text = _text(content.get("text"))
    elif kind in ("execute_result", "display_data"):
        text = _text((content.get("data") or {}).get("text/plain"))
        text = text and text + "\n"
    elif kind == "error":
        stream, text = sys.stderr, "\n".join(content.get("traceback") or []) + "\n"
    if text:
        stream.write(text if stream.isatty() else _ESCAPES.sub("", text))
        stream.flush()


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else value or ""


def _look(path: str) -> Optional[Tuple[int, int]]:
    try:
        seen = os.stat(path)
    except FileNotFoundError:
        return None
    return seen.st_size, seen.st_mtime_ns


def _say(words: str) -> None:
    sys.stdout.flush()
    sys.stderr.write("colabdev: {}\n".format(words))
    sys.stderr.flush()


def _started(arguments: List[str]) -> int:
    sys.path[:1] = []  # Else the job's directory, where this copy lies, would be looked in first.
    return main(*arguments)


if __name__ == "__main__":
    sys.exit(_started(sys.argv[1:]))
