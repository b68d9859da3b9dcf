"""What all Jobs have in common."""

from typing import Any

import pytest

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.jobs.init import init_job
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.settings import load_settings

OWN_BUNDLE = {"secret": {"name": "own", "key": "bundle.pem"}}


def pod(setup: WorkerSetup, **spec: Any) -> dict[str, Any]:
    """Return the pod that initialises a location."""
    place = {"url": "https://s3.example.com", "bucketName": "bucket", "credentials": "creds", **spec}
    location = BackupLocation.model_validate({"metadata": {"name": "loc", "uid": "l1"}, "spec": place})
    found: dict[str, Any] = init_job(location, setup, attempt="1")["spec"]["template"]["spec"]
    return found


def ca_volume(spec: dict[str, Any]) -> dict[str, Any]:
    return next((volume for volume in spec["volumes"] if volume["name"] == "ca"), {})


def test_proxies_of_the_settings_reach_the_pods() -> None:
    settings = load_settings("ns", {"KUBEDR_HTTPS_PROXY": "http://proxy:3128", "KUBEDR_NO_PROXY": "10.0.0.0/8"})
    (container,) = pod(WorkerSetup("image", proxies=settings.proxies))["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["HTTPS_PROXY"] == "http://proxy:3128"
    assert variables["NO_PROXY"] == "10.0.0.0/8"
    assert "HTTP_PROXY" not in variables


def test_certificates_of_the_settings_are_for_locations_without_their_own() -> None:
    settings = load_settings("ns", {"KUBEDR_CA_CONFIG_MAP": "authorities/ca.crt"})
    setup = WorkerSetup("image", ca_bundle=settings.ca_bundle)
    assert ca_volume(pod(setup)) == {
        "name": "ca",
        "configMap": {"name": "authorities", "items": [{"key": "ca.crt", "path": "bundle.crt"}]},
    }
    assert ca_volume(pod(setup, caBundle=OWN_BUNDLE))["secret"]["secretName"] == "own"
    assert ca_volume(pod(WorkerSetup("image"))) == {}


def test_a_config_map_without_a_key_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^KUBEDR_CA_CONFIG_MAP='authorities': "):
        load_settings("ns", {"KUBEDR_CA_CONFIG_MAP": "authorities"})
