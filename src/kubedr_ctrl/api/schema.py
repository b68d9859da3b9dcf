"""How a model says what the API server shall check: CEL rules and the CRD's outer shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field
from pydantic.config import JsonDict


def rule(cel: str, message: str) -> dict[str, str]:
    """Return one validation rule: an expression in CEL that must hold, and what is said when it does not."""
    return {"rule": cel, "message": message}


def rules(*items: dict[str, str]) -> JsonDict:
    """Return the rules in the shape that a field's or a model's `json_schema_extra` takes."""
    return {"x-kubernetes-validations": [dict(item) for item in items]}


NAME: Any = Field(
    min_length=1,
    max_length=253,
    json_schema_extra=rules(
        rule(
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "this must be the name of an object: lower-case letters, digits, hyphens and dots",
        )
    ),
)
"""A field that names another object in the same namespace."""


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; those of priority 1 show with `-o wide` only."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True)
class Names:
    """What the kind is called in manifests, in paths and on the command line."""

    kind: str
    plural: str
    short: str
    columns: tuple[Column, ...]
    object_rules: tuple[Mapping[str, str], ...] = field(default=())
    """Rules over the whole object, the only place from which its name can be seen."""
