"""The four kinds: models, CRDs, and small conversions."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from kubedr_ctrl.api.crd import KINDS, Kind, definition
from kubedr_ctrl.api.duration import parse_duration
from kubedr_ctrl.api.meta import Condition, ctime, merge_conditions, parse_ctime
from kubedr_ctrl.api.names import MAX_POLICY_NAME, cronjob_name, job_name, job_stem
from kubedr_ctrl.api.policy import DURATION_BUCKETS, MetadataBackupPolicy
from kubedr_ctrl.api.result import Operation, Outcome, Reason, Result, shorten
from kubedr_ctrl.kube.credentials import CredentialsError, load_credentials
from kubedr_ctrl.settings import load_settings

CRDS = Path(__file__).parents[2] / "manifests" / "crds"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.NAMES.kind))
def test_the_crd_is_what_the_model_says(kind: Kind) -> None:
    written = yaml.safe_load((CRDS / f"{kind.NAMES.plural}.yaml").read_text())
    assert written == json.loads(json.dumps(definition(kind))), "run: make crds"


def test_defaults_in_the_model_are_those_of_the_guide() -> None:
    manifest = {"metadata": {"name": "p"}, "spec": {"destination": "d", "schedule": "@daily"}}
    spec = MetadataBackupPolicy.model_validate(manifest).spec
    assert (spec.etcd_endpoint, spec.etcd_creds) == ("https://127.0.0.1:2379", "etcd-creds")
    assert (spec.retain_num_backups, spec.suspend) == (120, False)


def test_times_are_written_as_the_guide_writes_them() -> None:
    moment = datetime(2020, 1, 30, 16, 2, 53, tzinfo=UTC)
    assert ctime(moment) == "Thu Jan 30 16:02:53 2020"
    assert parse_ctime(ctime(moment)) == moment
    assert ctime(datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)) == "Mon Feb  3 04:05:06 2020"
    assert parse_ctime("nonsense") is None


def test_buckets_are_those_of_the_guide() -> None:
    assert (15, 30, 60, 300, 600, 900, 1800, *(hour * 3600 for hour in range(1, 11))) == DURATION_BUCKETS


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("1h30m", 5400), ("1h0m1s", 3601)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1d", "-1s", "1m1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_names_fit() -> None:
    assert len(cronjob_name("p" * MAX_POLICY_NAME)) == 52
    name = job_name(job_stem("l" * 253, Operation.INIT, "uid"), "attempt")
    assert len(name) <= 63
    assert job_name(job_stem("a.b", "init", "u"), "x") == job_name(job_stem("a.b", "init", "u"), "x")
    assert "." not in job_stem("a.b", "init", "u")


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first, later = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    old = Condition(type="Ready", status="True", reason="A", last_transition_time=first)
    foreign = Condition(type="Foreign", status="True", reason="B", last_transition_time=first)
    same = old.model_copy(update={"reason": "C", "last_transition_time": later})
    flipped = same.model_copy(update={"status": "False"})
    assert merge_conditions([old, foreign], [same], types=["Ready"])[0].last_transition_time == first
    assert merge_conditions([old, foreign], [flipped], types=["Ready"])[0].last_transition_time == later
    assert merge_conditions([old, foreign], [], types=["Ready"]) == (foreign,)


def test_a_result_fits_into_a_termination_message_whatever_it_says() -> None:
    now = datetime.now(UTC)
    result = Result(
        operation=Operation.BACKUP,
        outcome=Outcome.FAILED,
        reason=Reason.RESTIC_FAILED,
        message="begin " + 'ä"\n' * 5000 + " end",
        started=now,
        finished=now,
        certificates=tuple(f"certificate-{number}.crt" for number in range(500)),
    )
    encoded = result.encode()
    assert len(encoded.encode()) <= 2000
    decoded = Result.decode(encoded)
    assert decoded is not None
    assert decoded.message.startswith("begin ")
    assert decoded.message.endswith(" end")
    assert Result.decode("OOM") is None


def test_a_long_message_keeps_both_ends() -> None:
    text = shorten("a" * 2000 + "ö" * 2000, 1024)
    assert len(text.encode()) <= 1024
    assert text.startswith("aaa")
    assert text.endswith("ööö")


def test_settings_come_from_the_environment_and_name_what_is_wrong() -> None:
    assert load_settings(None, {}).namespace == "kubedr-system"
    assert load_settings("pods", {}).namespace == "pods"
    assert load_settings("pods", {"KUBEDR_NAMESPACE": "other", "KUBEDR_PORT": "9000"}).port == 9000
    with pytest.raises(ValueError, match=r"^KUBEDR_PORT='many': "):
        load_settings(None, {"KUBEDR_PORT": "many"})


async def test_without_any_credentials_it_is_said_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    with pytest.raises(CredentialsError, match="set KUBECONFIG"):
        await load_credentials(tmp_path)
