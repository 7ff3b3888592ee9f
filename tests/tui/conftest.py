"""A synthetic farm behind a real server, for whoever asks for one."""

from collections.abc import Iterator

import pytest

from farmhand_tui.client import Client
from tests.tui.server import FarmServer
from tests.tui.synthetic import SyntheticFarm


@pytest.fixture
def synthetic() -> SyntheticFarm:
    """Return 120 cards, two racks of which have troubles of every kind but one."""
    return SyntheticFarm(120)


@pytest.fixture
def server(synthetic: SyntheticFarm) -> Iterator[FarmServer]:
    """Serve the synthetic farm on loopback."""
    server = FarmServer(synthetic).start()
    yield server
    server.stop()


@pytest.fixture
def client(server: FarmServer) -> Iterator[Client]:
    """Return a client of the server."""
    client = Client(server.url)
    yield client
    client.close()
