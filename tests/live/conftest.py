"""Fixtures for tests against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import LiveServer, run_server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for all tests that can share it, ready to speak."""
    with run_server(tmp_path_factory.mktemp("server")) as live:
        live.wait_until_ready()
        yield live
