"""Pseudonyms follow the key; the key stays with its owner."""

import hashlib
import hmac
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefed.data.pseudonyms import (
    SiteKey,
    key_beside,
    key_place,
    ledger_beside,
    load_or_create_key,
)
from securefed.errors import ConfigurationError, DataError


@pytest.mark.usefixtures("real_site_keys")
def test_a_new_key_is_random_private_and_read_back(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path / "a.site-key")
    assert stat.S_IMODE((tmp_path / "a.site-key").stat().st_mode) == 0o600
    assert len(key.secret) == 32
    assert load_or_create_key(tmp_path / "a.site-key") == key
    assert load_or_create_key(tmp_path / "b.site-key") != key


def test_repr_does_not_show_the_key() -> None:
    assert repr(SiteKey(b"k" * 32)) == "SiteKey()"


@given(secret=st.binary(min_size=32, max_size=32), patient=st.text(min_size=1, max_size=20))
def test_a_pseudonym_is_the_hmac_of_the_stripped_id(secret: bytes, patient: str) -> None:
    if not patient.strip():
        with pytest.raises(DataError, match="empty"):
            SiteKey(secret).pseudonym(patient)
        return
    message = b"securefed patient pseudonym 1\0" + patient.strip().encode()
    expected = "p" + hmac.digest(secret, message, hashlib.sha256).hex()[:24]
    assert SiteKey(secret).pseudonym(f" {patient} ") == expected


def test_other_keys_and_other_ids_give_other_names() -> None:
    names = {SiteKey(bytes([k]) * 32).pseudonym(p) for k in range(5) for p in ("1", "2", "01")}
    assert len(names) == 15


@given(secret=st.binary(min_size=32, max_size=32), purpose=st.text("abc 01"), identity=st.text())
def test_a_number_is_the_first_53_bits_of_the_hmac(
    secret: bytes, purpose: str, identity: str
) -> None:
    number = SiteKey(secret).uniform(purpose, identity)
    message = b"securefed uniform 1\0" + purpose.encode() + b"\0" + identity.encode()
    bits = int.from_bytes(hmac.digest(secret, message, hashlib.sha256)) >> 203
    assert number == bits / 2**53
    assert 0 <= number < 1


def test_the_key_lies_beside_the_folder_and_never_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert key_place(tmp_path / "mine") == tmp_path / "mine.site-key"
    assert key_place(tmp_path / "mine" / "manifest.csv") == tmp_path / "mine.site-key"
    assert key_place(tmp_path / "mine" / ".." / "mine") == tmp_path / "mine.site-key"


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("ab" * 31, 0o600, "not a key of 32 bytes"),
        ("ab" * 33, 0o600, "not a key of 32 bytes"),
        ("zz" * 32, 0o600, "not a key of 32 bytes"),
        ("", 0o600, "not a key of 32 bytes"),
        ("ab" * 32, 0o644, "can be read by others"),
        ("ab" * 32, 0o640, "can be read by others"),
    ],
)
def test_a_file_that_is_no_private_key_is_refused(
    tmp_path: Path, content: str, mode: int, reason: str
) -> None:
    path = tmp_path / "site-key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(DataError, match=reason) as caught:
        load_or_create_key(path)
    assert "ab" * 8 not in str(caught.value)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be created"):
        load_or_create_key(tmp_path / "no" / "such" / "folder")


def test_a_folder_without_a_name_has_the_key_beside_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert key_beside(Path()) == key_place(Path()) == tmp_path / "here.site-key"
    with pytest.raises(ConfigurationError, match="cannot be a data set"):
        key_beside(Path("/"))


def test_a_patient_of_a_ledger_is_16_bytes_that_only_the_key_gives() -> None:
    """RFC 2104 by the standard library, under words of its own."""
    secret = bytes(range(32))
    key, other = SiteKey(secret), SiteKey(bytes(32))
    whole = hmac.new(secret, b"securefed ledger patient 1\0p7", hashlib.sha256).digest()
    assert key.token("p7") == whole[:16]
    assert len({key.token("p7"), key.token("p8"), other.token("p7")}) == 3
    assert key.name != other.name
    assert len(key.name) == 16
    assert key.name not in (whole.hex(), secret.hex())


def test_the_ledger_of_a_data_set_lies_beside_its_key(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    place = ledger_beside(key_place(tmp_path / "scans"))
    assert place == tmp_path / "scans.ledger.sqlite"
    assert ledger_beside(tmp_path / "key") == tmp_path / "key.ledger.sqlite"
