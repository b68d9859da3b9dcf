"""Who may read the metrics: real ServiceAccounts and their tokens, with the roles that the chart has."""

import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from kubedr_ctrl.kube import review
from tests.chart.helm import render
from tests.faults.embedded import Embedded
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import Kubedr, installed
from tests.servers.pki import Authority, KeyPair
from tests.servers.process import LOOPBACK


def get(url: str, token: str = "", tls: ssl.SSLContext | None = None) -> tuple[int, str, Message]:
    """Return status, body and headers of what is served there."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own URL
    try:
        with urllib.request.urlopen(request, timeout=15, context=tls) as response:  # noqa: S310
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def let_in(kubedr: Kubedr, reader: str) -> None:
    """Install what the chart has for authentication, with that ServiceAccount as the reader."""
    readers = [{"kind": "ServiceAccount", "name": reader, "namespace": kubedr.namespace}]
    objects = render({"metrics": {"authentication": {"enabled": True, "readers": readers}}}, namespace=kubedr.namespace)
    kubedr.apply(*(item for item in objects if item["kind"].startswith("ClusterRole")))


def token(kubedr: Kubedr, account: str) -> str:
    """Return a token of a new ServiceAccount."""
    kubedr.kubectl("create", "serviceaccount", account)
    return kubedr.kubectl("create", "token", account).strip()


@pytest.fixture(name="proxy")
def _proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    with fault_proxy(plane) as proxy:
        yield proxy


@pytest.fixture(name="kubedr")
def _kubedr(plane: ControlPlane, tmp_path: Path) -> Iterator[Kubedr]:
    with installed(plane, tmp_path) as kubedr:
        yield kubedr


@pytest.fixture(name="controller")
def _controller(kubedr: Kubedr, proxy: FaultProxy) -> Iterator[Embedded]:
    """A controller whose metrics are not for everybody."""
    kubeconfig = kubedr.kubeconfig("embedded", proxy.server)
    controller = Embedded(kubeconfig, kubedr.namespace, "embedded", metrics_authentication=True)
    try:
        yield controller
    finally:
        controller.stop_if_running()


@pytest.fixture(name="metrics")
def _metrics(controller: Embedded) -> str:
    return f"http://{LOOPBACK}:{controller.port}/metrics"


def test_metrics_are_for_those_who_may_read_them_and_health_is_for_everybody(
    kubedr: Kubedr, proxy: FaultProxy, controller: Embedded, metrics: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    let_in(kubedr, "prometheus")
    prometheus, stranger = token(kubedr, "prometheus"), token(kubedr, "stranger")
    kubedr.start()
    kubedr.wait_for(kubedr.replica.leads, "another replica to lead")  # who stands by asks as well
    controller.start()
    kubedr.wait_for(controller.ready, "the controller to be ready")
    assert not controller.leads()

    status, said, headers = get(metrics)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer" in said
    status, said, headers = get(metrics, prometheus[:-4] + "AAAA")
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "does not accept this token" in said
    status, said, _ = get(metrics, stranger)
    assert status == 403
    assert f"system:serviceaccount:{kubedr.namespace}:stranger may not read /metrics" in said
    assert "ClusterRole with nonResourceURLs [/metrics], verb get" in said
    for _ in range(3):
        status, said, _ = get(metrics, prometheus)
        assert status == 200
        assert "kubedr_build_info" in said

    asked = [seen.status for seen in proxy.seen(lambda request: request.resource == "tokenreviews")]
    assert asked == [201, 201, 201]
    assert controller.http("/livez") == controller.http("/readyz") == (200, "ok\n")
    for secret in (prometheus, stranger):
        assert secret.rpartition(".")[0] not in caplog.text


def test_while_the_api_server_is_away_monitoring_goes_on_and_nobody_new_is_let_in(
    kubedr: Kubedr,
    proxy: FaultProxy,
    controller: Embedded,
    metrics: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    let_in(kubedr, "prometheus")
    prometheus, stranger = token(kubedr, "prometheus"), token(kubedr, "stranger")
    controller.start()
    kubedr.wait_for(controller.ready, "the controller to be ready")
    assert get(metrics, prometheus)[0] == 200
    monkeypatch.setattr(review, "ALLOWED", 0.0)
    proxy.close_port()
    assert get(metrics, prometheus)[0] == 200
    kubedr.wait_for(lambda: "does not serve" in caplog.text, "the outage to be noticed")
    assert get(metrics, prometheus)[0] == 200
    status, said, _ = get(metrics, stranger)
    assert status == 503
    assert "cannot be asked about this token" in said
    assert controller.http("/livez") == (200, "ok\n")
    proxy.open_port()
    kubedr.wait_for(lambda: get(metrics, stranger)[0] == 403, "the API server to be asked again")


def test_without_the_role_to_ask_the_answer_leads_to_the_log(
    kubedr: Kubedr, controller: Embedded, metrics: str, caplog: pytest.LogCaptureFixture
) -> None:
    controller.start()
    status, said, _ = get(metrics, token(kubedr, "prometheus"))
    assert status == 503
    assert "the controller's log has more" in said
    kubedr.wait_for(lambda: "system:auth-delegator" in caplog.text, "the remedy")


def mount(directory: Path, pair: KeyPair) -> None:
    directory.mkdir(exist_ok=True)
    shutil.copy(pair.certificate, directory / "tls.crt")
    shutil.copy(pair.key, directory / "tls.key")


def test_the_whole_port_speaks_tls_with_the_certificate_that_is_there(kubedr: Kubedr, tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    mount(tmp_path / "tls", old.server("serving"))
    let_in(kubedr, "prometheus")
    prometheus = token(kubedr, "prometheus")
    replica = kubedr.another(
        "tls", KUBEDR_METRICS_AUTHENTICATION="true", KUBEDR_METRICS_TLS_DIRECTORY=str(tmp_path / "tls")
    )
    replica.start()
    origin = f"https://{LOOPBACK}:{replica.port}"
    kubelet = ssl._create_unverified_context()  # noqa: S323 - as probes are
    kubedr.wait_for(lambda: get(f"{origin}/readyz", tls=kubelet)[0] == 200, "the controller to be ready")
    assert get(f"{origin}/livez", tls=kubelet)[1] == "ok\n"
    before = ssl.create_default_context(cafile=old.certificate)
    assert get(f"{origin}/metrics", tls=before)[0] == 401
    assert get(f"{origin}/metrics", prometheus, before)[0] == 200
    with pytest.raises(OSError):  # noqa: PT011 - reset, or no status line
        get(f"http://{LOOPBACK}:{replica.port}/livez")

    mount(tmp_path / "tls", new.server("serving"))
    assert get(f"{origin}/metrics", prometheus, ssl.create_default_context(cafile=new.certificate))[0] == 200
    with pytest.raises(OSError, match="certificate verify failed"):
        get(f"{origin}/metrics", prometheus, before)
    mount(tmp_path / "tls", KeyPair(new.certificate, old.server("other").key))
    assert get(f"{origin}/metrics", prometheus, ssl.create_default_context(cafile=new.certificate))[0] == 200
    assert replica.logs().count("still serving with the certificate that was there before") == 1
    assert prometheus not in replica.logs()


def test_a_certificate_that_is_missing_at_the_start_ends_it_with_one_line(kubedr: Kubedr, tmp_path: Path) -> None:
    replica = kubedr.another("tls", KUBEDR_METRICS_TLS_DIRECTORY=str(tmp_path / "tls"))
    replica.start()
    with pytest.raises(AssertionError, match="tls ended"):
        kubedr.wait_for(lambda: False, "its end")
    (line,) = replica.logs().splitlines()
    message = json.loads(line)["message"]
    assert message.startswith(f"{tmp_path}/tls/tls.crt cannot be read (No such file or directory): mount a Secret")
