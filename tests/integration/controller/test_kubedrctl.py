"""kubedrctl, as its users and the chart's hooks run it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from kubedr_ctrl.api.result import Operation
from tests.servers.kubedr import Kubedr, Object, failure, report


def kubedrctl(kubedr: Kubedr, *args: str | Path) -> tuple[int, str]:
    """Run a command; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "kubedr_ctrl.cli", "--namespace", kubedr.namespace, *args],
        env={**os.environ, "KUBECONFIG": str(kubedr.plane.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_check_says_of_each_thing_whether_it_is_well(own: Kubedr) -> None:
    own.scheduled("nightly")
    code, said = kubedrctl(own, "check")
    assert code == 0
    assert said.splitlines() == [
        "✓ controller: kubedr-controller-0 leads",
        f"✓ BackupLocation nightly-loc: {own.ready('BackupLocation', 'nightly-loc')[2]}",
        f"✓ MetadataBackupPolicy nightly: {own.ready('MetadataBackupPolicy', 'nightly')[2]}",
    ]

    own.finish(own.backup_now("nightly", "now"), failure(Operation.BACKUP, "the disk is full"))
    own.recorded("now")
    code, said = kubedrctl(own, "check", "--timeout=0")
    assert code == 1
    assert "✗ MetadataBackupPolicy nightly: the disk is full. To try again" in said

    own.stop()
    code, said = kubedrctl(own, "check", "--timeout=0")
    assert code == 1
    assert "✗ controller: none holds the Lease kubedr-controller: does its Deployment run?\n" in said


def test_check_waits_for_what_is_still_on_its_way(own: Kubedr) -> None:
    own.apply(own.location("on-its-way"))
    job = own.next_job("on-its-way", Operation.INIT)
    code, said = kubedrctl(own, "check", "--timeout=0")
    assert code == 1
    assert "✗ BackupLocation on-its-way: Initializing" in said
    assert "✓ controller: " in said

    with ThreadPoolExecutor() as pool:
        check = pool.submit(kubedrctl, own, "check", "--timeout=60")
        own.finish(job, report(Operation.INIT))
        code, said = check.result()
    assert "✓ BackupLocation on-its-way: " in said
    assert code == 0


def manifests(path: Path, *objects: Object) -> Path:
    path.write_text(yaml.safe_dump_all(objects))
    return path


def test_apply_creates_changes_and_deletes_what_the_file_no_longer_has(shared: Kubedr, tmp_path: Path) -> None:
    file, other = tmp_path / "resources.yaml", tmp_path / "other.yaml"
    location, policy = shared.location("set-loc"), shared.policy("set-pol", "set-loc")
    assert kubedrctl(shared, "apply", manifests(other, shared.location("of-another-set")), "--set=other")[0] == 0
    code, said = kubedrctl(shared, "apply", manifests(file, location, policy), "--set=release")
    assert (code, said) == (0, "✓ BackupLocation set-loc applied\n✓ MetadataBackupPolicy set-pol applied\n")

    policy["spec"]["suspend"] = True
    assert kubedrctl(shared, "apply", manifests(file, location, policy), "--set=release")[0] == 0
    assert shared.get("MetadataBackupPolicy", "set-pol")["spec"]["suspend"] is True

    code, said = kubedrctl(shared, "apply", manifests(file), "--set=release")
    assert said == (
        "✓ MetadataBackupPolicy set-pol deleted, as it is no longer asked for\n"
        "✓ BackupLocation set-loc deleted, as it is no longer asked for\n"
    )
    shared.wait_for(lambda: shared.gone("BackupLocation", "set-loc"), "the location to be gone")
    assert shared.get("BackupLocation", "of-another-set")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"schedule": "whenever"}, "schedule must be a CronJob's"),
        ({"retainNumBackup": 3}, "retainNumBackup"),
    ],
)
def test_apply_passes_on_why_something_is_refused_and_does_the_rest(
    shared: Kubedr, tmp_path: Path, spec: Object, words: str
) -> None:
    file = manifests(tmp_path / "r.yaml", shared.policy("refused", "loc", **spec), shared.policy("taken", "loc"))
    before = manifests(tmp_path / "before.yaml", shared.policy("before", "loc"))
    assert kubedrctl(shared, "apply", before, "--set=refusals")[0] == 0
    code, said = kubedrctl(shared, "apply", file, "--set=refusals")
    assert code == 1
    assert shared.get("MetadataBackupPolicy", "before"), "what was refused might have taken its place"
    assert "✗ MetadataBackupPolicy refused: " in said
    assert words in said
    assert "✓ MetadataBackupPolicy taken applied\n" in said


def test_apply_takes_nothing_but_locations_and_policies(shared: Kubedr, tmp_path: Path) -> None:
    file = manifests(tmp_path / "r.yaml", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    code, said = kubedrctl(shared, "apply", file, "--set=s")
    assert code == 1
    assert "each document must be one of BackupLocation, MetadataBackupPolicy" in said


def test_an_api_server_out_of_reach_is_said_in_one_line(shared: Kubedr) -> None:
    config = shared.kubeconfig("away", "https://127.0.0.1:1")
    done = subprocess.run(
        [sys.executable, "-m", "kubedr_ctrl.cli", "check"],
        env={**os.environ, "KUBECONFIG": str(config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: GET /apis/coordination.k8s.io/v1/namespaces/kubedr-system/leases/kubedr-controller")
