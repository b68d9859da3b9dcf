"""A bucket becomes a repository, or says why not."""

import pytest

from e2e.stories.teller import Teller


def test_a_repository_that_is_there_is_the_documented_error_unless_it_is_adopted(story: Teller) -> None:
    story.location()
    story.wait_ready("BackupLocation")
    story.kubectl("delete", f"bl/{story.name}")
    story.location()
    story.wait_ready("BackupLocation", "False", "InitFailed")
    message = (
        f"Fatal: create key in repository at {story.repository} failed: "
        "repository master key and config already initialized"
    )
    status = story.status("BackupLocation")
    assert status["initStatus"] == "Failed"
    assert status["initErrorMessage"] == message + "\n"
    events = story.events()
    assert events[0] == ("Normal", "InitSucceeded", f"Repo at {story.repository} is successfully initialized")
    assert events[1] == ("Error", "InitFailed", message)

    story.location(existingRepository="Adopt")
    story.wait_ready("BackupLocation")
    assert story.status("BackupLocation")["initStatus"] == "Completed"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"access_key": "nobody"}, "access key"),
        ({"secret_key": "wrong"}, "secret key"),
    ],
)
def test_wrong_keys_are_told_apart_within_a_minute_and_heal(story: Teller, wrong: dict[str, str], words: str) -> None:
    story.secret(story.name, **wrong)
    story.location()
    assert words in story.wait_ready("BackupLocation", "False", "InitFailed", timeout=60)
    assert not any(value in str(story.get("BackupLocation")) for value in wrong.values() if value != "wrong")
    story.secret(story.name)
    story.wait_ready("BackupLocation")


def test_a_wrong_password_is_told_and_heals(story: Teller) -> None:
    story.location()
    story.wait_ready("BackupLocation")
    story.kubectl("delete", f"bl/{story.name}")
    story.secret(story.name, restic_repo_password="battery staple")
    story.location(existingRepository="Adopt")
    assert "password" in story.wait_ready("BackupLocation", "False", "InitFailed", timeout=60)
    story.secret(story.name)
    story.wait_ready("BackupLocation")


def test_an_s3_server_out_of_reach_is_told_within_a_minute(story: Teller) -> None:
    story.location(url="http://127.0.0.1:9")
    message = story.wait_ready("BackupLocation", "False", "InitFailed", timeout=60)
    assert "http://127.0.0.1:9" in message
    assert "refused" in message


def test_a_secret_that_is_missing_is_named_and_heals(story: Teller) -> None:
    story.location(credentials=f"{story.name}-late")
    message = story.wait_ready("BackupLocation", "False", "ConfigurationMissing")
    assert f'"{story.name}-late" not found' in message
    story.wait_ready("BackupLocation", "False", "InitFailed", timeout=60)
    story.secret(f"{story.name}-late")
    story.wait_ready("BackupLocation", timeout=180)


def test_a_secret_without_a_key_is_named(story: Teller) -> None:
    story.kubectl(
        "patch", f"secret/{story.name}", "--type=json", "-p", '[{"op": "remove", "path": "/data/secret_key"}]'
    )
    story.location()
    assert "secret_key" in story.wait_ready("BackupLocation", "False", "ConfigurationMissing")
