"""What a sync costs: changes of large files, renames, copies, outputs, and what a cut left behind."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from colabdev.adapters.block_files import BlockFiles
from colabdev.adapters.project_tree import ProjectTree
from colabdev.agent import blocks
from colabdev.core.reconcile import Mode, Prefer
from colabdev.errors import ColabdevError, RuntimeUnreachable
from colabdev.services.exchange import SyncOptions
from colabdev.services.transfer import Transfer
from tests.services.test_sync_properties import cut_off
from tests.support.piped import PipedProject
from tests.support.syncing import look

MB = 1024 * 1024
NOISE = random.Random(1).randbytes(8 * MB)
FRESH = random.Random(2).randbytes(MB)
SLACK = 64 * 1024
"""What a patch may cost beside the bytes that are new: blocks at the edges, hashes, frames."""

CHANGES: list[tuple[str, Callable[[bytes], bytes], int]] = [
    ("overwrite", lambda old: old[:3_000_001] + FRESH + old[3_000_001 + MB :], MB),
    ("insert", lambda old: old[:3_000_001] + FRESH + old[3_000_001:], MB),
    ("append", lambda old: old + FRESH, MB),
    ("cut out", lambda old: old[:3_000_001] + old[5_000_000:], 0),
    ("two overwrites", lambda old: b"x" + old[1:7_000_000] + b"y" + old[7_000_001:], 0),
    ("two inserts", lambda old: old[:MB] + b"one" + old[MB : 6 * MB] + b"three" + old[6 * MB :], 0),
    (
        "three inserts",
        lambda old: b"1" + old[:MB] + b"22" + old[MB : 6 * MB] + b"3" + old[6 * MB :],
        0,
    ),
]


@pytest.fixture
def project(tmp_path: Path) -> PipedProject:
    return PipedProject(tmp_path / "project", outputs=("runs/", "*.png"))


def equal(project: PipedProject) -> bool:
    return look(project.local) == look(project.remote)


@pytest.mark.parametrize("side", ["local", "remote"])
@pytest.mark.parametrize(("change", "fresh"), [case[1:] for case in CHANGES], ids=lambda c: "")
def test_small_change_of_a_large_file_costs_about_the_change(
    project: PipedProject, side: str, change: Callable[[bytes], bytes], fresh: int
) -> None:
    (project.local / "large").write_bytes(NOISE)
    project.sync()
    place = project.local if side == "local" else project.remote
    (place / "large").write_bytes(change(NOISE))
    report = project.sync()
    assert equal(project)
    hashes = 2 * len(NOISE) // 512  # Those of the old version go along when it changed there.
    assert report.wire_bytes < fresh + SLACK + (hashes if side == "remote" else 0)
    assert report.sent_bytes + report.received_bytes < fresh + SLACK + MB * 8 * (side == "remote")


def test_small_change_of_a_large_file_goes_in_one_trip(project: PipedProject) -> None:
    (project.local / "large").write_bytes(NOISE)
    project.sync()
    (project.local / "large").write_bytes(NOISE[:MB] + b"!" + NOISE[MB:])
    project.sync()
    assert equal(project)
    assert project.pipes[-1].trips == 1


def test_blocks_of_another_file_cost_a_trip_and_no_wrong_byte(project: PipedProject) -> None:
    """Whatever this computer remembers of a file, what arrives is proved by its digest."""
    (project.local / "large").write_bytes(NOISE)
    (project.local / "other").write_bytes(NOISE[::-1])
    project.sync()
    (directory,) = (project.root / "indexes").glob("*.blocks")
    cache = BlockFiles(directory)
    _, wrong = blocks.sign(str(project.local / "other"))
    for file in directory.iterdir():
        cache.save(file.name, wrong)
    (project.local / "large").write_bytes(NOISE[::-1] + b"!")
    report = project.sync()
    assert (report.problems, equal(project)) == ((), True)


def test_file_that_has_nothing_in_common_is_sent_whole(project: PipedProject) -> None:
    (project.local / "large").write_bytes(NOISE[: 2 * MB])
    project.sync()
    (project.local / "large").write_bytes(NOISE[2 * MB : 4 * MB])
    assert project.sync().sent_bytes == 2 * MB
    assert equal(project)


@pytest.mark.parametrize("side", ["local", "remote"])
def test_what_moved_or_was_copied_costs_no_payload(project: PipedProject, side: str) -> None:
    for number in range(20):
        file = project.local / "old" / f"f{number}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(NOISE[number * MB // 4 :][:300_000])
    project.sync()
    place = project.local if side == "local" else project.remote
    (place / "old").rename(place / "new")
    (place / "copy").write_bytes(NOISE[:300_000])
    report = project.sync()
    assert equal(project)
    assert report.sent_bytes == report.received_bytes == 0
    assert report.wire_bytes < 20_000
    assert project.sync().actions == ()


def test_files_that_change_places_arrive(project: PipedProject) -> None:
    (project.local / "a").write_bytes(NOISE[:1000])
    (project.local / "b").write_bytes(NOISE[1000:3000])
    project.sync()
    for side in (project.local, project.remote):
        (side / "a").rename(side / "c")
        (side / "b").rename(side / "a")
        (side / "c").rename(side / "b")
        project.sync()
        assert equal(project)
        assert len((project.local / "a").read_bytes()) == (2000 if side == project.local else 1000)


def test_known_types_are_not_compressed_and_others_are(project: PipedProject) -> None:
    (project.local / "a.zip").write_bytes(bytes(MB))
    assert project.sync().wire_bytes > MB
    (project.local / "b.txt").write_bytes(bytes(MB + 1))
    assert project.sync().wire_bytes < 20_000


def test_first_sync_costs_a_trip_that_is_asked_ahead_and_one_to_send(project: PipedProject) -> None:
    (project.local / ".gitignore").write_text("*.log\n")
    (project.local / "a").write_bytes(b"first")
    for _ in range(2):
        report = project.sync()
        assert (len(report.sent), project.pipes[-1].trips) == (2, 2)
        assert project.sync().actions == ()
        assert project.pipes[-1].trips == 1  # By now the runtime knows the rules.
        shutil.rmtree(project.remote)  # A new machine, or one whose folder somebody removed.


# --- outputs -------------------------------------------------------------------------------------


def write(root: Path, path: str, content: bytes) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_outputs_come_home_though_ignored_and_are_never_sent(project: PipedProject) -> None:
    write(project.local, ".gitignore", b"runs/\n*.tmp\n")
    write(project.local, "runs/mine", b"mine")
    write(project.local, "logo.png", b"mine")
    project.sync()
    assert not (project.remote / "runs").exists()
    for path in ("runs/1/model.pt", "runs/1/x.tmp", "deep/plot.png"):
        write(project.remote, path, path.encode())
    report = project.sync()
    assert [action.path for action in report.received] == [
        *("deep/plot.png", "runs/1/model.pt", "runs/1/x.tmp")
    ]
    assert (project.local / "runs/1/model.pt").read_bytes() == b"runs/1/model.pt"
    assert project.sync().actions == ()
    # What goes there is not deleted here, and what was deleted here does not come again ...
    (project.remote / "runs/1/model.pt").unlink()
    (project.local / "deep/plot.png").unlink()
    assert project.sync().actions == ()
    assert (project.local / "runs/1/model.pt").exists()
    # ... unless it changes.
    write(project.remote, "deep/plot.png", b"another")
    project.sync()
    assert (project.local / "deep/plot.png").read_bytes() == b"another"
    assert not (project.remote / "runs/mine").exists()


def test_output_that_was_edited_here_is_a_conflict(project: PipedProject) -> None:
    write(project.remote, "runs/out", b"first")
    project.sync()
    write(project.remote, "runs/out", b"second")
    project.sync()
    assert (project.local / "runs/out").read_bytes() == b"second"
    write(project.local, "runs/out", b"mine")
    write(project.remote, "runs/out", b"third")
    report = project.sync()
    assert [conflict.path for conflict in report.conflicts] == ["runs/out"]
    assert (project.local / "runs/out").read_bytes() == b"mine"
    project.sync(SyncOptions(mode=Mode(Prefer.LOCAL)))
    assert (project.sync().conflicts, (project.local / "runs/out").read_bytes()) == ((), b"mine")
    write(project.remote, "runs/out", b"fourth")
    project.sync(SyncOptions(mode=Mode(Prefer.REMOTE)))
    assert (project.local / "runs/out").read_bytes() == b"fourth"


@pytest.fixture(params=["sent", "received", "output"])
def cut(project: PipedProject, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A transfer of a large file that was cut after 5 MB: where the file is to be, and its part."""
    path = "runs/model" if request.param == "output" else "model"
    sides = project.local, project.remote
    here, there = sides if request.param == "sent" else sides[::-1]
    write(here, path, NOISE)
    project.cut_after = 5 * MB
    with pytest.raises(RuntimeUnreachable):
        project.sync()
    assert not (there / path).exists()
    project.cut_after = 10**12
    (part,) = (there / ".colabdev/staging").iterdir()
    return there / path, part


