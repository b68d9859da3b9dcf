"""What surrounds one run of the worker: the pod's directories, its variables, its log.

No secret that came by a variable leaves through `redact`, and `log` writes nothing that did not pass it.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kubedr_ctrl.api.result import Reason
from kubedr_ctrl.api.task import CA_BUNDLE_PATH, CERTIFICATES_DIR, DATA_DIR, RESTORE_DIR, SNAPSHOT_FILE, SecretEnv
from kubedr_ctrl.worker.ending import Failure


@dataclass(frozen=True)
class Paths:
    """Where the pod's volumes are mounted; tests have them elsewhere."""

    data: Path = Path(DATA_DIR)
    restore: Path = Path(RESTORE_DIR)
    ca_certificates: Path = Path(CA_BUNDLE_PATH)

    @property
    def ca_bundle(self) -> Path | None:
        """The certificates to check the S3 endpoint's against, where some were given."""
        return self.ca_certificates if self.ca_certificates.exists() else None

    @property
    def snapshot(self) -> Path:
        """The etcd snapshot that a backup saves."""
        return self.data / Path(SNAPSHOT_FILE).relative_to(DATA_DIR)

    @property
    def certificates(self) -> Path:
        """The certificates that a backup saves; absent where the policy names none."""
        return self.data / Path(CERTIFICATES_DIR).relative_to(DATA_DIR)

    @property
    def restored_snapshot(self) -> Path:
        """The etcd snapshot that a restore brings back; restic keeps a file's whole path below its target."""
        return self.restore / self.snapshot.relative_to("/")


@dataclass(frozen=True)
class Environment:
    """The pod as one run of the worker sees it."""

    paths: Paths
    variables: Mapping[str, str] = field(repr=False)

    def secret(self, name: SecretEnv) -> str:
        """Return the secret in a variable; a Failure names the variable that is absent or empty."""
        value = self.variables.get(name)
        if not value:
            raise Failure(Reason.WORKER_ERROR, f"the environment variable {name} is not set: it carries a secret")
        return value

    def redact(self, text: str) -> str:
        """Return `text` with `***` in the place of every secret, also of a line of one that has several."""
        values = [self.variables.get(name, "") for name in SecretEnv]
        lines = [line for value in values for line in value.splitlines() if not line.startswith("-----")]
        forms = {form for value in [*values, *lines] for form in (value, _json(value)[1:-1]) if form}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "***")
        return text

    def log(self, event: str, **fields: object) -> None:
        """Write one line of JSON to standard error."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        sys.stderr.write(self.redact(_json(line)) + "\n")
        sys.stderr.flush()


def _json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
