"""Notebooks as jobs: executed by a Python that has nbclient, with a real kernel."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colabdev.agent import jobdir
from tests.agent.test_jobs import Bench, Talk, make_bench
from tests.support.waiting import wait_until


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, Path(sys.executable))
    yield bench
    bench.close()


def notebook(bench: Bench, path: str, *cells: str, **metadata: object) -> dict[str, object]:
    """A job that executes such a notebook."""
    document = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": metadata,
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "metadata": {},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for number, source in enumerate(cells)
        ],
    }
    file = bench.workdir / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))
    return bench.spec(path, kind=jobdir.NOTEBOOK)


def outputs(bench: Bench, path: str) -> list[Any]:
    document = json.loads((bench.workdir / path).read_text())
    return [cell["outputs"] for cell in document["cells"]]


def test_notebook_prints_as_it_goes_and_gets_its_outputs(bench: Bench) -> None:
    (bench.workdir / "sub").mkdir()
    (bench.workdir / "sub" / "beside.py").write_text("VALUE = 7")
    spec = notebook(
        bench,
        "sub/it's a.ipynb",
        "import beside, os, time\nprint(beside.VALUE, os.path.basename(os.getcwd()))",
        "print('begun', flush=True)\nwhile not os.path.exists('go'): time.sleep(.02)",
        "open('made', 'w').close()\n6 * 7",
        kernelspec={"name": "somebody's own", "language": "python", "display_name": "x"},
    )
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    assert read_until(talk, b"begun\n").startswith(b"7 sub\n")
    (bench.workdir / "sub" / "go").touch()
    log, status = talk.rest()
    assert (log, status["exit_code"]) == (b"42\n", 0)
    first, second, third = outputs(bench, "sub/it's a.ipynb")
    assert [output["text"] for output in first] == [["7 sub\n"]]
    assert [output["text"] for output in second] == [["begun\n"]]
    assert third[0]["data"]["text/plain"] == ["42"]
    left = set(os.listdir(bench.workdir / "sub")) - {"__pycache__"}
    assert left == {"beside.py", "go", "it's a.ipynb", "made"}


def read_until(talk: Talk, text: bytes) -> bytes:
    log = b""
    while text not in log:
        header, body = talk.next()
        assert "status" not in header, (log, header)
        log += body
    return log


def test_cell_that_fails_ends_it_with_1_and_a_traceback(bench: Bench) -> None:
    spec = notebook(bench, "bad.ipynb", "print('one')", "1 / 0", "print('never')")
    log, status = bench.finish(spec)
    assert (status["state"], status["exit_code"]) == ("failed", 1)
    assert log.startswith(b"one\n")
    assert b"ZeroDivisionError" in log
    assert b"\x1b" not in log, "colours are for terminals"
    assert b"never" not in log
    one, bad, never = outputs(bench, "bad.ipynb")
    assert (one[0]["name"], bad[0]["ename"], never) == ("stdout", "ZeroDivisionError", [])


def test_kernel_that_dies_ends_it_with_1(bench: Bench) -> None:
    spec = notebook(bench, "x.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    log, status = bench.finish(spec)
    assert (status["exit_code"], b"Kernel died" in log) == (1, True), log


def test_notebook_that_is_stopped_keeps_what_it_printed(bench: Bench) -> None:
    source = "import time\nfor n in range(10**6): print(n, flush=True); time.sleep(.05)"
    spec = notebook(bench, "long.ipynb", "import os; print(os.getpid(), flush=True)", source)
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    kernel = int(read_until(talk, b"\n").split()[0])
    read_until(talk, b"25\n")
    status = bench.talk().request("job.stop", id=spec["id"], grace_s=5)["status"]
    assert (status["state"], status["signal"]) == ("stopped", signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{kernel}").exists(), message="the kernel is gone")
    texts = [line for output in outputs(bench, "long.ipynb")[1] for line in output["text"]]
    assert texts[:26] == [f"{number}\n" for number in range(26)]


def test_edit_that_is_made_meanwhile_is_not_overwritten(bench: Bench) -> None:
    line = "while not os.path.exists('go'): time.sleep(.02)"
    source = f"import os, time\nprint('begun', flush=True)\n{line}"
    spec = {**notebook(bench, "edited.ipynb", source), "in_place": True}
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    read_until(talk, b"begun\n")
    (bench.workdir / "edited.ipynb").write_text("edited")
    (bench.workdir / "go").touch()
    log, status = talk.rest()
    assert status["exit_code"] == 0, log
    assert (bench.workdir / "edited.ipynb").read_text() == "edited"
    other = f"edited-{spec['id']}.ipynb"
    assert outputs(bench, other)[0][0]["text"] == ["begun\n"]
    assert other.encode() in log


def test_file_that_is_no_notebook_is_said(bench: Bench) -> None:
    text, spec = '{"cells": 1}', notebook(bench, "no.ipynb")
    (bench.workdir / "no.ipynb").write_text(text)
    log, status = bench.finish(spec)
    assert (status["exit_code"], b"no.ipynb is no notebook" in log) == (1, True), log
    assert (bench.workdir / "no.ipynb").read_text() == text
