"""The part of the command line's composition root that has to do with looking at everything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from colabdev.cli import standing

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.ports import WindowsSide
    from colabdev.services.bug_report import BugReport
    from colabdev.services.doctor import Doctor


class DoctorWiring:
    """Builds what looks at everything, and what packs it for a bug report."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def doctor(self) -> Doctor:
        from colabdev.adapters.computer import ThisComputer
        from colabdev.adapters.windows import is_beside_windows
        from colabdev.services.doctor import Doctor, Surroundings
        from colabdev.services.runtime_checks import RuntimeChecks

        places, store, runtimes, computer = (
            self._wiring.places(),
            self._wiring.store(),
            self._wiring.runtimes(),
            ThisComputer(),
        )
        here = Surroundings(
            computer=computer,
            entries=self._wiring.ssh_files(),
            state_dir=places.state_dir,
            config_dir=places.config_dir,
            windows=self.windows_side if is_beside_windows(os.environ) else None,
        )
        runtime_checks = RuntimeChecks(
            store=store,
            runtimes=runtimes,
            keepers=self._wiring.keepers(),
            computer=computer,
            log_dir=places.log_dir,
        )
        return Doctor(
            here=here,
            store=store,
            runtimes=runtimes,
            repairs=self._wiring.repairs(),
            runtime_checks=runtime_checks,
        )

    def windows_side(self) -> WindowsSide:
        from colabdev.adapters.windows import find_windows_home
        from colabdev.adapters.windows_entries import WindowsEntries

        key_file = self._wiring.ssh_files().private_key_file
        return WindowsEntries(find_windows_home(os.environ), key_file, os.environ)

    def bug_report(self) -> BugReport:
        from colabdev.adapters.report_files import ReportFiles
        from colabdev.services.bug_report import BugReport

        places = self._wiring.places()
        files = ReportFiles(places.state_dir, self._wiring.ssh_files())
        return BugReport(
            files=files, environment=os.environ, home=standing.home(), store=self._wiring.store()
        )
