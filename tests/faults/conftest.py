from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import FaultProxy, fault_proxy
from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import Kubedr, installed


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    """What the controller takes for the API server."""
    with fault_proxy(plane) as instance:
        yield instance


@pytest.fixture
def kubedr(plane: ControlPlane, proxy: FaultProxy, tmp_path: Path) -> Iterator[Kubedr]:
    """A controller behind the proxy, not started."""
    with installed(plane, tmp_path, proxy.server) as instance:
        yield instance
