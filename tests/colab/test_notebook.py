"""A machine that was started in a browser: its one cell is run for real, the browser is a client."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support.cloudflared import QuickTunnels
from tests.support.colab import Colab, Machine
from tests.support.colab_kernel import Kernel, Outcome
from tests.support.colab_user import ColabHouse, files_with

PROPAGATION = "authtype=dfs_ephemeral&version=2&propagate=true&record=false&dryrun=false"


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[QuickTunnels]:
    with closing(QuickTunnels(tmp_path / "program")) as tunnels:
        yield tunnels


@pytest.fixture
def user(house: ColabHouse, tunnels: QuickTunnels) -> ColabHouse:
    """Without a Google login on this computer."""
    house.environment |= {
        "PATH": f"{tunnels.program.parent}{os.pathsep}{house.environment['PATH']}",
        "COLABDEV_CLOUDFLARED_URL": tunnels.download_url,
    }
    return house


class Browser:
    """A tab with a machine of its own, whose user says yes to everything."""

    def __init__(self, colab: Colab) -> None:
        self._colab = colab
        self.machine = Machine(colab.assign("T4"))
        self._kernel = Kernel(self.machine)

    def close(self) -> None:
        self._kernel.__exit__()

    def run(self, cell: str) -> Outcome:
        return self._kernel.execute(cell, self._consent)

    def _consent(self, request: dict[str, Any]) -> dict[str, Any]:
        path = f"/tun/m/credentials-propagation/{self.machine.endpoint}?{PROPAGATION}"
        assert self._colab.post(path).json == {"success": True}
        return {}


def cell_of(user: ColabHouse) -> str:
    """As printed; but a test cannot wait for the rest of the day."""
    done = user.colabdev("notebook")
    assert done.returncode == 0, done.stderr
    assert "STAY = True" in done.stdout
    return done.stdout.replace("STAY = True", "STAY = False")


def command_of(outcome: Outcome) -> list[str]:
    """What the cell says that the user is to type."""
    assert not outcome.error, outcome
    found = re.search(r"^ *colabdev (connect --provider notebook --code \S+)$", outcome.text, re.M)
    assert found is not None, outcome.text
    return found[1].split()


def test_life_of_a_machine_that_was_started_in_a_browser(
    user: ColabHouse, colab: Colab, tunnels: QuickTunnels
) -> None:
    cell = cell_of(user)
    (user.project / "train.py").write_text("import os\nprint(os.environ['LD_LIBRARY_PATH'])\n")
    with closing(Browser(colab)) as browser:
        outcome = browser.run(cell)
        connecting = command_of(outcome)
        assert command_of(browser.run(cell)) == connecting or len(tunnels.names()) == 1
        connected = user.colabdev(*connecting, timeout_s=120)
        assert connected.returncode == 0, connected.stderr
        assert (
            "cloudflared, because the notebook's cell opened it; Google's terms" in connected.stdout
        )
        machine = user.record("notebook").machine
        assert machine is not None
        assert (machine.content_dir, machine.drive_dir) == ("/content", "/content/drive/MyDrive")
        assert machine.accelerator == "Tesla T4"

        ran = user.colabdev("run", "train.py")
        assert (ran.returncode, ran.stdout) == (0, "/usr/lib64-nvidia\n"), ran.stderr

        # Another address: what runs goes on once the user has pasted the new code.
        browser.run("import subprocess; subprocess.run(['pkill', '-f', 'cloudflared tunnel'])")
        connecting = command_of(browser.run(cell))
        assert len(tunnels.names()) == 2
        again = user.colabdev(*connecting, timeout_s=120)
        assert again.returncode == 0, again.stderr
        assert user.record("notebook").machine.ssh.host == tunnels.names()[-1]  # type: ignore[union-attr]

        written = user.colabdev(
            "ssh", "notebook", "--", "echo much > /content/drive/MyDrive/much; sync"
        )
        assert written.returncode == 0, written.stderr
    released = user.colabdev("down", timeout_s=120)
    assert released.returncode == 0, released.stderr
    user.assert_nothing_is_billed()
    assert any(file["name"] == "much" for file in colab.drive())
    assert list(user.places.notebooks_dir.glob("*")) == []
    check_nothing_secret(user, cell + outcome.text)


def check_nothing_secret(user: ColabHouse, shown: str) -> None:
    private_key = user.ssh_files.private_key_file.read_text().splitlines()[2]
    assert private_key not in shown
    assert files_with("ya29.", user.root) == []


@pytest.mark.long
def test_another_machine_takes_the_place_of_one_that_went(user: ColabHouse, colab: Colab) -> None:
    cell = cell_of(user)
    codes = []
    with closing(Browser(colab)) as first, closing(Browser(colab)) as second:
        codes = [command_of(browser.run(cell)) for browser in (first, second)]
        assert user.colabdev(*codes[0], timeout_s=120).returncode == 0
        request_id = user.record("notebook").request_id
        refused = user.colabdev(*codes[1], timeout_s=60)
        assert refused.returncode == 2
        assert "the one from before is still up" in refused.stderr
        colab.do("reclaim", first.machine.endpoint)
        taken = user.colabdev(*codes[1], timeout_s=120)
        assert taken.returncode == 0, taken.stderr
        assert user.record("notebook").request_id != request_id
        colab.do("reclaim", second.machine.endpoint)
        unproven = user.colabdev("down", timeout_s=120)
        assert unproven.returncode == 1
        assert "cannot prove that the machine of 'notebook' was given back" in unproven.stderr
        assert user.store.names() == ["notebook"]


def test_notebook_file_is_one_that_jupyter_takes(user: ColabHouse) -> None:
    done = user.colabdev("notebook", "mine.ipynb")
    assert done.returncode == 0, done.stderr
    document = nbformat.read(user.project / "mine.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(document)
    (code,) = (cell for cell in document.cells if cell.cell_type == "code")
    public_key = (user.ssh_files.directory / "id_ed25519.pub").read_text().split()[1]
    assert public_key in code.source
    assert user.colabdev("notebook", "mine.ipynb").returncode == 2
