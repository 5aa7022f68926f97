"""The pytorch template's own tests, which travel with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.templates.conftest import PYTORCH, copied
from tests.templates.torch_runs import run_tests

# Whichever test comes first may have to wait until PyTorch is installed.
pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("which", ["not long", pytest.param("long", marks=pytest.mark.long)])
def test_its_own_tests_hold(which: str, tmp_path: Path, torch_python: Path) -> None:
    """Behind `long` those that take long: it is killed 20 times, and started by the real torchrun."""
    copy = copied(PYTORCH, tmp_path / "it's my digits")
    assert " passed" in run_tests(torch_python, copy, "-m", which)
