"""A put to S3 that creates an object and never replaces one.

pyarrow has no option for it and gives out no credentials. So botocore does it, which finds credentials where pyarrow
finds them: in the environment, in profiles, by single sign-on, and from the role of a machine, a container or a web
identity. The URI's settings hold for both clients.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from preprocessing.common.places import Place

_EXISTS = (304, 409, 412)  # 409: another's put or deletion came first; 304: S3-compatible servers that mean 412
_UNKNOWN = ("NotImplemented", "InvalidArgument", "InvalidRequest")  # what older servers say to the condition
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the ones that pyarrow reads
_OPERATION = "during PutObject operation"
_OFF = ("0", "false")


class ConditionsNotOfferedError(Exception):
    """The server does not know that a put can have a condition, or ignores it."""


class Settings(NamedTuple):
    """The server and the user that a URI names, as pyarrow understands it. An empty string if it names none."""

    endpoint: str
    access_key: str
    secret_key: str
    verify: bool | str  # whether the server's certificate is checked, or a file or folder to check it against


def settings(place: Place, environment: Mapping[str, str]) -> Settings:
    """The settings of a place on S3, given the environment variables."""
    query = {key: values[-1] for key, values in parse_qs(place.query).items()}
    endpoint = query.get("endpoint_override") or next(filter(None, map(environment.get, _ENDPOINTS)), "")
    if endpoint and "://" not in endpoint:
        endpoint = f"{query.get('scheme', 'https')}://{endpoint}"
    user, _, _ = place.host.rpartition("@")
    access_key, _, secret_key = user.partition(":")
    verify: bool | str = query.get("tls_ca_file_path") or query.get("tls_ca_dir_path") or True
    if query.get("tls_verify_certificates", "").lower() in _OFF:
        verify = False
    return Settings(endpoint, unquote(access_key), unquote(secret_key), verify)


def put_if_absent(place: Place, region: str, name: str, data: bytes) -> None:
    """Puts the object `bucket/key` unless there is one; afterwards there is one, and its content tells whose it is.

    The put is done twice. A server that takes the second one as well ignores the condition, as old S3-compatible
    servers do. No look at the object would show this: a rival's put may come after the look.

    Raises ConditionsNotOfferedError if the server does not know or ignores the condition, and OSError, in pyarrow's
    words, if it refuses or cannot be reached.
    """
    client, signed = _client(settings(place, os.environ), region)
    bucket, _, key = name.partition("/")
    if _put(client, signed, bucket, key, data) and _put(client, signed, bucket, key, data):
        raise ConditionsNotOfferedError


def _client(chosen: Settings, region: str) -> tuple[Any, bool]:
    """The client, and whether it has credentials. Without, it does not sign requests, and neither does pyarrow."""
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        session = Session()
        signed = bool(chosen.access_key) or session.get_credentials() is not None
        config = Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 3},
            proxies={},  # pyarrow does not look for one either
            ignore_configured_endpoint_urls=True,
            request_checksum_calculation="when_required",  # S3-compatible servers may not know checksums
            s3={"addressing_style": "path" if chosen.endpoint else "auto"},
            **({} if signed else {"signature_version": UNSIGNED}),
        )
        client = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=chosen.endpoint or None,
            aws_access_key_id=chosen.access_key or None,
            aws_secret_access_key=chosen.secret_key or None,
            verify=chosen.verify,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise OSError(f"AWS Error {type(error).__name__} {_OPERATION}: {error}") from error
    return client, signed


def _put(client: Any, signed: bool, bucket: str, key: str, data: bytes) -> bool:
    """True if the object was put; False if there is one."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    try:
        client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    except ClientError as error:
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        if status in _EXISTS:
            return False
        if status == 501 or (status == 400 and code in _UNKNOWN):
            raise ConditionsNotOfferedError from error
        name = "NO_CREDENTIALS" if status in (401, 403) and not signed else _upper_snake(code)
        message = error.response["Error"].get("Message", "")
        raise OSError(f"AWS Error {name} (HTTP status {status}) {_OPERATION}: {code} {message}") from error
    except (ConnectionError, HTTPClientError) as error:
        raise OSError(f"AWS Error NETWORK_CONNECTION {_OPERATION}: {error}") from error
    except BotoCoreError as error:
        raise OSError(f"AWS Error {type(error).__name__} {_OPERATION}: {error}") from error
    return True


def _upper_snake(code: str) -> str:
    """An error code of S3 as pyarrow writes it: ACCESS_DENIED for AccessDenied."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper()
