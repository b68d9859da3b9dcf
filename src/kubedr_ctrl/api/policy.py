"""MetadataBackupPolicy: what is backed up, where to and when; and the truth about how it went."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.duration import DURATION_PATTERN, parse_duration
from kubedr_ctrl.api.meta import Condition, ObjectMeta, RecordedJob, Time
from kubedr_ctrl.api.names import MAX_POLICY_NAME
from kubedr_ctrl.api.result import Outcome
from kubedr_ctrl.api.schema import NAME, Column, Names, rule, rules

MASTER_NODE_LABEL_OPTION = "master-node-label-name"

OVERDUE = "Overdue"
"""The type of the condition that says whether a good backup is overdue."""

MINUTE, HOUR = 60, 3600
DURATION_BUCKETS = (
    15,
    30,
    MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    *range(HOUR, 11 * HOUR, HOUR),
)
"""Upper bounds, in seconds, of the histogram of backup durations."""


Quantity = Annotated[str, BeforeValidator(str), WithJsonSchema({"x-kubernetes-int-or-string": True})]


class Resources(Model):
    """Kubernetes' ResourceRequirements."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class MetadataBackupPolicySpec(Model):
    """What is backed up, where to and when."""

    destination: Annotated[str, NAME]
    """Name of the BackupLocation that backups go to."""
    schedule: Annotated[
        str,
        Field(
            max_length=256,
            json_schema_extra=rules(
                rule(
                    r"self.matches('^\\s*(@(annually|yearly|monthly|weekly|daily|midnight|hourly)|@every\\s+\\S+"
                    r"|\\S+(\\s+\\S+){4})\\s*$') && !self.matches('(?i)TZ=')",
                    "schedule must be a CronJob's: five fields (minute, hour, day of month, month, day of week) such "
                    "as '0 */6 * * *', or a macro such as @daily; a time zone goes into timeZone",
                ),
            ),
        ),
    ]
    """When backups run, in the syntax of a CronJob's schedule."""
    time_zone: Annotated[str, Field(max_length=64)] = ""
    """The time zone of the schedule, such as Europe/Berlin; where empty, that of kube-controller-manager."""
    certs_dir: Annotated[
        str,
        Field(
            max_length=4096,
            json_schema_extra=rules(
                rule(
                    "self == '' || (self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)'))",
                    "certsDir must be an absolute path on the control-plane node, such as /etc/kubernetes/pki",
                )
            ),
        ),
    ] = ""
    """Directory of certificates on the control-plane node; where empty, certificates are not backed up."""
    etcd_endpoint: Annotated[
        str,
        Field(
            max_length=1024,
            json_schema_extra=rules(
                rule(
                    "self.split(',').all(e, isURL(e.trim()) && url(e.trim()).getScheme() in ['http', 'https'])",
                    "etcdEndpoint must be a URL such as https://127.0.0.1:2379, or several, separated by commas",
                )
            ),
        ),
    ] = "https://127.0.0.1:2379"
    """etcd as seen from a control-plane node; of several, separated by commas, the first that answers."""
    etcd_creds: Annotated[str, NAME] = "etcd-creds"
    """Name of the Secret with the keys ca.crt, client.crt and client.key."""
    options: dict[str, Annotated[str, Field(max_length=1024)]] = {}
    """Further settings by name: master-node-label-name is the label of the nodes that run backups."""
    retain_num_backups: Annotated[int, Field(ge=1, json_schema_extra={"format": "int64"})] = 120
    """How many backups are kept; older ones are removed, with their records."""
    suspend: bool = False
    """Whether the schedule is paused."""
    backup_timeout: Annotated[
        str,
        Field(
            max_length=32,
            json_schema_extra=rules(
                rule(
                    f"self.matches('{DURATION_PATTERN}') && duration(self) >= duration('10s')",
                    "backupTimeout must be a duration of 10s or more, such as 90s, 45m or 1h30m",
                )
            ),
        ),
    ] = "1h"
    """How long one backup may take before it counts as failed."""
    resources: Resources | None = None
    """What a backup's container requests and may use, such as requests: {memory: 256Mi}."""

    @property
    def timeout_seconds(self) -> int:
        """`backupTimeout` in seconds."""
        return parse_duration(self.backup_timeout)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The etcd endpoints, in the order in which they are tried."""
        return tuple(part.strip() for part in self.etcd_endpoint.split(",") if part.strip())


def _one_for_each_bucket(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Return `counts` filled up with zeros; all of them in the last bucket if there are more than buckets."""
    missing = len(DURATION_BUCKETS) + 1 - len(counts)
    return (*counts, *(0,) * missing) if missing >= 0 else (*(0,) * len(DURATION_BUCKETS), sum(counts))


