"""Every command in every hostile place: one sentence, nothing lost, and then it works again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.hostile.places import COMMANDS, DONE, PLACES, Bench, Hostile
from tests.support.house import House
from tests.support.jobs import listed
from tests.support.typist import Place, Typed, Typist


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("bench")
    with House(root / "house") as house:
        house.connect()
        (house.project / "mine.py").write_text("print()")
        assert house.colabdev("run", "--name", DONE, "true").returncode == 0
        yield Bench(house, root)


@pytest.fixture(scope="module")
def typist() -> Iterator[Typist]:
    with Typist() as typist:
        yield typist


@pytest.mark.parametrize("hostile", PLACES, ids=lambda hostile: hostile.name)
def test_every_command_answers_and_works_again(
    bench: Bench, typist: Typist, hostile: Hostile
) -> None:
    type_there(bench, typist, hostile, hostile.typed)


@pytest.mark.long
@pytest.mark.parametrize(
    "hostile",
    [place for place in PLACES if place.third is not None],
    ids=lambda hostile: hostile.name,
)
def test_every_command_answers_also_where_all_are_alike(
    bench: Bench, typist: Typist, hostile: Hostile
) -> None:
    type_there(bench, typist, hostile, tuple(COMMANDS))


def type_there(bench: Bench, typist: Typist, hostile: Hostile, names: Sequence[str]) -> None:
    """Those commands in that place, and then those that failed in a healthy one."""
    jobs = {job["id"] for job in listed(bench.house)}
    mine = (bench.ssh / "config").read_bytes(), (bench.house.project / "mine.py").read_bytes()
    make_room_for_init(bench, bench.healthy)
    assert typist.type(COMMANDS["sync"], bench.healthy).code == 0
    failed = []
    with hostile.enter(bench) as place:
        for name in names:
            make_room_for_init(bench, place)
            is_dry = name == "down" and not hostile.releases
            done = typist.type([*COMMANDS[name], *(["--dry-run"] if is_dry else [])], place)
            expected = hostile.codes.get(name, 0)
            assert done.code == expected, (name, done)
            assert "Traceback" not in done.out + done.err, (name, done)
            if expected:
                failed.append(name)
                assert hostile.mute or is_explained(name, done), (name, done)
    assert not list((bench.state / "crash").glob("*"))
    for name in ["connect", *failed]:
        make_room_for_init(bench, bench.healthy)
        done = typist.type(COMMANDS[name], bench.healthy)
        assert done.code == 0, (name, done)
    if "down" in failed:  # It was typed again and is released now.
        assert typist.type(COMMANDS["connect"], bench.healthy).code == 0
    assert jobs <= {job["id"] for job in listed(bench.house)}
    assert mine == (
        (bench.ssh / "config").read_bytes(),
        (bench.house.project / "mine.py").read_bytes(),
    )


def make_room_for_init(bench: Bench, place: Place) -> None:
    """The new project of the last time goes; a directory that is to be deleted under a command comes."""
    if place.deleted:
        place.cwd.mkdir(exist_ok=True)
    for folder in (bench.house.project, place.cwd):
        if (folder / "fresh").is_dir():
            shutil.rmtree(folder / "fresh")


def is_explained(name: str, done: Typed) -> bool:
    """A next step; ssh's own failures are ssh's to say."""
    return "next: " in done.err + done.out or (name == "ssh" and done.err.startswith("ssh: "))


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_locale_that_has_no_letters_is_no_bug(bench: Bench, locale: dict[str, str]) -> None:
    """As programs of their own: an interpreter looks at its locale once, when it starts."""
    parent = bench.scratch / locale["LC_ALL"]
    project = Path(os.fsdecode(os.fsencode(parent) + b"/\xc3\xbc \xff" + parent.name.encode()))
    project.mkdir(parents=True)
    script = project / os.fsdecode(b"tr\xff\xc3\xa4in.py")
    script.write_text("print('trained')")
    environment = {**bench.house.environment, **locale}
    good: list[list[str | bytes]] = [
        ["connect", "local", "--provider", "local"],
        ["sync"],
        ["run", os.fsencode(script.name)],
        ["ps"],
        ["status", "--json"],
        ["logs"],
    ]
    for words in good:
        done = run_really(bench, words, project, environment)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), (words, done.stderr)
    for command, word in (("logs", b"\xff\xe9"), ("connect", b"\xc3\xbc"), ("stop", b"\xc3\xbc")):
        done = run_really(bench, [command, word], project, environment)
        assert done.returncode in (1, 2), done.stderr
        assert b"Traceback" not in done.stderr
        assert b"next: " in done.stderr
    healthy = run_really(bench, ["sync", "--json"], project, bench.house.environment)
    assert json.loads(healthy.stdout)["unchanged"] == 1, "a name is the same in every locale"


def test_bare_environment_is_enough(bench: Bench) -> None:
    """As cron and systemd start programs, but for where colabdev's files are."""
    bare = {name: value for name, value in bench.house.environment.items() if "COLABDEV" in name}
    for command in ("status", "sync", "ps"):
        done = run_really(bench, [command, "--json"], bench.house.project, bare)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["schema"] == 1


def run_really(
    bench: Bench,
    words: Sequence[str | bytes],
    cwd: Path,
    environment: dict[str, str],
) -> subprocess.CompletedProcess[bytes]:
    """Start the program as a shell would."""
    return subprocess.run(
        [sys.executable, "-m", "colabdev", *words],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
