"""import-linter keeps the layers of the design; here each rule is broken to see it bite."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
LAYERS = "A layer imports only from below it"
SERVICES = "Services know providers, tunnels and adapters only as ports"
CLI = "In the cli and the api only wiring knows concrete parts"
KEEPER = "In the keeper only its composition roots know where runtimes come from"
ROOTS = "Nobody imports a composition root"
PURE = "The core is pure: no foreign library and no input or output"
PARAMIKO = "Only the ssh adapters know paramiko"
ASYNCSSH = "Only providers.lean_asyncssh knows asyncssh"
VALUES = "Of the agent others see only the value modules"
AGENT = "The agent stands alone"
CYCLES = "No import cycles"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what lint-imports reads."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "colabdev", tmp_path / "colabdev", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    # The command puts its working directory first on the path, so it reads the copy.
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", "--no-logo"], cwd=tree, capture_output=True, text=True, check=False
    )


def broken_contracts(report: str) -> set[str]:
    """The contracts after whose name the report says BROKEN, perhaps with a remark."""
    return {
        name
        for name, broken, _ in (line.partition(" BROKEN") for line in report.splitlines())
        if broken
    }


def test_tree_as_it_is_keeps_every_contract(tree: Path) -> None:
    done = lint_imports(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/intruder.py", "import paramiko", PURE),
        ("core/intruder.py", "import subprocess", PURE),
        ("core/intruder.py", "from colabdev import adapters", LAYERS),
        ("models/intruder.py", "import colabdev.ports", LAYERS),
        ("adapters/intruder.py", "import colabdev.services", LAYERS),
        ("adapters/intruder.py", "import colabdev.cli", LAYERS),
        ("adapters/intruder.py", "import colabdev.keeper", LAYERS),
        ("services/intruder.py", "import colabdev.adapters.files", SERVICES),
        ("services/intruder.py", "def late(): import colabdev.adapters.files", SERVICES),
        ("services/intruder.py", "import colabdev.providers", SERVICES),
        ("cli/intruder.py", "import colabdev.adapters.files", CLI),
        ("cli/intruder.py", "import colabdev.cli.app", ROOTS),
        ("keeper/intruder.py", "import colabdev.providers", KEEPER),
        ("providers/intruder.py", "import paramiko", PARAMIKO),
        ("adapters/intruder.py", "import asyncssh", ASYNCSSH),
        ("adapters/intruder.py", "from colabdev.agent import probe", VALUES),
        ("agent/intruder.py", "from colabdev.version import VERSION", AGENT),
        ("agent/intruder.py", "import colabdev.errors", LAYERS),
        ("intruder/__init__.py", "", LAYERS),
    ],
)
def test_import_against_the_layers_is_refused(
    tree: Path, module: str, line: str, contract: str
) -> None:
    intruder = tree / "colabdev" / module
    turn_into_package(intruder.parent)
    intruder.write_text(line + "\n")

    done = lint_imports(tree)

    assert done.returncode == 1, done.stdout + done.stderr
    assert contract in broken_contracts(done.stdout), done.stdout


def turn_into_package(folder: Path) -> None:
    """Make room for an intruder: `models.py` becomes `models/__init__.py`."""
    folder.mkdir(exist_ok=True)
    module = folder.with_suffix(".py")
    if module.exists():
        module.rename(folder / "__init__.py")


def test_import_cycle_is_refused(tree: Path) -> None:
    core = tree / "colabdev" / "core"
    (core / "hen.py").write_text("import colabdev.core.egg\n")
    (core / "egg.py").write_text("import colabdev.core.hen\n")

    done = lint_imports(tree)

    assert CYCLES in broken_contracts(done.stdout), done.stdout


@pytest.mark.parametrize("package", ["colabdev.agent", "colabdev.core"])
def test_package_imports_no_foreign_library(package: str) -> None:
    graph = grimp.build_graph("colabdev", include_external_packages=True, cache_dir=None)
    imported = {
        name
        for module in {package, *graph.find_descendants(package)}
        for name in graph.find_modules_directly_imported_by(module)
    }
    foreign = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert foreign <= {"colabdev"}
