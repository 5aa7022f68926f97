from __future__ import annotations

import pytest

from colabdev.adapters.agent_archive import AgentArchive, build_agent


@pytest.fixture(scope="session")
def archive() -> AgentArchive:
    return build_agent()
