"""BackupLocations and MetadataBackupPolicies from a file, as the chart's values give them.

A chart cannot hold resources of kinds that it only just defines; its hook runs this instead. What was applied carries
a label with the name of the set, so that the next run deletes what the file no longer has.
"""

from collections.abc import Callable, Iterable
from typing import Any

import click
import yaml

from kubedr_ctrl.api.names import API_VERSION, SET_LABEL
from kubedr_ctrl.cli.reading import read_all
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.errors import ApiError
from kubedr_ctrl.resources import LOCATIONS, POLICIES, named

FIELD_MANAGER = "kubedrctl"
_KINDS = {resource.kind: resource for resource in (named(LOCATIONS), named(POLICIES))}

Manifest = dict[str, Any]


def read_manifests(text: str) -> list[Manifest]:
    """Return the manifests in a YAML text; ValueError says what in it is none that we take."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as error:
        msg = f"not YAML: {error}"
        raise ValueError(msg) from None
    for document in documents:
        match document:
            case {"apiVersion": version, "kind": kind, "metadata": {"name": str()}} if (
                version == API_VERSION and kind in _KINDS
            ):
                continue
        msg = f"each document must be one of {', '.join(_KINDS)}, of {API_VERSION}, with a name: {str(document)[:200]}"
        raise ValueError(msg)
    return documents


async def apply(
    client: Client,
    namespace: str,
    manifests: Iterable[Manifest],
    set_name: str,
    say: Callable[[str], None] = click.echo,
) -> bool:
    """Create and change what `manifests` say, and if the API server took it all, which is returned, delete the rest."""
    taken = True
    names = {kind: set[str]() for kind in _KINDS}
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        names[kind].add(name)
        labels = {**manifest["metadata"].get("labels", {}), SET_LABEL: set_name}
        labelled = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace, "labels": labels}}
        try:
            await client.apply(_KINDS[kind], namespace, labelled, manager=FIELD_MANAGER)
            say(f"✓ {kind} {name} applied")
        except ApiError as error:
            taken = False
            say(f"✗ {kind} {name}: {error}")
    if not taken:  # what was refused may be what should take the place of what would be deleted
        return False
    # A location waits for its policies to be gone, so these go first.
    for kind in reversed(_KINDS):
        for item in await read_all(client, _KINDS[kind], namespace, f"{SET_LABEL}={set_name}"):
            if item.metadata.name not in names[kind]:
                await client.delete(_KINDS[kind], namespace, item.metadata.name, uid=item.metadata.uid)
                say(f"✓ {kind} {item.metadata.name} deleted, as it is no longer asked for")
    return True
