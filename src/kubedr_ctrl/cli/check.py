"""Whether all is well, one line a thing: the controller, each BackupLocation, each MetadataBackupPolicy."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import click

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.meta import ConditionType, find_condition
from kubedr_ctrl.api.names import LEASE
from kubedr_ctrl.api.policy import OVERDUE, MetadataBackupPolicy
from kubedr_ctrl.cli.reading import read_all
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Unreadable
from kubedr_ctrl.kube.errors import NotFound
from kubedr_ctrl.kube.lease import LEASES, LeaseSpec
from kubedr_ctrl.resources import LOCATIONS, POLICIES

LOOK_EVERY = 1.0
RENEWED_WITHIN = 2.5
"""Seconds in which a leader renews its lease at least once."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing."""

    well: bool
    what: str
    words: str


async def check(client: Client, namespace: str, *, patience: float, say: Callable[[str], None] = click.echo) -> bool:
    """Say what was found once all is well, or else when `patience` seconds are over; return whether all is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    first = await _lease(client, namespace)
    await asyncio.sleep(RENEWED_WITHIN)
    while True:
        lease = await _lease(client, namespace)
        locations = await read_all(client, LOCATIONS, namespace)
        policies = await read_all(client, POLICIES, namespace)
        findings = [find_leader(first, lease), *map(find_ready, locations), *map(find_backed_up, policies)]
        well = all(finding.well for finding in findings)
        if well or loop.time() > deadline:
            break
        await asyncio.sleep(LOOK_EVERY)
    for finding in findings:
        say(f"{'✓' if finding.well else '✗'} {finding.what}: {finding.words}")
    return well


async def _lease(client: Client, namespace: str) -> LeaseSpec:
    try:
        return (await client.get(LEASES, namespace, LEASE)).spec
    except NotFound:
        return LeaseSpec()


def find_leader(before: LeaseSpec, now: LeaseSpec) -> Finding:
    """Say whether a controller leads, which it shows by renewing its lease, whatever the clocks say."""
    holder = now.holder_identity
    if not holder:
        return Finding(well=False, what="controller", words=f"none holds the Lease {LEASE}: does its Deployment run?")
    if now.renew_time == before.renew_time:
        words = f"{holder} holds the Lease {LEASE} but does not renew it: does that pod run?"
        return Finding(well=False, what="controller", words=words)
    return Finding(well=True, what="controller", words=f"{holder} leads")


def find_ready(item: BackupLocation | MetadataBackupPolicy | Unreadable) -> Finding:
    """Say what the condition Ready does."""
    if isinstance(item, Unreadable):
        return Finding(well=False, what=item.metadata.name, words=f"this version cannot make sense of it: {item.error}")
    what = f"{item.NAMES.kind} {item.metadata.name}"
    condition = find_condition(item.status.conditions, ConditionType.READY)
    if condition is None or item.status.observed_generation != item.metadata.generation:
        return Finding(well=False, what=what, words="the controller has yet to look at it")
    return Finding(well=condition.status == "True", what=what, words=condition.message)


def find_backed_up(policy: MetadataBackupPolicy | Unreadable) -> Finding:
    """Say whether the policy is ready, which it is not after a backup that failed, and no backup overdue."""
    finding = find_ready(policy)
    if isinstance(policy, Unreadable):
        return finding
    overdue = find_condition(policy.status.conditions, OVERDUE)
    if overdue and overdue.status == "True":
        return Finding(well=False, what=finding.what, words=overdue.message)
    return finding
