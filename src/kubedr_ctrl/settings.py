"""The controller's settings, from environment variables `KUBEDR_…`."""

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from kubedr_ctrl.api.base import Model

PREFIX = "KUBEDR_"


class Settings(Model):
    """What can be set from outside; each field is the variable `KUBEDR_<FIELD>` in capitals."""

    namespace: str = Field(min_length=1)
    """The one namespace that is watched."""
    worker_image: str = ""
    """The image that Jobs run; where empty, that of the controller's own pod `pod_name`."""
    pod_name: str = ""
    """The controller's own pod, which is also how it is called as a candidate for the lease."""
    lease_duration_seconds: int = Field(default=15, ge=3, le=3600)
    """How long the lease of a leader that vanished keeps the next one waiting."""
    event_error_type: Literal["Error", "Warning"] = "Error"
    """The type of events that tell a failure."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Where /metrics, /livez and /readyz are served."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def load_settings(namespace: str | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; `namespace` is used where none is set. ValueError names what is wrong."""
    given = {
        name: environ[PREFIX + name.upper()] for name in Settings.model_fields if environ.get(PREFIX + name.upper())
    }
    return Settings.model_validate({"namespace": namespace or "kubedr-system", **given})
