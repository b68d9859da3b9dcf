import re
from pathlib import Path

from kubedr_ctrl.api.result import MENDABLE, ExitCode, Operation, Reason, Result
from kubedr_ctrl.api.task import SecretEnv

TEXT = (Path(__file__).parents[3] / "docs" / "worker.md").read_text()


def test_every_reason_is_documented_with_its_exit_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (\d+) \|$", TEXT, re.MULTILINE))
    for reason, code in rows.items():
        mendable = Reason(reason) in MENDABLE
        expected = ExitCode.RETRY if mendable else ExitCode.FAILED
        assert int(code) == (ExitCode.COMPLETED if reason == Reason.COMPLETED else expected), reason
    concluded = set(re.findall(r"`(\w+)`", TEXT[TEXT.index("Where a worker could not report") :]))
    assert rows.keys() | concluded == set(Reason)


def test_every_field_operation_and_variable_is_documented() -> None:
    for field in Result.model_fields.values():
        assert f"`{field.alias}`" in TEXT, field.alias
    for name in (*Operation, *SecretEnv):
        assert f"`{name}`" in TEXT, name
