"""agreement.yaml: what is in it, its digest, and what nobody can agree to."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from protocols.identity import IdentityKey
from securefed.config import Settings
from securefed.errors import ConfigurationError
from securefed.wire import agreement
from tests.tiny import changed, tiny

KEYS = {name: IdentityKey.from_seed(name.encode().ljust(32)).public for name in ("a", "b", "c")}


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(changed(tiny(federation={"clients": 3}), **sections))


def made(path: Path, **sections: Any) -> agreement.FederationAgreement:
    content = agreement.make("trial", settings(**sections), KEYS, None)
    return agreement.write(content, path / "agreement.yaml")


def test_what_was_agreed_is_read_back_and_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    found = made(tmp_path, privacy={"epsilon": 3.0})
    content = (tmp_path / "agreement.yaml").read_bytes()
    assert found.digest == hashlib.sha256(content).hexdigest()
    assert found.settings.privacy.epsilon == 3.0
    assert found.roster.keys == KEYS
    assert found.weights_sha256
    assert found.differences(found) == []


def test_what_is_a_site_s_own_is_not_in_it(tmp_path: Path) -> None:
    found = made(tmp_path, data={"manifest": "mine.csv"}, device="cpu")
    assert "mine.csv" not in (tmp_path / "agreement.yaml").read_text()
    assert not {key.split(".")[0] for key in found.agreed} & {"data", "device", "exposures"}


def test_every_setting_is_agreed_on_or_a_site_s_own_or_of_one_process() -> None:
    """A section that is in none would be taken by its default, whatever was set."""
    elsewhere = {"data", "device", "exposures", "canaries", "evaluation"}
    assert {*agreement.SECTIONS} ^ elsewhere == set(Settings.model_fields)


def test_what_a_label_is_of_is_agreed_on(tmp_path: Path) -> None:
    wanted = {"example": "slice", "classes": ["healthy", "glioma", "meningioma"]}
    found = made(tmp_path, task=wanted)
    assert found.job(1).settings.task.model_dump(mode="json") == wanted


def test_parties_that_read_the_same_file_build_the_same_job(tmp_path: Path) -> None:
    found = made(tmp_path)
    one, other = found.job(2), agreement.read(tmp_path / "agreement.yaml").job(2)
    assert one.rules == other.rules
    assert one.rules is not None
    assert one.rules.job == f"{found.digest[:32]}.2"
    assert one.plan == other.plan
    again = found.job(3).rules
    assert again is not None
    assert again.job != one.rules.job


def test_one_byte_makes_another_agreement_and_the_difference_is_named(tmp_path: Path) -> None:
    found = made(tmp_path)
    text = (tmp_path / "agreement.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("epsilon: 8.0", "epsilon: 9.0"))
    changed_ = agreement.read(other)
    assert changed_.digest != found.digest
    assert changed_.run != found.run
    assert found.differences(changed_) == [("privacy.epsilon", 8.0, 9.0)]


def test_an_agreement_is_never_written_over(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(ConfigurationError, match="already"):
        made(tmp_path)


@pytest.mark.parametrize(
    ("name", "sections", "smallest", "told"),
    [
        ("a b", {}, None, "name 'a b'"),
        ("trial", {"federation": {"clients": 4}}, None, "clients is 4, the keys are of 3"),
        ("trial", {"secure_aggregation": {"graph": "sparse"}}, None, "sparse"),
        ("trial", {"canaries": {"count": 10}}, None, "canaries"),
        ("trial", {"privacy": {"placement": "distributed"}}, None, "smallest training set"),
    ],
)
def test_what_nobody_can_be_held_to_is_refused(
    name: str, sections: dict[str, Any], smallest: int | None, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        agreement.make(name, settings(**sections), KEYS, smallest)
    assert refused.value.hint


def edited(path: Path, **changes: Any) -> Path:
    made(path)
    values = yaml.safe_load((path / "agreement.yaml").read_text())
    values.update(changes)
    (path / "edited.yaml").write_text(yaml.safe_dump(values))
    return path / "edited.yaml"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": 2}, "no agreement of schema 1"),
        ({"more": 1}, "no agreement"),
        ({"hospitals": {"a": "not base64!"}}, "hospitals"),
        ({"hospitals": ["a"]}, "hospitals must hold keys"),
        ({"hospitals": {"a": 7}}, "hospitals"),
        ({"settings": {"privacy": {"epsilon": -1}}}, "privacy.epsilon"),
        ({"weights_sha256": 5}, "weights_sha256"),
        ({"smallest_training_set": True}, "smallest_training_set"),
        ({"name": 5}, "name 5"),
    ],
)
def test_a_file_that_is_no_agreement_is_refused_by_what_is_wrong(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        agreement.read(edited(tmp_path, **changes))


def test_other_public_weights_than_agreed_are_refused(tmp_path: Path) -> None:
    found = agreement.read(edited(tmp_path, weights_sha256="0" * 64))
    with pytest.raises(ConfigurationError, match="public weights here"):
        found.job(1)
