"""A certificate that is not valid by this machine's clock is told before anybody dials."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from securefed.engine.flare.validity import require_valid
from securefed.errors import ConfigurationError

DAY = timedelta(days=1)


def write_certificate(path: Path, first: timedelta, last: timedelta) -> None:
    """One that is valid from then to then, from now."""
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + first)
        .not_valid_after(now + last)
        .sign(key, None)
    )
    path.write_bytes(certificate.public_bytes(Encoding.PEM))


@pytest.mark.parametrize("name", ["client.crt", "server.crt", "rootCA.pem"])
@pytest.mark.parametrize(("first", "last", "told"), [(1, 2, "clock"), (-2, -1, "has expired")])
def test_not_yet_and_not_any_more(
    tmp_path: Path, name: str, first: int, last: int, told: str
) -> None:
    startup = tmp_path / "startup"
    startup.mkdir()
    write_certificate(startup / "client.crt", -DAY, DAY)
    write_certificate(startup / "rootCA.pem", -DAY, DAY)
    require_valid(tmp_path)
    write_certificate(startup / name, first * DAY, last * DAY)
    with pytest.raises(ConfigurationError, match=f"{name} is valid from .*; here it is") as refused:
        require_valid(tmp_path)
    assert told in str(refused.value.hint)