def _without_trailing_zeros(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Return `counts` up to the last that is not 0: most backups take seconds, and people read this."""
    return counts[: max((number for number, count in enumerate(counts, 1) if count), default=0)]


class Totals(Model):
    """All backups of the policy ever: what the counters in /metrics are set from."""

    backups: int = 0
    successful: int = 0
    failed: int = 0
    duration_seconds_sum: float = 0.0
    duration_bucket_counts: Annotated[
        tuple[int, ...], AfterValidator(_one_for_each_bucket), PlainSerializer(_without_trailing_zeros)
    ] = (0,) * (len(DURATION_BUCKETS) + 1)
    """How many successful backups fell into each bucket of the duration histogram, up to the last that is not
    empty; the very last one is for what took longer than all bounds."""


class LastSuccessfulBackup(Model):
    """The newest good backup, which a later failure does not touch."""

    time: Time
    mbr_name: str
    snapshot_id: str
    total_bytes_processed: int
    data_added: int
    etcd_revision: int | None = None


class ActiveSchedule(Model):
    """The schedule that is in force."""

    schedule: str
    time_zone: str | None = None
    since: Time


class MetadataBackupPolicyStatus(Model):
    """How the latest backup went, and all of them so far."""

    backup_time: str | None = None
    """When the latest backup ended, as C's ctime writes it, in UTC."""
    backup_status: Outcome | None = None
    """Completed or Failed."""
    backup_error_message: str | None = None
    """Why the latest backup failed; empty when it did not."""
    files_new: int | None = None
    files_changed: int | None = None
    data_added: int | None = None
    """Bytes that the latest backup added to the repository."""
    total_bytes_processed: int | None = None
    """Bytes that the latest backup holds."""
    total_duration_secs: str | None = None
    """Seconds that the latest backup took, as restic writes them."""
    snapshot_id: str | None = None
    mbr_name: str | None = None
    """Name of the MetadataBackupRecord from which the latest backup can be restored."""
    backup_pod: str | None = None
    """Name of the pod that ran the latest backup."""
    last_successful_backup: LastSuccessfulBackup | None = None
    next_due: Time | None = None
    """When the next good backup is due, by the schedule."""
    active_schedule: ActiveSchedule | None = None
    """The schedule that is in force, and since when; none while the policy is suspended."""
    totals: Totals = Totals()
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    recorded: tuple[RecordedJob, ...] = ()
    """Jobs that `totals` already counts while the Job may still be there."""


class MetadataBackupPolicy(Model):
    """Backs up etcd and certificates to a BackupLocation on a schedule."""

    NAMES: ClassVar = Names(
        kind="MetadataBackupPolicy",
        plural="metadatabackuppolicies",
        short="mbp",
        columns=(
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether all is well"),
            Column("Status", ".status.conditions[?(@.type=='Ready')].reason", "How it stands, in one word"),
            Column("Since", ".status.conditions[?(@.type=='Ready')].lastTransitionTime", "Since when", "date"),
            Column("Last", ".status.backupStatus", "How the latest backup went"),
            Column("Last Success", ".status.lastSuccessfulBackup.time", "When a backup last succeeded", "date"),
            Column("Record", ".status.lastSuccessfulBackup.mbrName", "Record of the newest good backup"),
            Column("Schedule", ".spec.schedule", "When backups run"),
            Column("Suspended", ".spec.suspend", "Whether the schedule is paused", "boolean", priority=1),
            Column("Destination", ".spec.destination", "BackupLocation", priority=1),
            Column("Message", ".status.conditions[?(@.type=='Ready')].message", "Why it is so", priority=1),
        ),
        object_rules=(
            rule(
                f"self.metadata.name.size() <= {MAX_POLICY_NAME}",
                f"metadata.name must have at most {MAX_POLICY_NAME} characters, as the policy's CronJob is named "
                "after it: choose a shorter name",
            ),
        ),
    )

    metadata: ObjectMeta
    spec: MetadataBackupPolicySpec
    status: MetadataBackupPolicyStatus = MetadataBackupPolicyStatus()
