"""manifests/ as an overlay installs them: in a namespace of their own, with two controllers, one of which is lost."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.cluster import NAMESPACE, Cluster
from e2e.machine import REPOSITORY
from e2e.stories.teller import Teller, take_away

OTHER = "backup"


@pytest.fixture
def installed(lent: Cluster, tmp_path: Path) -> Iterator[Teller]:
    """The repository's overlay, but for the image and for what needs Prometheus' operator."""
    overlay = REPOSITORY / "manifests" / "overlays" / "other-namespace"
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    # The bed has the definitions, and not what monitoring needs. Only folders may be elsewhere, files may not.
    wanted = [path for path in kustomization["resources"] if path.startswith("..") and not path.endswith("/crds")]
    components = [path for path in kustomization["components"] if not path.endswith("/monitoring")]
    repository, _, tag = lent.image.partition(":")
    kustomization |= {
        "resources": ["namespace.yaml", *(os.path.relpath(overlay / path, tmp_path.resolve()) for path in wanted)],
        "components": [os.path.relpath(overlay / path, tmp_path.resolve()) for path in components],
        "images": [{"name": "registry.example.com/kubedr", "newName": repository, "newTag": tag}],
    }
    for file in ("namespace.yaml", "set-namespace.yaml"):
        shutil.copy(overlay / file, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    try:
        lent.kubectl("apply", "-k", str(tmp_path))
        lent.kubectl("-n", OTHER, "rollout", "status", "deployment/kubedr-controller", "--timeout=2m")
        secret = json.loads(lent.kubectl("-n", NAMESPACE, "get", "secret", "etcd-creds", "-o", "json"))
        story = Teller(lent, OTHER, namespace=OTHER)
        story.apply("Secret", "etcd-creds", "v1", data=secret["data"])
        yield story
    finally:
        take_away(lent, OTHER)


def leader(story: Teller) -> str:
    return str(story.get("lease", "kubedr-controller")["spec"].get("holderIdentity", ""))


def test_the_other_controller_records_what_the_lost_one_would_have(installed: Teller) -> None:
    story = installed
    story.scheduled()
    first = leader(story)
    job = story.backup_now()
    story.kubectl("delete", "pod", first, "--grace-period=0", "--force")
    assert story.recorded(job) == "Completed"
    assert leader(story) != first
    assert story.status("MetadataBackupPolicy")["totals"]["backups"] == 1
    assert [event[1] for event in story.events()].count("BackupSucceeded") == 1
