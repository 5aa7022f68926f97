"""A job that goes on on another machine: from its code's archive, as a later attempt, in one log."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.agent import jobdir, tree
from colabdev.agent.ledger import Ledger
from colabdev.errors import ColabdevError, NoCode
from tests.support.carrying import Carried
from tests.support.pythons import find_python
from tests.support.waiting import wait_until

PYTHON = find_python("3.8") or Path(sys.executable)
"""The oldest that it must run on."""
MARKER = {"computer": "mine", "project": "/home/me/digits"}

SCRIPT = """import os, sys, time
from package import word
names = ("COLABDEV_ATTEMPT", "COLABDEV_RESUME_FROM")
print(word.WORD, sys.argv[1:], [os.environ.get(name) for name in names], flush=True)
open("made-by-the-job", "w").write("x")
while not os.path.exists("enough"):
    time.sleep(0.05)
"""


@pytest.fixture
def machines(tmp_path: Path, archive: AgentArchive) -> Iterator[tuple[Carried, Carried]]:
    """Two that share a Drive, and nothing else."""
    first, second = (Carried(tmp_path / name, archive, PYTHON) for name in "ab")
    second.drive.rmdir()
    second.drive.symlink_to(first.drive)
    second.attempt = 2
    yield first, second
    first.close()
    second.close()


def start_script(place: Carried) -> None:
    """A Python job of three files, frozen."""
    (place.workdir / "package").mkdir()
    (place.workdir / "package" / "word.py").write_text("WORD = 'frozen'\n")
    (place.workdir / "train.py").write_text(SCRIPT)
    (place.workdir / "train.py").chmod(0o755)
    (place.workdir / "link.py").symlink_to("train.py")
    own(place.workdir, ["package/word.py", "train.py", "link.py"])
    place.talk().request(
        "job.start",
        spec=place.spec(kind=jobdir.PYTHON, argv=["train.py", "-a"]),
        env={"TOKEN": "hunter2"},
        expect={"marker": MARKER},
    )


def own(workdir: Path, paths: list[str]) -> None:
    """Have the work dir as a sync leaves it."""
    ledger = Ledger(str(workdir))
    (workdir / tree.OURS).mkdir(exist_ok=True)
    ledger.claim(MARKER)
    for entry in tree.scan(str(workdir), paths, ledger.index).entries:
        ledger.baseline[entry.path] = entry.fingerprint
    ledger.changed = True
    ledger.save()


def later(place: Carried, first: Carried, resume_from: str | None = None) -> dict[str, Any]:
    """The spec of attempt 2 of the first one's job."""
    place.job = first.job
    argv = ["train.py", "-a", "--resume", "there"]
    return place.spec(kind=jobdir.PYTHON, argv=argv, resume_from=resume_from)


def code_of(place: Carried) -> tuple[str, bytes]:
    frames = list(place.talk().stream("job.code", id=place.job))
    content = b"".join(body for _, body in frames)
    assert frames[0][0]["size"] == len(content)
    return str(frames[0][0]["tree"]), content


def log_of(place: Carried) -> bytes:
    (place.workdir / "enough").touch()
    talk = place.talk()
    asked = {"id": place.job, "attempt": place.attempt, "offset": 0}
    _, begin = talk.exchange("job.follow", asked)
    return begin + talk.rest()[0]


def test_later_attempt_starts_from_the_code_that_the_first_was_frozen_from(
    machines: tuple[Carried, Carried],
) -> None:
    first, second = machines
    start_script(first)
    # What is edited meanwhile is not the job's.
    (first.workdir / "package" / "word.py").write_text("WORD = 'edited'\n")
    name, _ = code_of(first)
    run = first.stored / "run.json"
    wait_until(run.exists, message="no run record")
    told = json.loads(run.read_text())
    assert (told["code"], told["tree"], told["kind"]) == (name, name, "python")
    assert (told["argv"], told["typed"]) == (["train.py", "-a"], ["sh", "-c", "sleep 1000"])
    assert (told["variables"], told["requirements"]) == (["TOKEN"], None)
    assert "hunter2" not in run.read_text()
    assert told["ground"]["python"]
    assert told["ground"]["lock"] is None
    assert (first.drive / "colabdev" / "digits" / "code" / f"{name}.zip").exists()
    # The next machine has another GPU: that is no reason to stay, and it is written down.
    ground = first.stored / "attempts" / "1-ground.json"
    ground.write_text(json.dumps({"ground": {"gpu": "Tesla T4", "torch": "2.9.0"}}))
    smi = second.root / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho NVIDIA L4\n")
    smi.chmod(0o755)
    second.began = {"attempt": 1, "step": 10}
    spec = later(second, first, resume_from="/content/restored/step-10")
    asked = {"tree": name, "project": "digits", "drive_dir": str(second.drive)}
    # The new machine's work dir: data of its own, and a file that came after the job.
    (second.workdir / "later.py").write_text("")
    (second.workdir / "data").mkdir()
    own(second.workdir, ["later.py"])
    second.talk().request(
        "job.start", spec=spec, code=asked, expect={"marker": MARKER, "tree": "x"}
    )
    second.talk().request("job.start", spec=spec, code=asked, expect={"marker": MARKER})
    expected = "frozen ['-a', '--resume', 'there'] ['2', '/content/restored/step-10']\n"
    assert log_of(second).decode() == expected
    assert (second.workdir / "made-by-the-job").exists()
    with pytest.raises(ColabdevError, match="no such attempt here, but 2"):
        second.talk().request("job.follow", id=second.job, attempt=1, offset=0)
    with pytest.raises(ColabdevError, match="attempt 2 is there"):
        second.talk().request("job.start", spec={**spec, "attempt": 3}, code=asked)
    ground = second.stored / "attempts" / "2-ground.json"
    wait_until(ground.exists, message="nobody says on what it stands")
    assert json.loads(ground.read_text())["not_bit_exact"] == ["gpu was Tesla T4, is NVIDIA L4"]
    # Its own code can be had again, and is the same.
    kept = second.root / "home" / ".cache" / "colabdev" / "code" / f"{name}.zip"
    assert code_of(second) == (name, kept.read_bytes())


def test_code_that_is_nowhere_is_said_to_be_and_taken_from_the_client(
    machines: tuple[Carried, Carried],
) -> None:
    first, second = machines
    first.stores = ()
    start_script(first)
    name, content = code_of(first)
    spec = later(second, first)
    own(second.workdir, [])
    asked = {"tree": name, "project": "digits", "drive_dir": str(second.drive)}
    with pytest.raises(NoCode, match="it is not on Drive"):
        second.talk().request("job.start", spec=spec, code=asked, expect={"marker": MARKER})
    # A torn one on Drive is none.
    folder = second.drive / "colabdev" / "digits" / "code"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.zip").write_bytes(content[:-50])
    with pytest.raises(NoCode, match="it is not on Drive"):
        second.talk().request("job.start", spec=spec, code=asked, expect={"marker": MARKER})
    with pytest.raises(ColabdevError, match="not what it should be"):
        second.talk().upload("job.receive_code", content[:-10], tree=name)
    assert second.talk().upload("job.receive_code", content, tree=name) == {"tree": name}
    second.talk().request("job.start", spec=spec, code=asked, expect={"marker": MARKER})
    assert log_of(second).startswith(b"frozen ")
