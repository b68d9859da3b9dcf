"""No secret gets past the environment."""

import json

import pytest

from kubedr_ctrl.api.task import SecretEnv
from kubedr_ctrl.worker.environment import Environment, Paths

KEY = "-----BEGIN EC PRIVATE KEY-----\nbGluZSBvbmU=\nbGluZSB0d28=\n-----END EC PRIVATE KEY-----\n"
SECRETS = {SecretEnv.PASSWORD: 'with "quotes" and ü', SecretEnv.SECRET_KEY: "quotes", SecretEnv.ETCD_KEY: KEY}
ENVIRONMENT = Environment(Paths(), {name.value: value for name, value in SECRETS.items()})


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("nothing here", "nothing here"),
        ('wrong: with "quotes" and ü!', "wrong: ***!"),
        (r'"with \"quotes\" and ü"', '"***"'),
        ("got bGluZSB0d28=", "got ***"),
        (f"got {KEY}", "got ***"),
    ],
)
def test_secrets_are_replaced(text: str, redacted: str) -> None:
    assert ENVIRONMENT.redact(text) == redacted


def test_the_log_holds_no_secret_either(capsys: pytest.CaptureFixture[str]) -> None:
    ENVIRONMENT.log("restic said", line='with "quotes" and ü', nested=[KEY])
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["line"], line["nested"]) == ("restic said", "***", ["***"])


def test_secrets_do_not_show_in_the_representation() -> None:
    assert "quotes" not in repr(ENVIRONMENT)
