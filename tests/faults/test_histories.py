"""Random histories: two controllers that both believe that they lead, Jobs and policies that come and go, requests
that fail. Whatever happened: in the end each backup of the policy that is there is counted once and told once.

The steps are drawn by hypothesis from a seed that is printed with a failure; `KUBEDR_SEED` draws the same again.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from kubedr_ctrl.resources import POLICIES
from tests.faults.backups import WRITES, Backup, Backups
from tests.faults.embedded import Embedded
from tests.faults.proxy import Fault, FaultProxy, Match, answer, cut, delay
from tests.servers.kubedr import Kubedr

SEED = int(os.environ.get("KUBEDR_SEED") or random.randrange(2**32))
EXAMPLES = int(os.environ.get("KUBEDR_HISTORIES", "12"))
FAULTS: tuple[Callable[[Match], Fault], ...] = (
    lambda match: answer(match, 409, "Conflict", times=1),
    lambda match: answer(match, 500, "InternalError", times=1),
    lambda match: cut(match, applied=False, times=1),
    lambda match: cut(match, applied=True, times=1),
    lambda match: delay(match, 0.3, times=1),
)


@dataclass
class World:
    """What all histories share: a namespace, two controllers, and Jobs that have ended and wait to be revealed."""

    kubedr: Kubedr
    proxy: FaultProxy
    controllers: dict[str, Embedded]
    source: Backups
    numbers: Iterator[int] = field(default_factory=count)
    pool: dict[bool, list[Backup]] = field(default_factory=lambda: {True: [], False: []})

    def next(self, *, succeeds: bool) -> Backup:
        if not self.pool[succeeds]:
            self.pool[succeeds] = self.source.ended(20, succeed=succeeds)
        return self.pool[succeeds].pop()


class History(RuleBasedStateMachine):
    """One policy's life."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        name = f"history-{next(world.numbers)}"
        self.backups = Backups(world.kubedr, name, template_of="source")
        self.running: set[str] = set()
        self.revealed: list[Backup] = []
        self.owed: list[Backup] = []
        """Of the policy that is there now: what has to be counted."""
        self._create_policy()

    @rule(name=st.sampled_from("AB"))
    def start_or_kill(self, name: str) -> None:
        controller = self.world.controllers[name]
        if name in self.running:
            self.running.discard(name)
            controller.kill()
        else:
            self.running.add(name)
            controller.start()

    @precondition(lambda self: len(self.revealed) < 8)
    @rule(succeeds=st.booleans())
    def end_a_backup(self, succeeds: bool) -> None:
        backup = self.world.next(succeeds=succeeds)
        self.backups.reveal(backup)
        self.revealed.append(backup)
        self.owed.append(backup)

    @precondition(lambda self: self.revealed)
    @rule(data=st.data())
    def delete_a_job(self, data: st.DataObject) -> None:
        backup = data.draw(st.sampled_from(self.revealed), label="job")
        was_there = self.backups.job(backup) is not None
        if not self.backups.delete(backup) and was_there and backup in self.owed:
            self.owed.remove(backup)

    @precondition(lambda self: self.revealed)
    @rule(data=st.data())
    def delete_its_pods(self, data: st.DataObject) -> None:
        self.backups.delete_pods(data.draw(st.sampled_from(self.revealed), label="pods of"))

    @rule(write=st.sampled_from(WRITES), fault=st.sampled_from(FAULTS))
    def let_a_write_fail(self, write: str, fault: Callable[[Match], Fault]) -> None:
        self.world.proxy.add(fault(lambda request: request.kind == write))

    @rule()
    def cut_all_watches(self) -> None:
        self.world.proxy.cut_streams(lambda request: request.verb == "watch")

    @precondition(lambda self: self.revealed)
    @rule()
    def create_the_policy_anew(self) -> None:
        kubedr, path = self.world.kubedr, POLICIES.path(self.world.kubedr.namespace, self.backups.policy)
        kubedr.plane.request("DELETE", path)
        kubedr.wait_for(lambda: kubedr.gone("MetadataBackupPolicy", self.backups.policy), "the policy to go")
        self._create_policy()
        self.owed.clear()

    @rule(seconds=st.sampled_from((0.02, 0.1, 0.4)))
    def go_on(self, seconds: float) -> None:
        time.sleep(seconds)  # how far the controllers come between two steps is part of the history

    def teardown(self) -> None:
        """Let one healthy controller finish, and compare."""
        world, kubedr = self.world, self.world.kubedr
        for name in self.running:
            world.controllers[name].kill()
        world.proxy.clear()
        controller = world.controllers["A"]
        controller.start()
        try:
            kubedr.wait_for(lambda: all(map(self.backups.settled, self.revealed)), "all to be recorded")
            told = self.backups.told(self.revealed)
            assert not told.held & {backup.job for backup in self.revealed}
            assert told.totals[0] == told.totals[1] + told.totals[2] == len(self.owed), (told, self.owed)
            assert all(told.events[backup.word] == 1 for backup in self.owed), (told, self.owed)
            assert max(told.events.values(), default=0) <= 1, told
            good = sum(self.backups.reasons(backup) == ["BackupSucceeded"] for backup in self.owed)
            assert good == told.totals[1], "status and events tell different outcomes"
            shown = f'kubedr_num_backups{{policyName="{self.backups.policy}"}}'
            kubedr.wait_for(lambda: controller.metrics().get(shown) == told.totals[0], "the metric")
        finally:
            controller.kill()

    def _create_policy(self) -> None:
        policy = self.world.kubedr.policy(self.backups.policy, "source-loc")
        self.world.kubedr.plane.request("POST", POLICIES.path(self.world.kubedr.namespace), policy)


@pytest.mark.timeout(900)
def test_whatever_happens_each_backup_counts_once(kubedr: Kubedr, proxy: FaultProxy) -> None:
    controllers = {
        name: Embedded(kubedr.kubeconfig(name.lower(), proxy.server), kubedr.namespace, name, deluded=True)
        for name in "AB"
    }
    try:
        controllers["A"].start()
        kubedr.scheduled("source")
        controllers["A"].kill()
        world = World(kubedr, proxy, controllers, Backups(kubedr, "source"))
        how = settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(seed(SEED)(lambda: History(world)), settings=how)  # type: ignore[arg-type]
        except BaseException as error:
            error.add_note(f"to draw the same histories: KUBEDR_SEED={SEED}")
            raise
    finally:
        for controller in controllers.values():
            controller.stop_if_running()
