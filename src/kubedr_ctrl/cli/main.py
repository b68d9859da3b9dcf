"""The commands of `kubedrctl`."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from kubedr_ctrl import __version__
from kubedr_ctrl.cli.apply import apply, read_manifests
from kubedr_ctrl.cli.check import check
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.credentials import CredentialsError, load_credentials, pod_namespace
from kubedr_ctrl.kube.errors import ApiError, Unreachable


@click.group()
@click.version_option(__version__, prog_name="kubedrctl")
@click.option("-n", "--namespace", help="Where KubeDR is; where not given, the pod's own, or kubedr-system.")
@click.pass_context
def main(context: click.Context, namespace: str | None) -> None:
    """Look after KubeDR, with the credentials that kubectl would use."""
    context.obj = namespace or pod_namespace() or "kubedr-system"


@main.command(name="check")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds in which all has to be well.")
@click.pass_obj
def _check(namespace: str, timeout: float) -> None:
    """Say whether all is well: a controller leads, locations are ready, backups good and in time."""
    _run(lambda client: check(client, namespace, patience=timeout))


@main.command(name="apply")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "set_name", required=True, help="A name for what the file holds.")
@click.pass_obj
def _apply(namespace: str, file: Path, set_name: str) -> None:
    """Create or change the BackupLocations and MetadataBackupPolicies in FILE.

    Those of the same set that FILE no longer has are deleted. That never deletes a backup.
    """
    try:
        manifests = read_manifests(file.read_text())
    except ValueError as error:
        raise click.ClickException(f"{file}: {error}") from None
    _run(lambda client: apply(client, namespace, manifests, set_name))


def _run(work: Callable[[Client], Coroutine[Any, Any, bool]]) -> None:
    """Do the work with a client, and end: with 0 if it says that all is well, otherwise with 1."""

    async def connected() -> bool:
        async with Client(await load_credentials(), user_agent=f"kubedrctl/{__version__}") as client:
            return await work(client)

    try:
        sys.exit(0 if asyncio.run(connected()) else 1)
    except (ApiError, Unreachable, CredentialsError) as error:
        raise click.ClickException(str(error)) from None
