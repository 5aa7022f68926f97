"""Jobs that go on on the next runtime of Colab's, as the tests of that set them up and look at them."""

from __future__ import annotations

import hashlib
import json

from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse
from tests.support.recovering import TRAINER, log_of, record, standing, train
from tests.support.waiting import wait_until

SETTINGS = """
[runtime]
provider = "colab"
gpu = ["T4", "L4"]
{limit}
[checkpoints]
dir = "runs/checkpoints"
stores = ["drivefs", "pull"]
accept = "published"
resume = "--resume {{path}}"
"""
LIMITED = SETTINGS.format(limit="max_units = 20")
ASKED_TO_SAVE = LIMITED.replace("accept", 'ask = "USR1"\naccept')
NEXT_RUNTIME_S = 90.0
SECRET = "planted-secret-of-hf"
TELLS_THE_SECRET = f"""{TRAINER}
import hashlib
seen = hashlib.sha256(os.environ["HF_TOKEN"].encode()).hexdigest()
sys.exit(3 if seen == "{hashlib.sha256(SECRET.encode()).hexdigest()}" else 4)
"""
"""By its exit code."""


def reclaim(colab: Colab) -> None:
    """Colab takes the only runtime that there is."""
    (taken,) = colab.describe()["runtimes"]
    colab.do("reclaim", taken["endpoint"])


def there(house: ColabHouse, command: str) -> str:
    """What it prints on the runtime."""
    done = house.colabdev("ssh", "colab", "--", command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for_attempt(
    house: ColabHouse, job: str, attempt: int, timeout_s: float = NEXT_RUNTIME_S
) -> int:
    """The step that it began from."""
    wait_until(
        lambda: "\n" in log_of(house, job, attempt),
        timeout_s=timeout_s,
        message=f"attempt {attempt} is not seen to run; before: {standing(house, job)}",
    )
    number, step = log_of(house, job, attempt).split()[1:4:2]
    assert (int(number), record(house, job)["attempt"]) == (attempt, attempt)
    return int(step)


def made(colab: Colab) -> int:
    """So many runtimes were ever allocated."""
    return colab.counters()["runtime made"]


def told(house: ColabHouse) -> str:
    """What `ps` says of what happened, once it knows; on a busy machine that takes some seconds."""
    said: list[str] = []

    def is_told() -> bool:
        done = house.colabdev("ps")
        said.append(done.stderr)
        return done.returncode == 0

    wait_until(is_told, timeout_s=60, message=f"the runtime cannot be asked: {said}")
    return said[-1]


def begin(house: ColabHouse, *options: str) -> str:
    """A training on a runtime of Colab's that is left alone, once something of it is safe; its id."""
    house.connect_colab()
    return train(house, *options)


def give_up(house: ColabHouse) -> None:
    """Its runtime goes with all that is on it, and nothing is left that costs."""
    assert house.colabdev("down", "--force", timeout_s=120).returncode == 0
    house.assert_nothing_is_billed()


def newest_safe(house: ColabHouse, job: str) -> int:
    """The attempt that it is of."""
    path = house.places.state_dir / "jobs" / job / "safe.json"
    number: int = json.loads(path.read_text())["attempt"]
    return number
