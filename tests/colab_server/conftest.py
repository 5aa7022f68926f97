"""One stand-in for each module of tests; every test finds it as it was at the start."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.colab import Colab, Machine, new_notebook_hash

NOTEBOOK_HASH = new_notebook_hash()


@pytest.fixture(scope="session")
def namespaces() -> None:
    """A machine needs what only root may make."""
    trying = ["unshare", "--mount", "--uts", "--pid", "--fork", "true"]
    if os.geteuid() != 0 or subprocess.run(trying, check=False).returncode != 0:
        pytest.skip("needs root, and the right to make namespaces")


@pytest.fixture(scope="module")
def server(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colab]:
    with Colab(tmp_path_factory.mktemp("colab") / "state") as started:
        yield started


@pytest.fixture
def colab(server: Colab) -> Colab:
    """As at the start, but for a runtime that an earlier test has left alive: a machine takes
    seconds to start."""
    server.reset(keep_runtimes=True)
    return server


@pytest.fixture
def machine(colab: Colab) -> Machine:
    """A runtime with a T4; of a module's tests each that does not end it leaves it to the next."""
    return Machine(colab.assign("T4", NOTEBOOK_HASH))
