"""A put to Google Cloud Storage that creates an object and never replaces one.

pyarrow has no option for it and gives out no credentials, so the request is made here, with the credentials that
google-auth finds: the application default credentials, as for pyarrow.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, quote

from preprocessing.common.places import Place

_SERVER = "https://storage.googleapis.com"
# By which pyarrow's client is sent to an emulator, whatever the URI says; the first that is set. It does not look at
# STORAGE_EMULATOR_HOST, which other clients of Google's do.
_EMULATORS = ("CLOUD_STORAGE_EMULATOR_ENDPOINT", "CLOUD_STORAGE_TESTBENCH_ENDPOINT")
_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]
_PASSING = (408, 429, 500, 502, 503, 504)
_SECONDS = (5, 20)  # to connect, and to wait for an answer


def put_if_absent(place: Place, name: str, data: bytes) -> None:
    """Puts the object `bucket/key` unless there is one; afterwards there is one, and its content tells whose it is.

    Raises OSError, in pyarrow's words, if the server refuses or cannot be reached.
    """
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    anonymous = place.host.startswith("anonymous@")
    bucket, _, key = name.partition("/")
    try:
        with _session(signed=not anonymous) as session:
            response = session.post(
                f"{_server(place, anonymous)}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
                f"?uploadType=media&ifGenerationMatch=0&name={quote(key, safe='')}",
                data=data,
                headers={"Content-Type": "application/octet-stream"},
                timeout=_SECONDS,
            )
    except (RequestException, GoogleAuthError) as error:
        raise OSError(f"google::cloud::Status({type(error).__name__}: {error})") from error
    if response.status_code not in (200, 412):
        raise OSError(f"google::cloud::Status(HTTP status {response.status_code}: {_message(response)})")


def _server(place: Place, anonymous: bool) -> str:
    """The server that pyarrow would speak to."""
    for variable in _EMULATORS:
        if variable in os.environ:
            return os.environ[variable]
    query = {key: values[-1] for key, values in parse_qs(place.query).items()}
    if "endpoint_override" not in query:
        return _SERVER
    scheme = query.get("scheme", "http" if anonymous else "https")
    return f"{scheme}://{query['endpoint_override']}"


def _session(signed: bool) -> Any:
    """An HTTP session that tries again what may pass."""
    import google.auth
    from google.auth.transport.requests import AuthorizedSession
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session: Session = AuthorizedSession(google.auth.default(scopes=_SCOPES)[0]) if signed else Session()
    again = Retry(total=2, backoff_factor=0.5, status_forcelist=_PASSING, allowed_methods=None, raise_on_status=False)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    return session


def _message(response: Any) -> str:
    """What the server says about an error."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.reason)