def test_large_file_goes_on_where_a_cut_left_it(
    project: PipedProject, cut: tuple[Path, Path]
) -> None:
    report = project.sync()
    assert cut[0].read_bytes() == NOISE
    assert report.wire_bytes < 4.5 * MB
    assert not (project.local / ".colabdev").exists()
    assert not (project.remote / ".colabdev/staging").exists()


def test_rest_of_a_cut_that_is_damaged_is_sent_again(
    project: PipedProject, cut: tuple[Path, Path]
) -> None:
    with cut[1].open("r+b") as file:
        file.write(b"damaged")
    assert project.sync().is_complete
    assert cut[0].read_bytes() == NOISE


def test_rest_of_a_cut_goes_when_the_file_became_another(
    project: PipedProject, cut: tuple[Path, Path]
) -> None:
    place = cut[0].name
    for side in (project.local, project.remote):
        for file in side.rglob(place):
            file.write_bytes(NOISE[: 5 * MB])
    assert project.sync().is_complete
    assert cut[0].read_bytes() == NOISE[: 5 * MB]
    assert not (project.remote / ".colabdev/staging").exists()


def test_large_patch_goes_on_where_a_cut_left_it(project: PipedProject) -> None:
    write(project.local, "model", NOISE[:MB])
    project.sync()
    write(project.local, "model", NOISE)
    project.cut_after = 5 * MB
    with pytest.raises(RuntimeUnreachable):
        project.sync()
    project.cut_after = 10**12
    report = project.sync()
    assert equal(project)
    assert report.wire_bytes < 3.5 * MB


