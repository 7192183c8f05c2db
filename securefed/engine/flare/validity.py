"""Whether the certificate of a kit is valid by this machine's clock, before anybody dials with it.

FLARE tries for ever with one that is not, and says so in its log only.
"""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from securefed.errors import ConfigurationError


def require_valid(kit: Path) -> None:
    """Refuse a kit whose certificate, or whose authority's, is not valid now.

    Raises:
        ConfigurationError: not yet or not any more, by the clock of this machine.
    """
    now = datetime.now(UTC)
    for place in [*sorted((kit / "startup").glob("*.crt")), kit / "startup" / "rootCA.pem"]:
        certificate = x509.load_pem_x509_certificate(place.read_bytes())
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first <= now <= last:
            hint = "set this machine's clock right"
            if now > last:
                hint += "; if it is, the certificate has expired: make another request, without "
                hint += "the folders engine/request and engine/kit"
            raise ConfigurationError(
                f"{place} is valid from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC; "
                f"here it is {now:%Y-%m-%d %H:%M} UTC",
                hint=hint,
            )
