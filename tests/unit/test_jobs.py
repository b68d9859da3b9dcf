"""What all Jobs have in common."""

import json
from typing import Any

import pytest

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.jobs.backup import backup_cronjob
from kubedr_ctrl.jobs.init import init_job
from kubedr_ctrl.jobs.template import PodDefaults, WorkerSetup
from kubedr_ctrl.settings import load_settings

OWN_BUNDLE = {"secret": {"name": "own", "key": "bundle.pem"}}


def pod(setup: WorkerSetup, **spec: Any) -> dict[str, Any]:
    """Return the pod that initialises a location."""
    place = {"url": "https://s3.example.com", "bucketName": "bucket", "credentials": "creds", **spec}
    location = BackupLocation.model_validate({"metadata": {"name": "loc", "uid": "l1"}, "spec": place})
    found: dict[str, Any] = init_job(location, setup, attempt="1")["spec"]["template"]["spec"]
    return found


def template(setup: WorkerSetup, **spec: Any) -> dict[str, Any]:
    """Return the pod template of a policy's backups."""
    place = {"url": "https://s3.example.com", "bucketName": "bucket", "credentials": "creds"}
    location = BackupLocation.model_validate({"metadata": {"name": "loc", "uid": "l1"}, "spec": place})
    wanted = {"destination": "loc", "schedule": "@daily", **spec}
    policy = MetadataBackupPolicy.model_validate({"metadata": {"name": "pol", "uid": "p1"}, "spec": wanted})
    made: dict[str, Any] = backup_cronjob(policy, location, "cluster", setup)["spec"]["jobTemplate"]["spec"]["template"]
    return made


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


def test_what_an_installation_gives_all_pods_arrives() -> None:
    given = {
        "labels": {"team": "platform", "app.kubernetes.io/name": "not ours"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "resources": {"limits": {"memory": "1Gi"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "high",
    }
    settings = load_settings("ns", {"KUBEDR_JOB_PODS": json.dumps(given)})
    setup = WorkerSetup("image", pods=settings.job_pods)
    spec = pod(setup)
    assert spec["nodeSelector"] == given["nodeSelector"]
    assert spec["priorityClassName"] == "high"
    assert given["tolerations"][0] in spec["tolerations"]  # type: ignore[index]
    assert spec["containers"][0]["resources"] == given["resources"]

    backup = template(setup)
    assert backup["metadata"]["labels"]["team"] == "platform"
    assert backup["metadata"]["labels"]["app.kubernetes.io/name"] == "kubedr", "by which pods are found"
    assert backup["metadata"]["annotations"] == given["annotations"]
    assert "nodeSelector" not in backup["spec"], "backups run where etcd is"
    assert backup["spec"]["containers"][0]["resources"] == given["resources"]


def test_a_policy_may_set_resources_of_its_own() -> None:
    setup = WorkerSetup("image", pods=PodDefaults(resources={"limits": {"memory": "1Gi"}}))
    wanted = {"requests": {"cpu": 1, "memory": "256Mi"}}
    assert template(setup, resources=wanted)["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "256Mi"},
    }


@pytest.mark.parametrize("wrong", ["{", '{"label": {}}', '{"resources": 1}'])
def test_pods_that_make_no_sense_are_refused_by_name(wrong: str) -> None:
    with pytest.raises(ValueError, match="KUBEDR_JOB_PODS="):
        load_settings("ns", {"KUBEDR_JOB_PODS": wrong})


def test_a_config_map_without_a_key_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^KUBEDR_CA_CONFIG_MAP='authorities': "):
        load_settings("ns", {"KUBEDR_CA_CONFIG_MAP": "authorities"})
