"""The four CustomResourceDefinitions, made from the models, so that the two cannot drift apart.

`python -m kubedr_ctrl.api.crd DIRECTORY` writes one YAML file a kind; a test holds manifests/crds to it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import APP, APP_LABEL, GROUP, VERSION
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.api.schema import Column, Names

Kind = type[BackupLocation] | type[MetadataBackupPolicy] | type[MetadataBackupRecord] | type[MetadataRestore]
KINDS: tuple[Kind, ...] = (BackupLocation, MetadataBackupPolicy, MetadataBackupRecord, MetadataRestore)


def definition(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of one of the four kinds."""
    names: Names = kind.NAMES
    schema: dict[str, Any] = {
        "type": "object",
        "description": _text(kind.__doc__),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _structural(kind.model_fields["spec"].annotation),
            "status": _structural(kind.model_fields["status"].annotation, defaults=False),
        },
    }
    if names.object_rules:
        schema["x-kubernetes-validations"] = [dict(rule) for rule in names.object_rules]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{GROUP}", "labels": {APP_LABEL: APP}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.kind,
                "listKind": f"{names.kind}List",
                "plural": names.plural,
                "singular": names.kind.lower(),
                "shortNames": [names.short],
                "categories": [APP],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in (*names.columns, _AGE)],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


_AGE = Column("Age", ".metadata.creationTimestamp", "Since when the resource exists", "date")


def _column(column: Column) -> dict[str, Any]:
    shape = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }
    return {**shape, "priority": column.priority} if column.priority else shape


def _structural(model: Any, *, defaults: bool = True) -> dict[str, Any]:
    """Return the model's schema as a CRD wants it: no references, no titles, no alternatives with null."""
    assert issubclass(model, Model)  # noqa: S101 - narrows the type of a field's annotation
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        if reference := node.get("$ref"):
            return plain({**definitions[reference.rsplit("/", 1)[1]], **{k: v for k, v in node.items() if k != "$ref"}})
        if alternatives := node.get("anyOf"):
            (only,) = (item for item in alternatives if item != {"type": "null"})
            return plain({**only, **{k: v for k, v in node.items() if k not in ("anyOf", "default")}})
        plained: dict[str, Any] = {}
        for key, value in node.items():
            if key == "title" and isinstance(value, str):
                continue
            if key == "properties":
                plained[key] = {name: plain(child) for name, child in value.items()}
            elif key == "description":
                plained[key] = _text(value)
            elif key != "default" or (defaults and value not in (None, "", {})):
                plained[key] = plain(value)
        if plained.get("type") == "integer" and "format" not in plained:
            plained["format"] = "int64"
        if plained.get("description") == _text(Model.__doc__):
            del plained["description"]
        return plained

    result: dict[str, Any] = plain(schema)
    conditions = result["properties"].get("conditions")
    if conditions:
        conditions.update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})
    return result


def _text(docstring: str | None) -> str:
    return " ".join((docstring or "").split())


def write(directory: Path) -> None:
    """Write one YAML file a kind into `directory`."""
    for kind in KINDS:
        plain = json.loads(json.dumps(definition(kind)))
        (directory / f"{kind.NAMES.plural}.yaml").write_text(yaml.safe_dump(plain, sort_keys=False, width=110))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
