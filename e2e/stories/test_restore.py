"""What was backed up comes back."""

from e2e.demo import restored_directory
from e2e.stories.teller import Teller


def volume(story: Teller) -> None:
    story.apply(
        "PersistentVolumeClaim",
        story.name,
        "v1",
        spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    )


def backed_up(story: Teller) -> str:
    story.scheduled(certsDir="/etc/kubernetes/pki/etcd")
    assert story.recorded(story.backup_now()) == "Completed"
    return str(story.status("MetadataBackupPolicy")["mbrName"])


def restored(story: Teller, record: str, timeout: float = 120) -> None:
    story.apply("MetadataRestore", story.name, spec={"mbrName": record, "pvcName": story.name})
    story.wait_ready("MetadataRestore", timeout=timeout)


def test_files_come_back_and_others_stay(story: Teller) -> None:
    record = backed_up(story)
    volume(story)
    story.wait_for(
        lambda: story.get("pvc")["status"].get("phase") == "Bound", lambda: "the volume to be provisioned", timeout=60
    )
    directory = restored_directory(story.cluster, story.name)
    story.cluster.node("sh", "-c", f"mkdir -p {directory}/data && echo mine > {directory}/data/other")
    restored(story, record)
    assert story.status("MetadataRestore")["restoreErrorMessage"] == ""
    assert story.events()[-1] == (
        "Normal",
        "RestoreSucceeded",
        f"Restore from snapshot {record.removeprefix('mbr-')} completed",
    )
    assert story.cluster.node("cat", f"{directory}/data/other") == "mine\n"
    compared = story.cluster.node("diff", "-r", "/etc/kubernetes/pki/etcd", f"{directory}/data/certificates")
    assert compared == ""


def test_a_volume_that_is_missing_is_named_and_waited_for(story: Teller) -> None:
    record = backed_up(story)
    story.apply("MetadataRestore", story.name, spec={"mbrName": record, "pvcName": story.name})
    message = story.wait_ready("MetadataRestore", "False", "Unschedulable")
    assert story.name in message
    volume(story)
    story.wait_ready("MetadataRestore")


def test_deleting_a_record_removes_its_snapshot(story: Teller) -> None:
    record = backed_up(story)
    story.kubectl("delete", f"mbr/{record}", "--timeout=120s")
    story.apply("MetadataRestore", story.name, spec={"mbrName": record, "pvcName": story.name})
    story.wait_ready("MetadataRestore", "False", "RecordNotFound")
    assert "Removed from the repository" in story.events()[-1][2]


def test_a_repository_out_of_reach_fails_as_the_guide_prints_it(story: Teller) -> None:
    record = backed_up(story)
    volume(story)
    story.secret(story.name, access_key="nobody")
    story.apply("MetadataRestore", story.name, spec={"mbrName": record, "pvcName": story.name})
    message = story.wait_ready("MetadataRestore", "False", "RestoreFailed")
    snapshot = record.removeprefix("mbr-")
    assert message.startswith(
        f"subprocess.CalledProcessError: Command '['restic', '-r', '{story.repository}', '--verbose', 'restore', "
        f"'--target', '/restore', '{snapshot}']' returned non-zero exit status "
    ), message
