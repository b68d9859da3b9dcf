"""Servers for integration tests, each started when first asked for and stopped with the session."""

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.servers.apiserver import ControlPlane, control_plane
from tests.servers.etcd import Etcd, etcd
from tests.servers.kubedr import install_kinds
from tests.servers.pki import Authority
from tests.servers.process import BINARIES
from tests.servers.s3 import S3, black_hole, s3

TABLE = "table"
"""A test's property that is printed at the end of the run, whichever process ran the test."""

os.environ["PATH"] = f"{BINARIES}:{os.environ['PATH']}"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority of etcd and S3."""
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session", name="etcd")
def _etcd(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Etcd]:
    with etcd(tmp_path_factory.mktemp("etcd"), authority) as server:
        yield server


@pytest.fixture(scope="session", name="s3")
def _s3(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[S3]:
    with s3(tmp_path_factory.mktemp("s3"), authority) as server:
        yield server


@pytest.fixture(scope="session", name="control_plane")
def _control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """A control plane that has our four kinds."""
    install_kinds(control_plane)
    return control_plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own."""
    with control_plane.namespace() as name:
        yield name


@pytest.fixture
def bucket() -> str:
    """The name of a bucket that no other test uses; it does not exist yet."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture(name="black_hole")
def _black_hole() -> Iterator[str]:
    with black_hole() as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables that tests have made."""
    reports = (report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ()))
    for report in reports:
        for name, value in report.user_properties:
            if name == TABLE:
                terminalreporter.write_line(f"\n{value}")
