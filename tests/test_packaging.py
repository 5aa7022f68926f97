"""What is built is complete, and the command works where users put it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from colabdev.version import VERSION

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Distribution:
    """The two files that a release consists of."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True, slots=True)
class Installation:
    """A place where somebody types `colabdev`: a working directory and all of the environment."""

    cwd: Path
    environment: Mapping[str, str]

    def live(self, *commands: Sequence[str]) -> list[str]:
        """Run the command lines one after the other, which must succeed; what each printed."""
        return [self._run(command) for command in commands]

    def _run(self, command: Sequence[str]) -> str:
        # Through env, so that the program is looked up on the PATH of the place, not on ours.
        done = subprocess.run(
            ["/usr/bin/env", *command],
            cwd=self.cwd,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """The sdist, and the wheel built from it: so the sdist is complete."""
    folder = tmp_path_factory.mktemp("dist")
    run_python("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return Distribution(sdist, wheel)


@pytest.fixture(scope="module")
def environment_bin(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a fresh environment that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    run_python(
        *("-m", "pip", "--python", str(python), "install", "--quiet"),
        *("--no-deps", "--no-index", "--disable-pip-version-check", str(distribution.wheel)),
    )
    # The dependencies are those of the environment that the tests run in. A .pth file adds only
    # directories: the editable install over there stays invisible here.
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    dependencies = Path(paths["purelib"], "dependencies.pth")
    dependencies.write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


@pytest.fixture
def in_environment(environment_bin: Path, tmp_path: Path) -> Installation:
    """A shell in which the environment was activated."""
    return installation(tmp_path, [environment_bin])


@pytest.fixture
def as_pipx_does(environment_bin: Path, tmp_path: Path) -> Installation:
    """A shell that only sees a link to the command, as pipx and `uv tool` make it."""
    links = tmp_path / "links"
    links.mkdir()
    (links / "colabdev").symlink_to(environment_bin / "colabdev")
    return installation(tmp_path, [links])


def installation(folder: Path, directories: Iterable[Path]) -> Installation:
    """An unrelated working directory, an empty home and a PATH with little else."""
    home, elsewhere = folder / "home", folder / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    path = os.pathsep.join([*map(str, directories), "/usr/bin", "/bin"])
    return Installation(elsewhere, {"HOME": str(home), "PATH": path})


def run_python(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files_below(*folders: str) -> set[str]:
    """The files of the checkout that belong into a distribution, relative to it."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_the_package_and_its_templates(distribution: Distribution) -> None:
    expected = files_below("colabdev")
    expected |= {f"colabdev/{path}" for path in files_below("templates")}
    with zipfile.ZipFile(distribution.wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert held == expected
    assert {
        "colabdev/agent/__main__.py",
        "colabdev/agent/wire.py",
        "colabdev/py.typed",
        "colabdev/templates/minimal/colabdev.toml",
        "colabdev/templates/minimal/train.py",
    } <= held


def test_wheel_names_its_command_version_and_license(distribution: Distribution) -> None:
    metadata = f"colabdev-{VERSION}.dist-info"
    with zipfile.ZipFile(distribution.wheel) as archive:
        entry_points = archive.read(f"{metadata}/entry_points.txt").decode()
        licence = archive.read(f"{metadata}/licenses/LICENSE")

    assert entry_points.split() == ["[console_scripts]", "colabdev", "=", "colabdev.__main__:main"]
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_sdist_holds_what_the_tests_need(distribution: Distribution) -> None:
    expected = files_below("colabdev", "templates", "tests", "scripts", ".ci")
    expected |= {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"}
    with tarfile.open(distribution.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}

    assert expected <= held
    assert not [name for name in held if name.startswith((".git/", ".venv/"))]


def whole_life(installed: Installation) -> None:
    """From nothing to a job's output and back to nothing, with what the wheel brought."""
    connect = ["colabdev", "connect", "--provider", "local"]
    run = ["colabdev", "run", "train.py", "--epochs", "1"]
    try:
        said = installed.live(
            ["colabdev", "init", "."],
            connect,
            ["colabdev", "ssh", "local", "--", "echo on $COLABDEV_RUNTIME"],
            run,
            ["colabdev", "down"],
            ["colabdev", "logs"],
        )
    finally:
        installed.live(["colabdev", "down", "--all"])
    assert said[2] == "on local\n"
    assert said[3].startswith("epoch 1 loss")
    assert said[5] == said[3]


def test_command_works_in_its_environment(
    in_environment: Installation, environment_bin: Path
) -> None:
    (where,) = in_environment.live(["python", "-c", "import colabdev; print(colabdev.__file__)"])
    assert Path(where).is_relative_to(environment_bin.parent)
    assert VERSION in in_environment.live(["colabdev", "--version"])[0]
    whole_life(in_environment)


def test_command_works_through_a_link_alone(as_pipx_does: Installation) -> None:
    assert VERSION in as_pipx_does.live(["colabdev", "--version"])[0]
    whole_life(as_pipx_does)
