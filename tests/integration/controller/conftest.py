from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import Kubedr, kubedr


@pytest.fixture(scope="session")
def shared(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubedr]:
    """A controller that the tests of all modules share; each uses names of its own."""
    with kubedr(plane, tmp_path_factory.mktemp("controller")) as instance:
        yield instance


@pytest.fixture
def own(plane: ControlPlane, tmp_path: Path) -> Iterator[Kubedr]:
    """A controller for a test that stops it."""
    with kubedr(plane, tmp_path) as instance:
        yield instance
