from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.controller.harness import MANIFESTS, Kubedr, kubedr
from tests.servers.apiserver import ControlPlane


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """A control plane that has our four kinds."""
    control_plane.kubectl("apply", "-k", str(MANIFESTS / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return control_plane


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
