"""What becomes of restic's words; the lines are restic 0.18's own."""

import pytest

from kubedr_ctrl.api.result import Reason
from kubedr_ctrl.worker.ending import Failure
from kubedr_ctrl.worker.restic import Run

ARGV = ("restic", "--json", "-r", "s3:http://10.106.189.174:9000/testbucket63", "--verbose", "backup", "/data")
COMMAND = (
    "subprocess.CalledProcessError: Command '['restic', '--json', '-r', "
    "'s3:http://10.106.189.174:9000/testbucket63', '--verbose', 'backup', '/data']' "
)
RETRY = (
    "Stat(<config/>) returned error, retrying after 1.287462029s: "
    "Stat: The access key ID you provided does not exist in our records."
)
STOPPED = (
    r'{"message_type":"exit_error","code":1,"message":"Fatal: unable to open config file: context canceled\n'
    r'Is there a repository at the following location?\ns3:http://10.106.189.174:9000/testbucket63"}'
)
DIAGNOSIS = Failure(Reason.S3_UNREACHABLE, "S3 at http://10.106.189.174:9000 did not answer within 5 s")


def ended(status: int, *stderr: str) -> Run:
    return Run(ARGV, status, (), stderr)


def test_a_stopped_restic_is_quoted_as_in_the_guide() -> None:
    failure = ended(1, RETRY, RETRY, STOPPED).failure(DIAGNOSIS)
    assert failure.message == (
        COMMAND + "returned non-zero exit status 1. "
        "(Fatal: unable to open config file: Stat: The access key ID you provided does not exist in our records. "
        "Is there a repository at the following location? s3:http://10.106.189.174:9000/testbucket63)"
    )


def test_the_diagnosis_is_added_where_restic_named_no_cause() -> None:
    assert ended(1, STOPPED).failure(DIAGNOSIS).message.endswith(f"testbucket63; {DIAGNOSIS.message})")


@pytest.mark.parametrize(
    ("status", "diagnosis", "reason"),
    [
        (1, None, Reason.RESTIC_FAILED),
        (1, DIAGNOSIS, Reason.S3_UNREACHABLE),
        (2, None, Reason.RESTIC_FAILED),
        (3, None, Reason.SOURCE_UNREADABLE),
        (10, None, Reason.REPOSITORY_NOT_FOUND),
        (11, None, Reason.REPOSITORY_LOCKED),
        (12, None, Reason.WRONG_PASSWORD),
        (12, DIAGNOSIS, Reason.WRONG_PASSWORD),
    ],
)
def test_the_exit_status_tells_the_reason(status: int, diagnosis: Failure | None, reason: Reason) -> None:
    assert ended(status).failure(diagnosis).reason is reason


def test_a_restic_killed_by_a_signal_is_told_as_python_tells_it() -> None:
    assert ended(-9).failure().message == COMMAND + "died with <Signals.SIGKILL: 9>. ()"


def test_words_outside_json_are_kept_as_they_are() -> None:
    run = ended(1, "/nowhere does not exist, skipping", '{"message_type":"exit_error","message":"Fatal: no source\\n"}')
    assert run.message() == "/nowhere does not exist, skipping\nFatal: no source\n"


def test_fractions_stay_as_restic_wrote_them() -> None:
    summary = '{"message_type":"summary","total_duration":0.318463120}'
    assert Run(ARGV, 0, (summary,), ()).messages()[0]["total_duration"] == "0.318463120"
