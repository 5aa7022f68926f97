"""Programs that are started often load nothing slow that they do not need."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colabdev.models import Phase, RuntimeRecord
from tests.support.house import House

KEEPER = "import colabdev.keeper.__main__"
DOWN = """
import sys
from colabdev.cli.app import main
sys.argv = ["colabdev", "down", "local"]
assert main() == 0
"""


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        (KEEPER, {"google.auth", "invoke.util", "pydantic", "requests"}),
        (DOWN, {"google.auth", "paramiko", "pydantic", "requests"}),
    ],
    ids=["keeper", "down"],
)
def test_nothing_slow_is_loaded_that_is_not_needed(
    tmp_path: Path, code: str, unneeded: set[str]
) -> None:
    with House(tmp_path) as house:
        now = datetime.now(UTC)
        house.store.save(RuntimeRecord("local", "local", str(uuid.uuid4()), now, Phase.LOST))
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps([*sys.modules]))"],
            env=house.environment,
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert unneeded.isdisjoint(json.loads(done.stdout.splitlines()[-1]))
