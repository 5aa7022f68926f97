"""What lets a runtime into Drive: short tokens that this computer makes, for our own files only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.colab import Colab, ask
from tests.support.colab_server.accounts import COLAB_SCOPE, DRIVE_FILE_SCOPE, EMAIL_SCOPE
from tests.support.colab_user import ColabHouse, files_with
from tests.support.drive import trainer
from tests.support.jobs import workdir
from tests.support.waiting import wait_until

SETTINGS = '[checkpoints]\ndir = "runs/*/checkpoints"\nstores = ["driveapi"]\n'


def prepare(house: ColabHouse, colab: Colab) -> Path:
    """A project whose checkpoints go to Drive by its API; where the runtime keeps its tokens."""
    memory = house.root / "memory"
    memory.mkdir()
    house.environment |= {
        "COLABDEV_DRIVE_URL": colab.base_url,
        "COLABDEV_MEMORY_DIR": str(memory),
    }
    (house.project / "train.py").write_text(Path(trainer.__file__).read_text())
    (house.project / "colabdev.toml").write_text(SETTINGS)
    house.connect()
    python = workdir(house).parent.parent / "bin" / "python3"
    first, *rest = python.read_text().splitlines()
    python.write_text("\n".join([first, f"export COLABDEV_MEMORY_DIR={memory}", *rest, ""]))
    house.end_keeper()
    return memory


def train(house: ColabHouse, *options: str) -> None:
    words = ["runs/a/checkpoints", "100000", "0.4", "runs/a/saved.jsonl"]
    done = house.colabdev("run", "--detach", "--in-place", *options, "train.py", *words)
    assert done.returncode == 0, done.stderr


def levels(house: ColabHouse) -> list[str]:
    rows = house.colabdev_json("checkpoints", "ls")["checkpoints"]
    return [str(row["level"]) for row in rows]


@pytest.mark.long
def test_runtime_gets_a_token_for_our_files_and_nothing_else(
    house: ColabHouse, colab: Colab
) -> None:
    memory = prepare(house, colab)
    house.log_in_by_gcloud(scopes=["openid", EMAIL_SCOPE, COLAB_SCOPE])
    train(house)
    wait_until(lambda: [*memory.glob("*/*.json")], timeout_s=30, message=house.keeper_log())
    (kept,) = memory.glob("*/*.json")
    assert "does not allow Drive" in json.loads(kept.read_text())["problem"]
    assert "confirmed" not in levels(house)

    house.log_in()
    wait_until(lambda: "confirmed" in levels(house), timeout_s=60, message=house.keeper_log())
    told = json.loads(kept.read_text())
    asked = ask("GET", f"{colab.base_url}/tokeninfo?access_token={told['access_token']}")
    assert asked.json["scope"] == DRIVE_FILE_SCOPE
    assert told["refresh"] is None
    secret: dict[str, Any] = json.loads(house.login_file.read_text())["secret"]
    assert files_with(secret["refresh_token"], house.root) == [
        str(house.login_file.relative_to(house.root))
    ]

    # Only when the user says that this computer may be off.
    train(house, "--unattended", "--no-sync")
    wait_until(
        lambda: json.loads(kept.read_text())["refresh"], timeout_s=60, message=house.keeper_log()
    )
    assert set(files_with(secret["refresh_token"], house.root)) == {
        str(house.login_file.relative_to(house.root)),
        str(kept.relative_to(house.root)),
    }
    assert kept.stat().st_mode & 0o777 == 0o600
