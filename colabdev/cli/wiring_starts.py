"""The part of the command line's composition root that has to do with starting jobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.cli.requests import connect_request, hardware_wish
from colabdev.cli.terminal import ask_secret

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.services.job_secrets import SecretSources
    from colabdev.services.on_demand import OnDemand
    from colabdev.services.starts import JobStarter
    from colabdev.services.warm_start import WarmStart


class StartWiring:
    """Builds what starts jobs, what they are given, and the runtime that they start on."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def starter(self) -> JobStarter:
        from colabdev.services.starts import JobStarter

        wiring = self._wiring
        return JobStarter(
            choose=wiring.known_runtimes().choose,
            jobs=wiring.job_store(),
            logs=wiring.job_logs(),
            attempts=wiring.recovery().attempts(),
            code=wiring.sync().code(),
            plans=wiring.recovery().plans(),
        )

    def on_demand(self) -> OnDemand:
        from colabdev.services.on_demand import OnDemand

        wiring = self._wiring
        return OnDemand(
            runtimes=wiring.runtimes(),
            releases=wiring.releases(),
            store=wiring.store(),
            provider=wiring.provider,
            plan=lambda name, provider, gpu: connect_request(
                wiring, name, provider, None, None, hardware_wish(gpu)
            ),
            jobs=wiring.jobs(),
        )

    def warm_start(self) -> WarmStart:
        from colabdev.services.warm_start import WarmStart

        return WarmStart(self._wiring.keepers())

    def secret_sources(self) -> SecretSources:
        from colabdev.adapters.secrets import ask_keyring
        from colabdev.services.job_secrets import SecretSources

        return SecretSources(ask_keyring, os.environ, ask_secret)

    def env_file(self, typed: Path) -> dict[str, str]:
        from colabdev.adapters.env_files import read_env_file

        return read_env_file(self._wiring.absolute(typed))
