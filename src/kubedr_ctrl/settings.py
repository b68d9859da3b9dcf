"""The controller's settings, from environment variables `KUBEDR_…`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.location import CaBundle, KeySelector
from kubedr_ctrl.jobs.template import PodDefaults

PREFIX = "KUBEDR_"


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class Settings(Model):
    """What can be set from outside; each field is the variable `KUBEDR_<FIELD>` in capitals."""

    namespace: str = Field(min_length=1)
    """The one namespace that is watched."""
    worker_image: str = ""
    """The image that Jobs run; where empty, that of the controller's own pod."""
    pod_name: str = ""
    """The name of the controller's own pod, which is also its name in the Lease."""
    lease_duration_seconds: int = Field(default=15, ge=3, le=3600)
    """How long the lease of a leader that vanished keeps the next one waiting."""
    event_error_type: Literal["Error", "Warning"] = "Error"
    """The type of events that tell a failure."""
    http_proxy: str = ""
    """The proxy through which Jobs reach S3 endpoints with http."""
    https_proxy: str = ""
    """The proxy through which Jobs reach S3 endpoints with https."""
    no_proxy: str = ""
    """Hosts that Jobs reach without a proxy, separated by commas."""
    ca_config_map: str = Field(default="", pattern="^([^/]+/[^/]+)?$")
    """`NAME/KEY` of the ConfigMap with certificates for S3 endpoints whose BackupLocation names none."""
    job_pods: Annotated[PodDefaults, BeforeValidator(_json)] = PodDefaults()
    """JSON of what all Jobs' pods get: labels, annotations, resources, nodeSelector, tolerations, priorityClassName."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Where /metrics, /livez and /readyz are served."""
    metrics_authentication: bool = False
    """Whether /metrics asks for a token, and the API server whether its bearer may read them."""
    metrics_tls_directory: Path | None = None
    """Where tls.crt and tls.key are, to serve HTTPS with."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What the controller says on standard error, and all that is graver."""

    @property
    def proxies(self) -> tuple[tuple[str, str], ...]:
        """The variables by which Jobs learn of their proxies."""
        given = {"HTTP_PROXY": self.http_proxy, "HTTPS_PROXY": self.https_proxy, "NO_PROXY": self.no_proxy}
        return tuple((name, value) for name, value in given.items() if value)

    @property
    def ca_bundle(self) -> CaBundle | None:
        """`ca_config_map` as a BackupLocation would name it."""
        name, _, key = self.ca_config_map.partition("/")
        return CaBundle(config_map=KeySelector(name=name, key=key)) if name else None


def load_settings(namespace: str | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; `namespace` is used where none is set. ValueError names what is wrong."""
    given = {
        name: environ[PREFIX + name.upper()] for name in Settings.model_fields if environ.get(PREFIX + name.upper())
    }
    try:
        return Settings.model_validate({"namespace": namespace or "kubedr-system", **given})
    except ValidationError as error:
        wrong = (f"{PREFIX}{str(part['loc'][0]).upper()}={part['input']!r}: {part['msg']}" for part in error.errors())
        raise ValueError("; ".join(wrong)) from None
