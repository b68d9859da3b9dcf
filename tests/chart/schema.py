"""Writes what the chart's values know of our kinds into values.schema.json, from the models: `make docs`."""

import json
import sys
from pathlib import Path
from typing import Any

from kubedr_ctrl.api.crd import definition
from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.policy import MetadataBackupPolicy


def schema(text: str) -> str:
    """Return the text of values.schema.json with its two definitions, a line each, as the models have them."""
    for kind in (BackupLocation, MetadataBackupPolicy):
        version = definition(kind)["spec"]["versions"][0]
        spec = json.dumps(_closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"]))
        before, key, rest = text.partition(f'"{kind.NAMES.kind}": ')
        _, _, after = rest.partition("\n")
        text = f"{before}{key}{spec},\n{after}"
    return text


def _closed(node: Any) -> Any:
    """Return a CRD's schema as one that admits no other fields than those it names."""
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key not in ("description", "format", "default")}
    plain = {key: value for key, value in kept.items() if not key.startswith("x-kubernetes-")}
    for key in ("items", "additionalProperties"):
        if key in plain:
            plain[key] = _closed(plain[key])
    if "properties" in plain:
        plain["properties"] = {name: _closed(child) for name, child in plain["properties"].items()}
        plain["additionalProperties"] = False
    return plain


if __name__ == "__main__":
    file = Path(sys.argv[1]) / "values.schema.json"
    file.write_text(schema(file.read_text()))
