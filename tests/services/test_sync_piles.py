"""A folder of checkpoints is not sent, or brought home, by accident."""

from __future__ import annotations

from pathlib import Path

from tests.support.piped import PipedProject
from tests.support.syncing import look


def fill(folder: Path, count: int, suffix: str = ".pt", size: int = 400_000) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"step-{number}{suffix}").write_bytes(number.to_bytes(2, "big") * (size // 2))


def test_checkpoints_that_are_large_together_are_named_on_either_side(tmp_path: Path) -> None:
    project = PipedProject(tmp_path, max_bytes=1_000_000)
    fill(project.local / "few", 2)
    fill(project.local / "pictures", 5, ".raw")
    fill(project.local / "many", 5)
    (project.local / "many/notes.txt").write_text("sent")
    fill(project.remote / "there", 3, ".safetensors")
    report = project.sync()
    many = {f"many/step-{number}.pt" for number in range(5)}
    there = {f"there/step-{number}.safetensors" for number in range(3)}
    assert {path for path, _ in report.problems} == many | there
    reason = dict(report.problems)["many/step-0.pt"]
    assert "one of 5 checkpoints in one folder, 2 MB" in reason
    assert "colabdev sync --max-size 2M takes them along" in reason
    assert "/many/*.pt in .colabdevignore leaves them out" in reason
    sent = {"few/step-0.pt", "few/step-1.pt", "many/notes.txt"}
    sent |= {f"pictures/step-{number}.raw" for number in range(5)}
    assert look(project.remote).keys() == sent | there
    assert not (project.local / "there").exists()


def test_what_is_typed_for_them_sends_them_or_leaves_them_out(tmp_path: Path) -> None:
    project = PipedProject(tmp_path, max_bytes=1_000_000)
    fill(project.local / "many", 5)
    assert not project.sync().is_complete
    project.max_bytes = 2_000_000
    assert project.sync().is_complete
    assert len(list((project.remote / "many").iterdir())) == 5
    # Neither sent again nor taken for deleted.
    project.max_bytes = 1_000_000
    (project.local / "many/step-1.pt").unlink()
    assert project.sync().actions == ()
    assert len(list((project.remote / "many").iterdir())) == 5
    (project.local / ".colabdevignore").write_text("/many/*.pt\n")
    project.sync()
    assert project.sync().is_complete


def test_grows_there_until_it_is_too_much(tmp_path: Path) -> None:
    project = PipedProject(tmp_path, max_bytes=1_000_000)
    fill(project.remote / "run", 2)
    assert len(project.sync().received) == 2
    fill(project.remote / "run", 4)
    assert project.sync().received == ()
    assert len(list((project.local / "run").iterdir())) == 2
