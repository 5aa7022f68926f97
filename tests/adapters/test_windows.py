"""Finding the profile of the Windows around a WSL."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

import pytest

from colabdev.adapters.windows import WindowsHome, find_windows_home, is_beside_windows
from colabdev.errors import ColabdevError
from tests.support.wsl import WINDOWS_PROFILE, make_windows


@pytest.mark.parametrize(
    ("osrelease", "expected"), [("5.15-microsoft-standard-WSL2", True), ("6.1.0-cloud", False)]
)
def test_wsl_is_found_by_its_kernel(tmp_path: Path, osrelease: str, expected: bool) -> None:
    file = tmp_path / "osrelease"
    file.write_text(osrelease)
    assert is_beside_windows({}, file) is expected
    assert is_beside_windows({}, tmp_path / "none") is False
    assert is_beside_windows({"COLABDEV_WINDOWS_HOME": "/x"}, file) is True


@pytest.mark.parametrize("told", [True, False])
def test_profile_has_both_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    windows = make_windows(tmp_path)
    environment = windows.environment(os.environ, told=told)
    monkeypatch.setenv("PATH", environment["PATH"])
    assert find_windows_home(environment) == WindowsHome(
        windows.profile, PureWindowsPath(WINDOWS_PROFILE)
    )


def test_profile_that_nobody_tells_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ColabdevError, match=r"cmd\.exe does not say"):
        find_windows_home({})


def test_profile_on_no_drive_is_said(tmp_path: Path) -> None:
    with pytest.raises(ColabdevError, match="no folder of a Windows drive"):
        find_windows_home({"COLABDEV_WINDOWS_HOME": str(tmp_path)})