def test_any_path_can_be_fetched(project: PipedProject) -> None:
    write(project.local, ".gitignore", b"logs/\n")
    write(project.local, "a.py", b"1")
    project.sync()
    write(project.remote, "logs/deep/x", b"log")
    write(project.remote, "other", b"not asked for")
    report = project.sync(pulled="logs")
    assert [action.path for action in report.received] == ["logs/deep/x"]
    assert (project.local / "logs/deep/x").read_bytes() == b"log"
    assert not (project.local / "other").exists()
    assert project.sync(pulled="logs").actions == ()
    # What grew comes again, what was edited here does not.
    write(project.remote, "logs/deep/x", b"log grew")
    project.sync(pulled="logs/deep/x")
    assert (project.local / "logs/deep/x").read_bytes() == b"log grew"
    write(project.local, "logs/deep/x", b"mine")
    write(project.remote, "a.py", b"2")
    assert len(project.sync(pulled="logs").conflicts) == 1
    # A file of the project that was fetched is what both sides have.
    assert len(project.sync(pulled="a.py").received) == 1
    assert {action.path for action in project.sync().actions} == {"other"}
    with pytest.raises(ColabdevError, match="nothing of that name"):
        project.sync(pulled="nowhere")


def test_mode_of_a_file_here_stays(project: PipedProject) -> None:
    write(project.local, "secret", b"1").chmod(0o600)
    project.sync()
    write(project.remote, "secret", b"2")
    project.sync()
    assert (project.local / "secret").read_bytes() == b"2"
    assert os.stat(project.local / "secret").st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "then", ["edited there", "deleted there", "edited on both", "reverted there"]
)
def test_file_that_came_in_a_sync_that_was_cut_is_what_both_had(
    project: PipedProject, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    write(project.local, "a", b"first")
    write(project.local, "b", b"first")
    project.sync()
    for name in ("a", "b"):
        write(project.remote, name, b"second")
    with monkeypatch.context() as patch:
        patch.setattr(Transfer, "send", cut_off)
        with pytest.raises(RuntimeUnreachable):
            project.sync()
        with pytest.raises(RuntimeUnreachable):
            project.sync()  # What was said once is not forgotten by being asked for.
    assert (project.local / "a").read_bytes() == b"second"
    if then == "deleted there":
        (project.remote / "a").unlink()
    else:
        write(project.remote, "a", b"first" if then == "reverted there" else b"third")
    if then == "edited on both":
        write(project.local, "a", b"mine")
    report = project.sync()
    assert [conflict.path for conflict in report.conflicts] == ["a"] * (then == "edited on both")
    if then != "edited on both":
        assert equal(project)
        assert (project.local / "a").exists() == (then != "deleted there")
        assert project.sync().actions == ()
        assert project.pipes[-1].trips == 1


def test_mode_link_and_copy_of_a_sync_that_was_cut_are_what_both_had(
    project: PipedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project.local, "a", b"first")
    (project.local / "link").symlink_to("a")
    project.sync()

    def edit(mode: int, target: str, content: bytes) -> None:
        write(project.remote, "a", b"first" + content).chmod(mode)
        (project.remote / "link").unlink()
        (project.remote / "link").symlink_to(target)
        write(project.remote, "copy", b"long enough" * 10 + content)

    write(project.local, "source", b"long enough" * 10)
    project.sync()
    edit(0o755, "b", b"")
    with monkeypatch.context() as patch:
        patch.setattr(Transfer, "send", cut_off)
        with pytest.raises(RuntimeUnreachable):
            project.sync()
    assert (project.local / "copy").exists()
    edit(0o644, "c", b"more")
    assert project.sync().conflicts == ()
    assert equal(project)


def test_what_came_before_a_cut_is_remembered_though_later_ones_did_not_come(
    project: PipedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project.local, "a", b"first")
    project.sync()
    for content, step in ((b"second", "send"), (b"third", "receive"), (b"fourth", "receive")):
        write(project.remote, "a", content)
        with monkeypatch.context() as patch:
            if step == "receive":  # The runtime sends it, and nothing of it arrives here.
                patch.setattr(ProjectTree, "write", lambda tree, steps: cut_off(*steps.changes()))
            else:
                patch.setattr(Transfer, step, cut_off)
            with pytest.raises(RuntimeUnreachable):
                project.sync()
    assert (project.local / "a").read_bytes() == b"second"
    write(project.remote, "a", b"last")
    assert project.sync().conflicts == ()
    assert (project.local / "a").read_bytes() == b"last"


def test_file_that_is_edited_there_while_it_comes_home_is_no_conflict(
    project: PipedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project.local, "a", b"first")
    project.sync()
    write(project.remote, "a", b"second")
    sent = Transfer.send

    def edited_before(*arguments: object) -> object:
        write(project.remote, "a", b"third")
        return sent(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Transfer, "send", edited_before)
        assert project.sync().conflicts == ()
    report = project.sync()
    assert (report.conflicts, (project.local / "a").read_bytes()) == ((), b"third")
