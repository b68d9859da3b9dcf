"""What the chart renders, for each thing that people set."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import yaml

from kubedr_ctrl.settings import load_settings
from tests.chart.helm import CHART, KUBERNETES, ROOT, Object, documents, helm, hooks, only, render, rendered
from tests.chart.readme import described_values, readme
from tests.chart.schema import schema

CONTROLLER = "kubedr-controller"
EVERYTHING: Object = {
    "image": {"repository": "registry.example.com/kubedr", "digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": 2,
    "controller": {
        "leaseDurationSeconds": 30,
        "logLevel": "DEBUG",
        "eventErrorType": "Warning",
        "extraEnv": [{"name": "EXTRA", "value": "value"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "platform"},
        "podAnnotations": {"example.com/a": "b"},
    },
    "jobs": {
        "resources": {"limits": {"memory": "1Gi"}},
        "tolerations": [{"operator": "Exists"}],
        "nodeSelector": {"disk": "ssd"},
        "priorityClassName": "system-node-critical",
        "podLabels": {"app": "backup"},
        "podAnnotations": {"sidecar.istio.io/inject": "false"},
    },
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "{{ .Release.Name }}-more",
                "namespace": "{{ .Release.Namespace }}",
                "labels": {"owner": "us"},
                "annotations": {"example.com/note": "text"},
            },
        }
    ],
    "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3129", "noProxy": "10.0.0.0/8,.svc"},
    "ca": {"certificates": "-----BEGIN CERTIFICATE-----\nMII…\n-----END CERTIFICATE-----", "key": "bundle.pem"},
    "locations": {"main": {"url": "https://s3.example.com", "bucketName": "kubedr", "credentials": "s3-creds"}},
    "policies": {"nightly": {"destination": "main", "schedule": "0 3 * * *", "options": {"any": "text"}}},
    "commonLabels": {"owner": "us"},
    "commonAnnotations": {"example.com/note": "text"},
    "serviceAccount": {"annotations": {"example.com/role": "backup"}},
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}]},
    "metrics": {
        "authentication": {
            "enabled": True,
            "readers": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}],
        },
        "tls": {"secretName": "metrics-tls"},
    },
    "serviceMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "interval": "1m30s",
        "relabelings": [{"targetLabel": "cluster", "replacement": "prod"}],
        "metricRelabelings": [{"regex": "workqueue_.*", "sourceLabels": ["__name__"], "action": "drop"}],
    },
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}, "runbookUrl": "https://docs/runbooks.md"},
    "dashboards": {"enabled": True, "labels": {"team": "platform"}, "annotations": {"grafana_folder": "Backup"}},
}


@pytest.mark.parametrize("program", ["helm", "helm4"])
def test_lint_has_nothing_to_say(program: str) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, program=program)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"controller": {"loglevel": "DEBUG"}}, "additional properties 'loglevel' not allowed"),
        ({"controller": {"logLevel": "LOUD"}}, "/controller/logLevel"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"metrics": {"tls": {"secret": "name"}}}, "additional properties 'secret' not allowed"),
        ({"serviceMonitor": {"enabled": "yes please"}}, "/serviceMonitor/enabled"),
        ({"policies": {"a" * 38: {"destination": "a", "schedule": "@daily"}}}, "at most 37 characters"),
        (
            {"metrics": {"authentication": {"readers": [{"kind": "ServiceAccount", "name": "a"}]}}},
            "missing property 'namespace'",
        ),
        ({"ca": {"certificates": "PEM", "configMap": "name"}}, "give the certificates in one of them"),
        ({"policies": {"nightly": {"destination": "a", "schedul": "@daily"}}}, "'schedul' not allowed"),
        ({"locations": {"main": {"url": "http://s3", "bucketName": "bucket"}}}, "missing property 'credentials'"),
        ({"dashboards": {"labels": {"grafana_dashboard": 1}}}, "/dashboards/labels/grafana_dashboard"),
    ],
)
def test_a_misspelt_value_is_refused_with_its_name(values: Object, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        render(values)


def test_everything_that_can_be_set_arrives() -> None:
    objects = render(EVERYTHING)
    deployment = only("Deployment", objects)
    pod = deployment["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert deployment["spec"]["replicas"] == 2
    assert container["image"] == f"registry.example.com/kubedr@sha256:{'0' * 64}"
    assert {entry["name"]: entry.get("value") for entry in container["env"]} == {
        "KUBEDR_POD_NAME": None,
        "KUBEDR_LEASE_DURATION_SECONDS": "30",
        "KUBEDR_LOG_LEVEL": "DEBUG",
        "KUBEDR_EVENT_ERROR_TYPE": "Warning",
        "KUBEDR_HTTP_PROXY": "http://proxy:3128",
        "KUBEDR_HTTPS_PROXY": "http://proxy:3129",
        "KUBEDR_NO_PROXY": "10.0.0.0/8,.svc",
        "KUBEDR_CA_CONFIG_MAP": "kubedr-ca/bundle.pem",
        "KUBEDR_METRICS_AUTHENTICATION": "true",
        "KUBEDR_METRICS_TLS_DIRECTORY": "/etc/kubedr/metrics-tls",
        "KUBEDR_JOB_PODS": ANY,
        "EXTRA": "value",
    }
    controller = EVERYTHING["controller"]
    for field in ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName"):
        assert pod["spec"][field] == controller[field]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["metadata"]["labels"].items() >= {"team": "platform", "owner": "us"}.items()
    assert pod["metadata"]["annotations"] == {"example.com/a": "b", "example.com/note": "text"}
    assert only("ConfigMap", objects, name="kubedr-ca")["data"] == {
        "bundle.pem": EVERYTHING["ca"]["certificates"] + "\n"
    }
    assert only("ServiceAccount", objects, name=CONTROLLER)["metadata"]["annotations"]["example.com/role"] == "backup"
    assert only("PodDisruptionBudget", objects)["spec"]["minAvailable"] == 1
    assert only("NetworkPolicy", objects, name=CONTROLLER)["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {}}]
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert only(kind, objects)["metadata"]["labels"]["release"] == "prometheus"
    dashboard = only("ConfigMap", objects, name="kubedr-dashboard")
    assert dashboard["metadata"]["labels"].items() >= {"grafana_dashboard": "1", "team": "platform"}.items()
    assert dashboard["metadata"]["annotations"]["grafana_folder"] == "Backup"
    for item in [*objects, *hooks(EVERYTHING)]:
        assert item["metadata"]["labels"]["owner"] == "us", item["metadata"]["name"]
        assert item["metadata"]["annotations"]["example.com/note"] == "text", item["metadata"]["name"]


def test_what_not_every_cluster_can_use_is_there_only_when_it_is_asked_for() -> None:
    optional = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "PodDisruptionBudget", "ConfigMap")
    assert not {item["kind"] for item in render()}.intersection(optional)


def test_what_jobs_pods_get_is_what_the_controller_understands() -> None:
    (container,) = only("Deployment", render(EVERYTHING))["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    pods = load_settings("ns", environment).job_pods
    assert pods.labels == {"app": "backup", "owner": "us"}
    assert pods.annotations == {"sidecar.istio.io/inject": "false", "example.com/note": "text"}
    assert pods.resources == {"limits": {"memory": "1Gi"}}
    assert pods.tolerations == ({"operator": "Exists"},)
    assert (pods.node_selector, pods.priority_class_name) == ({"disk": "ssd"}, "system-node-critical")
    job = only("Job", hooks(EVERYTHING))["spec"]["template"]["metadata"]
    assert job["labels"]["app"] == "backup"
    assert job["annotations"]["sidecar.istio.io/inject"] == "false"


def test_names_can_be_chosen() -> None:
    objects = render({"fullnameOverride": "b", "serviceAccount": {"create": False, "name": "ours"}})
    assert only("Deployment", objects)["metadata"]["name"] == "b-controller"
    assert only("Deployment", objects)["spec"]["template"]["spec"]["serviceAccountName"] == "ours"
    bindings = [item for item in objects if item["kind"] == "RoleBinding" and "check" not in item["metadata"]["name"]]
    assert {binding["subjects"][0]["name"] for binding in bindings} == {"ours"}
    assert {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"} == {"b-check"}


def test_each_release_has_alerts_of_its_own() -> None:
    rules = only("PrometheusRule", render({"prometheusRule": {"enabled": True}}, namespace="one"))["spec"]["groups"]
    for rule in rules[0]["rules"]:
        metrics = re.findall(r"\b(?:kubedr_|leader_)\w+(\S*)", rule["expr"])
        assert all(matchers.startswith('{namespace="one"') for matchers in metrics), rule["expr"]


def test_a_version_with_a_digest_behind_it_is_still_a_label(tmp_path: Path) -> None:
    helm("package", CHART, "--version=0.1.0+abc123", f"--destination={tmp_path}")
    text = helm("template", "kubedr", tmp_path / "kubedr-0.1.0+abc123.tgz", f"--kube-version={KUBERNETES}")
    assert only("Deployment", documents(text))["metadata"]["labels"]["helm.sh/chart"] == "kubedr-0.1.0_abc123"


def test_two_releases_in_two_namespaces_share_no_name() -> None:
    values = {**EVERYTHING, "crds": {"enabled": False}}
    one, other = render(values, namespace="one"), render(values, namespace="other")

    def names(objects: list[Object]) -> set[tuple[Any, ...]]:
        return {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects}

    assert not names(one) & names(other)


CA = {"secret": {"name": "metrics-tls", "key": "ca.crt"}}
SERVER = "kubedr-controller.kubedr-system.svc"


def test_by_default_metrics_are_plain_behind_a_network_policy() -> None:
    objects = render({"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}})
    assert only("NetworkPolicy", objects, name=CONTROLLER)["spec"]["ingress"] == [{"ports": [{"port": "http"}]}]
    assert only("ServiceMonitor", objects)["spec"]["endpoints"] == [{"port": "http", "interval": "30s"}]
    assert only("PodMonitor", objects)["spec"]["podMetricsEndpoints"] == [{"port": "http", "interval": "30s"}]
    assert not [item for item in objects if item["kind"].startswith("ClusterRole")]


@pytest.mark.parametrize(
    ("tls", "config"),
    [
        ({}, {"serverName": SERVER, "ca": CA}),
        ({"insecureSkipVerify": True}, {"serverName": SERVER, "insecureSkipVerify": True}),
    ],
)
def test_probes_and_monitors_speak_tls_where_the_controller_does(tls: Object, config: Object) -> None:
    monitors = {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}
    objects = render({"metrics": {"tls": {"secretName": "metrics-tls", **tls}}, **monitors})
    pod = only("Deployment", objects)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert {container[probe]["httpGet"]["scheme"] for probe in ("livenessProbe", "readinessProbe")} == {"HTTPS"}
    assert container["volumeMounts"] == [
        {"name": "metrics-tls", "mountPath": "/etc/kubedr/metrics-tls", "readOnly": True}
    ]
    assert pod["volumes"] == [{"name": "metrics-tls", "secret": {"secretName": "metrics-tls"}}]
    expected = [{"port": "http", "interval": "30s", "scheme": "https", "tlsConfig": config}]
    assert only("ServiceMonitor", objects)["spec"]["endpoints"] == expected
    assert only("PodMonitor", objects)["spec"]["podMetricsEndpoints"] == expected


def test_with_authentication_the_controller_may_ask_and_the_readers_may_read() -> None:
    objects = render(EVERYTHING)
    bindings = {item["metadata"]["name"]: item for item in objects if item["kind"] == "ClusterRoleBinding"}
    asking, reading = bindings["kubedr-auth-delegator-kubedr-system"], bindings["kubedr-metrics-reader-kubedr-system"]
    assert asking["roleRef"]["name"] == "system:auth-delegator"
    assert asking["subjects"][0]["name"] == only("ServiceAccount", objects, name=CONTROLLER)["metadata"]["name"]
    role = only("ClusterRole", objects)
    assert role["rules"] == [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    assert reading["roleRef"]["name"] == role["metadata"]["name"]
    assert reading["subjects"] == EVERYTHING["metrics"]["authentication"]["readers"]
    endpoint = only("ServiceMonitor", objects)["spec"]["endpoints"][0]
    assert endpoint["bearerTokenFile"] == "/var/run/secrets/kubernetes.io/serviceaccount/token"


def test_a_pod_monitor_that_could_not_send_a_token_is_refused() -> None:
    with pytest.raises(RuntimeError, match="use serviceMonitor"):
        render({"podMonitor": {"enabled": True}, "metrics": {"authentication": {"enabled": True}}})


def test_definitions_stay_when_the_release_goes_unless_that_is_not_wanted() -> None:
    def policies(values: Object) -> set[str | None]:
        crds = [item for item in render(values) if item["kind"] == "CustomResourceDefinition"]
        return {crd["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for crd in crds}

    assert policies({}) == {"keep"}
    assert policies({"crds": {"keep": False}}) == {None}
    assert policies({"crds": {"enabled": False}}) == set()


def test_locations_and_policies_are_applied_by_a_hook_and_only_where_there_are_some() -> None:
    job = only("Job", hooks(EVERYTHING))
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade,post-rollback"
    applied = yaml.safe_load_all(only("ConfigMap", hooks(EVERYTHING))["data"]["resources.yaml"])
    assert {(item["kind"], item["metadata"]["name"]): item["spec"] for item in applied if item} == {
        ("BackupLocation", "main"): EVERYTHING["locations"]["main"],
        ("MetadataBackupPolicy", "nightly"): EVERYTHING["policies"]["nightly"],
    }
    assert "Job" not in {item["kind"] for item in hooks()}


def test_what_hooks_run_is_not_taken_for_the_controller() -> None:
    selector = only("Service", render())["spec"]["selector"].items()
    pods = [item for item in hooks(EVERYTHING) if item["kind"] == "Pod"]
    pods += [item["spec"]["template"] for item in hooks(EVERYTHING) if item["kind"] == "Job"]
    assert len(pods) == 2
    for pod in pods:
        assert not selector <= pod["metadata"]["labels"].items()


def test_helm_4_renders_the_same() -> None:
    assert documents(rendered(EVERYTHING, program="helm4")) == documents(rendered(EVERYTHING))


def test_the_schema_knows_the_fields_of_the_models() -> None:
    text = (CHART / "values.schema.json").read_text()
    assert text == schema(text), "run 'make docs'"


def test_every_value_is_described_and_the_readme_has_them_all() -> None:
    assert all(description for _, _, description in described_values(CHART / "values.yaml"))
    assert (CHART / "README.md").read_text() == readme(CHART), "run 'make docs'"


def test_the_chart_carries_the_definitions_made_from_the_models() -> None:
    for path in sorted((CHART / "files" / "crds").iterdir()):
        assert path.read_text() == (ROOT / "manifests" / "crds" / path.name).read_text(), "run 'make crds'"
