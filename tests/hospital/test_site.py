"""A hospital's folder: private, whole or not there, and strict about whose agreement it is."""

import stat
from pathlib import Path

import pytest
import yaml

from protocols.identity import IdentityKey
from securefed.errors import ConfigurationError, DataError, PrivacyError, RunError
from securefed.hospital import keys
from securefed.hospital import site as site_file
from securefed.hospital.site import Site
from securefed.wire import agreement as agreement_file
from securefed.wire.agreement import FederationAgreement
from tests.tiny import settings_with

OTHERS = {name: IdentityKey.from_seed(name.encode().ljust(32)).public for name in ("b", "c")}


def make(folder: Path, name: str = "a") -> Site:
    return site_file.create(folder, name, None, lifetime_epsilon=10.0, delta=1e-3)


def agree(site: Site, path: Path, **keys_: bytes) -> FederationAgreement:
    settings = settings_with(federation={"clients": 3})()
    roster = {"a": site.identity.public, **OTHERS, **keys_}
    return agreement_file.write(agreement_file.make("trial", settings, roster, None), path)


def test_a_new_site_is_its_owner_s_alone(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    assert stat.S_IMODE(site.folder.stat().st_mode) == 0o700
    for name in ("identity.pem", "policy.yaml", "site.yaml", "ledger.sqlite"):
        assert stat.S_IMODE((site.folder / name).stat().st_mode) == 0o600, name
    assert site.ledger().budget == 10.0
    assert site_file.open_site(site.folder).identity.public == site.identity.public


@pytest.mark.parametrize("settings", [{"delta": 2.0}, {"lifetime_epsilon": -1.0}])
def test_a_site_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, settings: dict[str, float]
) -> None:
    values = {"lifetime_epsilon": 10.0, "delta": 1e-3, **settings}
    with pytest.raises(ConfigurationError):
        site_file.create(tmp_path / "a", "a", None, **values)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


def test_a_site_is_never_made_twice(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    with pytest.raises(ConfigurationError, match="not empty"):
        make(tmp_path / "a")
    assert site_file.open_site(tmp_path / "a").identity.public == site.identity.public


def test_a_site_that_others_can_read_is_not_opened(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    site.folder.chmod(0o750)
    with pytest.raises(ConfigurationError, match="mode 750"):
        site_file.open_site(site.folder)
    site.folder.chmod(0o700)
    (site.folder / "identity.pem").chmod(0o644)
    with pytest.raises(ConfigurationError, match="0644"):
        site_file.open_site(site.folder)


def test_a_wrong_site_file_is_named(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    about = yaml.safe_load((site.folder / "site.yaml").read_text())
    (site.folder / "site.yaml").write_text(yaml.safe_dump({**about, "epsilon": 3}))
    with pytest.raises(ConfigurationError, match=r"site\.yaml: epsilon"):
        site_file.open_site(site.folder)
    with pytest.raises(ConfigurationError, match="is no hospital's folder"):
        site_file.open_site(tmp_path)


def test_only_an_agreement_that_people_compared_is_accepted(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    agreement = agree(site, tmp_path / "agreement.yaml")
    with pytest.raises(ConfigurationError, match="has another digest than"):
        site.accept(tmp_path / "agreement.yaml", "0" * 32)
    for short in (agreement.digest[:31], ""):  # of 16 digits, who makes the file can find two
        with pytest.raises(ConfigurationError, match=f"has {len(short)} digits"):
            site.accept(tmp_path / "agreement.yaml", short)
    assert site.agreements() == []
    site.accept(tmp_path / "agreement.yaml", agreement.digest[:32].upper())
    assert [each.digest for each in site.agreements()] == [agreement.digest]
    assert site.accepted(agreement.digest).roster.keys == agreement.roster.keys


def test_an_agreement_with_another_key_for_this_hospital_is_refused(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    forged = IdentityKey.from_seed(bytes(32)).public
    agreement = agree(site, tmp_path / "forged.yaml", a=forged)
    with pytest.raises(ConfigurationError, match="does not hold the identity key of a"):
        site.accept(tmp_path / "forged.yaml", agreement.digest)


def test_what_was_accepted_and_has_changed_is_refused(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    agreement = agree(site, tmp_path / "agreement.yaml")
    site.accept(tmp_path / "agreement.yaml", agreement.digest)
    place = site.run(agreement.run) / "agreement.yaml"
    place.write_text(place.read_text().replace("epsilon: 8.0", "epsilon: 80.0"))
    with pytest.raises(RunError, match="has changed since"):
        site.accepted(agreement.digest)
    with pytest.raises(RunError, match="was not accepted"):
        site.accepted("f" * 64)


def test_a_revoked_key_ends_what_was_accepted_and_is_accepted_no_more(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    agreement = agree(site, tmp_path / "agreement.yaml")
    site.accept(tmp_path / "agreement.yaml", agreement.digest)
    keys.revoke(site.folder, OTHERS["b"].hex().upper(), "laptop lost")
    with pytest.raises(RunError, match=r"key of b was revoked here on .*: laptop lost"):
        site.accepted(agreement.digest)
    with pytest.raises(RunError, match="revoked"):
        site.accept(tmp_path / "agreement.yaml", agreement.digest)


@pytest.mark.parametrize(("key", "reason"), [("12", "lost"), ("g" * 64, "lost"), ("a" * 64, " ")])
def test_a_revocation_names_a_key_and_a_reason(tmp_path: Path, key: str, reason: str) -> None:
    with pytest.raises(ConfigurationError):
        keys.revoke(tmp_path, key, reason)
    assert not (tmp_path / keys.REVOKED).exists()


def test_a_new_key_ends_agreements_that_hold_the_old_one(tmp_path: Path) -> None:
    site = make(tmp_path / "a")
    agreement = agree(site, tmp_path / "agreement.yaml")
    site.accept(tmp_path / "agreement.yaml", agreement.digest)
    kept = keys.rotate(site.folder)
    assert kept is not None
    after = site_file.open_site(site.folder)
    assert after.identity.public != site.identity.public
    assert IdentityKey.load(kept).public == site.identity.public
    with pytest.raises(ConfigurationError, match="does not hold the identity key"):
        after.accepted(agreement.digest)


def test_the_ledger_of_another_hospital_is_not_this_one_s(tmp_path: Path) -> None:
    site, other = make(tmp_path / "a"), make(tmp_path / "b", "b")
    other.ledger_path.replace(site.ledger_path)
    with pytest.raises(PrivacyError, match="is of client 'b'"):
        site.ledger()


@pytest.mark.parametrize("name", ["North Hospital", "a/b", "x" * 65])
def test_a_name_that_no_agreement_takes_makes_no_site(tmp_path: Path, name: str) -> None:
    with pytest.raises((ConfigurationError, DataError)):
        make(tmp_path / "a", name)
    assert not (tmp_path / "a").exists()
