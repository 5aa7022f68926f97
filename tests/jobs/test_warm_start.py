"""What a job had installed is there on the next machine, as a user sees it."""

from __future__ import annotations

from pathlib import Path

from tests.support.house import House
from tests.support.jobs import run_bytes
from tests.support.waiting import wait_until
from tests.support.wheels import make_wheel

SETTINGS = '[job]\nrequirements = "requirements.txt"\n'


def test_next_machine_has_the_environment_and_connect_says_so(
    own_house: House, tmp_path: Path
) -> None:
    house = own_house
    make_wheel(tmp_path / "wheels", "tool", "1.5")
    for name, text in {
        "colabdev.toml": SETTINGS,
        "requirements.txt": f"--no-index\n--find-links {tmp_path / 'wheels'}\ntool\n",
        "show.py": "import tool; print(tool.__version__)",
    }.items():
        (house.project / name).write_text(text)
    code, log, said = run_bytes(house, "run", "show.py")
    assert (code, log[-4:]) == (0, b"1.5\n"), said
    machine = house.record().machine
    assert machine is not None
    assert machine.drive_dir is not None
    stored = Path(machine.drive_dir, "colabdev", "environments").resolve()
    wait_until(lambda: list(stored.glob("*.zip")), timeout_s=60, message="it is not kept")
    root = Path(machine.content_dir).parent / "root" / ".colabdev" / "environments"
    wait_until(lambda: list(root.glob("*/kept.json")), timeout_s=60, message="nor proved")

    assert house.colabdev("local", "kill", "local").returncode == 0
    done = house.colabdev("connect", "local")
    assert "  environment: cold " in done.stderr, done
    assert " s → warm " in done.stderr
    code, log, said = run_bytes(house, "run", "show.py")
    assert (code, log) == (0, b"1.5\n"), said
