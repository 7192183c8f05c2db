"""Whom scans are asked of, and with which credentials: nothing secret on a command line or a log.

Over plain http anybody on the way reads scans and passwords, so it is for this machine only. A user
name and a password, or a token, come from the environment, or from the netrc file; never from the
address, which shells and process lists keep. Certificates are checked against the system's
authorities, or those of REQUESTS_CA_BUNDLE. A server that sends us elsewhere is not followed.
"""

import ipaddress
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_netrc_auth
from urllib3.util import Retry

from securefed.errors import ConfigurationError, DataError

USER, PASSWORD, TOKEN = (f"SECUREFED_DICOMWEB_{word}" for word in ("USER", "PASSWORD", "TOKEN"))
LARGEST_ANSWER = 2**30  # bytes; an object of this size is many volumes
_CHUNK = 2**20
_TRIES = Retry(total=2, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), redirect=0)
_HINT = f"put them into {USER} and {PASSWORD}, or {TOKEN}, or into ~/.netrc"


def require_address(address: str) -> str:
    """An address of a DICOMweb service, without a slash at its end.

    Raises:
        ConfigurationError: plain http to another machine, credentials in it, or no address.
    """
    parts = urlsplit(address)
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "the address holds credentials, which shells and process lists keep", hint=_HINT
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{address} is no address of a DICOMweb service",
            hint="as in https://pacs.hospital.example/dicom-web",
        )
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise ConfigurationError(
            f"{address}: over plain http anybody on the way reads the scans",
            hint="https; plain http is for 127.0.0.1, ::1 and localhost",
        )
    return address.rstrip("/")


def session_for(address: str, environment: Mapping[str, str] = os.environ) -> requests.Session:
    """A session with the credentials of an address that `require_address` passed.

    Raises:
        ConfigurationError: a user without a password, or the other way round.
    """
    session = BoundedSession()
    session.auth = _credentials(address, environment)
    session.max_redirects = 0
    if address.startswith("http:"):
        session.trust_env = False  # a proxy of the environment is another machine
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=_TRIES))
    return session


class BoundedSession(requests.Session):
    """Reads an answer piece by piece and no further than LARGEST_ANSWER."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """As that of requests.

        Raises:
            DataError: the answer is larger than any scan.
        """
        response = super().send(request, **options | {"stream": True})
        body = bytearray()
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > LARGEST_ANSWER:
                response.close()
                raise DataError("answered with more than any scan has")
        response._content = bytes(body)  # what `content` gives, once it was read
        return response


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _credentials(address: str, environment: Mapping[str, str]) -> AuthBase | None:
    token = environment.get(TOKEN, "")
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    if bool(user) != bool(password):
        raise ConfigurationError(f"{USER} and {PASSWORD} go together, one is not set", hint=_HINT)
    if token:
        return _Bearer(token)
    if user:
        return HTTPBasicAuth(user.encode(), password.encode())
    found = get_netrc_auth(address)
    return HTTPBasicAuth(*found) if found else None


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
