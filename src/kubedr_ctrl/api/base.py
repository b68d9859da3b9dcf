"""The manner all models share: camelCase on the wire, snake_case in code, immutable in memory."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A frozen value, read from and written as camelCase JSON; fields it does not know are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    def wire(self) -> dict[str, object]:
        """Return the value as Kubernetes writes it: camelCase keys, nothing that is null, no list that is empty."""
        return _told(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    def given(self) -> dict[str, object]:
        """Return what was there when the value was read, without the defaults that were filled in."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


def _told(value: dict[str, Any]) -> dict[str, object]:
    """Return `value` without empty lists; an empty text stays, as `initErrorMessage: ""` says that all went well."""
    return {key: _told(item) if isinstance(item, dict) else item for key, item in value.items() if item != []}
