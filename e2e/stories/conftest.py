from collections.abc import Iterator

import pytest

from e2e import cluster
from e2e.stories.teller import Teller


@pytest.fixture(scope="session")
def lent() -> cluster.Cluster:
    """The cluster that `make e2e` has brought up."""
    return cluster.current()


@pytest.fixture
def story(lent: cluster.Cluster, request: pytest.FixtureRequest) -> Iterator[Teller]:
    """Names, a bucket and a Secret of the test's own; what it created goes away with it."""
    teller = Teller(lent, request.node.name)
    yield teller
    teller.clean()
