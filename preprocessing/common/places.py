"""Where a path or URI points. A damaged or mistyped one is refused, and not taken for the name of a new folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote

from preprocessing.common.errors import InputError

SCHEMES = ("s3", "gs", "hdfs", "viewfs", "file")
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}  # Hadoop's names for a bucket of S3, and Arrow's for one of GCS
# With these before a colon no folder is meant: `run:1` may be one, `abfs:x` is not.
_OTHERS = (
    *("abfs", "abfss", "adl", "cos", "dbfs", "ftp", "har", "http", "https", "maprfs", "memory", "oss", "sftp"),
    *("swebhdfs", "wasb", "wasbs", "webhdfs"),
)
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_MISTYPED = re.compile(rf"({'|'.join((*SCHEMES, *_ALIASES, *_OTHERS))})(?::[/\\]*|//+)(.*)", re.DOTALL | re.IGNORECASE)
_QUERY = re.compile(r"[\w.-]+=[^&\s]*(&[\w.-]+=[^&\s]*)*")
# What a URI must encode; a % that does not begin %XX stands for itself.
_UNSAFE = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]")
_LOCALE = "set LC_ALL=C.UTF-8 on the machine that submits the job"
# What a local path hardly ever holds, and the likely reason if it does. A `?` or U+FFFD is all that is left of a
# character if spark-submit's JVM runs in an ASCII locale.
_DAMAGE = (
    (
        re.compile(r"[?\ufffd]"),
        f"characters other than ASCII were lost: {_LOCALE}; or make the folder first, if that is its name",
    ),
    (re.compile(r"^~"), "there is no such user: write the folder out, or ./~ for a folder of that name"),
    (re.compile(r"^\$"), "the shell has not replaced the variable: write the folder out"),
)


class Place(NamedTuple):
    """A folder or file: an absolute local path if `scheme` is empty, else a bucket or host and a path in it.

    `path` of a URI is as the user wrote it: `%20` stands for a space, and so does a space.
    """

    scheme: str
    host: str
    path: str
    query: str = ""

    @property
    def base(self) -> str:
        """The place without its query, for people to read."""
        return f"{self.scheme}://{self.host}{self.path}" if self.scheme else self.path

    @property
    def uri(self) -> str:
        """The place as a string from which `parse` makes an equal place."""
        return self.base + (f"?{self.query}" if self.query else "")

    @property
    def strict_uri(self) -> str:
        """The URI as RFC 3986 wants it, for libraries."""
        path = _UNSAFE.sub(lambda found: quote(found[0]), self.path)
        path = path or ("" if self.host else "/")
        return f"{self.scheme}://{self.host}{path}" + (f"?{self.query}" if self.query else "")

    def child(self, name: str) -> Place:
        """The place of that relative name below this one."""
        if self.scheme:
            name = name.replace("%", "%25").replace("?", "%3F")
        return self._replace(path=f"{self.path.rstrip('/')}/{name}")

    def encloses(self, other: Place) -> bool:
        """Whether `other` is this place or lies below it. Of the query only another server's address counts."""
        if (self.scheme, self.host, _server(self)) != (other.scheme, other.host, _server(other)):
            return False
        outer, inner = (unquote(place.path) if place.scheme else place.path for place in (self, other))
        return f"{inner}/".startswith(f"{outer.rstrip('/')}/")


def parse(text: str) -> Place:
    """The place that a user means by a path or URI; `InputError` if it is none, or seems damaged on its way here."""
    _check_characters(text)
    uri = _URI.fullmatch(text)
    if uri is None:
        mistyped = _MISTYPED.fullmatch(text)
        if mistyped is None:
            return Place("", "", _local(text))
        if text[: len("file:/")].lower() == "file:/":  # as Hadoop writes it
            return Place("", "", _local("/" + unquote(mistyped[2])))
        scheme = mistyped[1].lower()
        if scheme not in (*SCHEMES, *_ALIASES):
            raise InputError(_unknown(text, scheme))
        where = {"file": "/", "hdfs": "NAMENODE/", "viewfs": "CLUSTER/"}.get(scheme, "")
        raise InputError(
            f"{text}: not a URI; write {scheme}://{where}{mistyped[2]}, or ./{text} for a local folder of that name"
        )
    scheme = _ALIASES.get(uri[1].lower(), uri[1].lower())
    if scheme not in SCHEMES:
        raise InputError(_unknown(text, scheme))
    rest, mark, query = uri[2].partition("?")
    host, slash, path = rest.partition("/")
    if mark and (scheme == "file" or not _QUERY.fullmatch(query)):
        raise InputError(
            f"{text}: after the ? there must be a setting such as region=eu-west-1; write %3F for a ? in a name; "
            f"if you typed no ?, characters were lost: {_LOCALE}"
        )
    if scheme == "file":
        if host not in ("", "localhost"):
            raise InputError(f"{text}: names a host, {host}; write file:///{host}/... for a path of this machine")
        return Place("", "", os.path.abspath(unquote("/" + path)))  # noqa: PTH100
    if scheme in ("hdfs", "viewfs"):
        _check_hadoop(text, host, query)
    elif not host:
        raise InputError(f"{text}: names no bucket; write {scheme}://bucket/folder")
    return Place(scheme, host, (slash + path).rstrip("/"), query)


def _check_hadoop(text: str, host: str, query: str) -> None:
    if query:
        raise InputError(f"{text}: takes no settings after a ?; put them in core-site.xml or hdfs-site.xml")
    if "@" in host:
        raise InputError(f"{text}: names a user; leave out what is before the @, and set HADOOP_USER_NAME")


def local_path(text: str, what: str) -> Path:
    """A path that has to be on this machine; `InputError`, which begins with `what`, if it is not."""
    try:
        place = parse(text)
    except InputError as error:
        raise InputError(f"{what} {error}") from None
    if place.scheme:
        raise InputError(f"{what} {text}: must be on a local disk; copy it there and give its path")
    return Path(place.path)


def _server(place: Place) -> list[str]:
    return parse_qs(place.query).get("endpoint_override", [])


def _check_characters(text: str) -> None:
    if not text.strip():
        raise InputError("an empty string is not a path: give a folder or a URI such as s3://bucket/folder")
    if re.search(r"[\ud800-\udfff]", text):
        raise InputError(f"{text!a}: is not UTF-8; {_LOCALE}, or rename the folder")
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise InputError(f"{text!a}: has a line break or another control character in it; remove that")


def _local(text: str) -> str:
    """An absolute path. A name that looks damaged is accepted only if it exists."""
    home = text.startswith("~") and (text[1:2] in ("", "/") or not os.path.lexists(text.split("/")[0]))
    expanded = os.path.expanduser(text) if home else text  # noqa: PTH111 - `Path` raises if there is no such user
    for mark, how in _DAMAGE:
        found = [match.start() for match in mark.finditer(expanded)]
        if found and not os.path.lexists(expanded[: f"{expanded}/".index("/", found[-1])]):
            raise InputError(f"{text}: there is no such folder, and {how}")
    if text != text.strip() and not os.path.lexists(text):
        raise InputError(f"{text!r}: begins or ends with a space; give it without")
    return os.path.abspath(expanded)  # noqa: PTH100 - `absolute` would leave the `..` in


def _unknown(text: str, scheme: str) -> str:
    return f"{text}: unknown scheme {scheme}://; known are {', '.join(SCHEMES)}; copy the data to one of these"
