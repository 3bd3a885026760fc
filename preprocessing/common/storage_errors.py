"""What a failure of storage means: the reason in a few words, the remedy, and whether it may pass by itself."""

from __future__ import annotations

import errno
import os
import re

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ALWAYS_ALIKE = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
_CLIENT = re.compile("AWS Error|google::cloud")
_AWS = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")
_AWS_MESSAGE = re.compile(r"operation: (?:Unable to parse ExceptionName: )?(\w+)")
_CREDENTIALS = "check the credentials, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the machine's role"
_REGION = "it may be in another region: add ?region=REGION to the URI"
_NETWORK = "check the address, the credentials and the network"
# By what S3 answers, or by its status if the answer has no body: why, and the remedy.
_AWS_REASONS = {
    "NO_SUCH_BUCKET": ("there is no such bucket", "correct its name, or make it"),
    "ACCESS_DENIED": ("access is denied", "check the credentials, and what the bucket's policy lets them do"),
    "NO_CREDENTIALS": ("access is denied to a request without credentials: botocore finds none", _CREDENTIALS),
    "INVALID_ACCESS_KEY_ID": ("the access key is unknown", _CREDENTIALS),
    "SIGNATURE_DOES_NOT_MATCH": ("the secret key is wrong", _CREDENTIALS),
    "INVALID_CLIENT_TOKEN_ID": ("the credentials are refused", _CREDENTIALS),
    "ExpiredToken": ("the credentials have expired", "renew them"),
    "REQUEST_TIME_TOO_SKEWED": ("this machine's clock is wrong", "set it, by NTP for example"),
    "PermanentRedirect": ("the bucket is in another region", "add ?region=REGION to the URI"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "add ?region=REGION to the URI"),
    "301": ("the bucket is in another region", "add ?region=REGION to the URI"),
    "400": ("the request is refused", f"{_CREDENTIALS}; {_REGION}"),
    "NETWORK_CONNECTION": ("no connection", "check the address and the network"),
}
_PASSING = ("REQUEST_TIME_TOO_SKEWED", "NETWORK_CONNECTION")
_REMEDIES = {
    errno.EMFILE: "raise this machine's limit of open files, `ulimit -n`",
    errno.ENFILE: "raise this machine's limit of open files, fs.file-max",
    errno.ENOMEM: "free some memory, or raise the limit `ulimit -v`",
    errno.EROFS: "the disk is mounted read-only: mount it for writing, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk fails: look at the kernel's log, then choose another place",
    errno.ESTALE: "the network share was mounted anew or is gone: mount it again, then run again",
}


class ExplainedError(OSError):
    """A failure that its client explains: the reason, in one line, the remedy, and whether it may pass by itself."""

    def __init__(self, reason: str, remedy: str, *, passing: bool = True) -> None:
        super().__init__(reason)
        self.remedy, self.passing = remedy, passing


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    known = _aws_reason(error)
    if known is not None:
        return known[0]
    number = getattr(error, "errno", None)
    text = os.strerror(number) if number else str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]


def remedy(error: BaseException, local: bool) -> str:
    """What the user can do about it."""
    known, number = _aws_reason(error), getattr(error, "errno", None)
    if known is not None:
        return known[1]
    if isinstance(error, ExplainedError):
        return error.remedy
    if isinstance(error, PermissionError):
        return "check the permissions of this user"
    if is_full(error):
        return "free some space, or choose another place"
    if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
        return "there is a file where a folder should be, or a folder where a file should be: choose another place"
    if number in _REMEDIES:
        return _REMEDIES[number]
    return "check the disk, or choose another place" if local else _NETWORK


def is_full(error: BaseException) -> bool:
    """Whether a disk or a quota is full."""
    return getattr(error, "errno", None) in _FULL


def of_client(error: BaseException) -> bool:
    """Whether the error comes from the client of an object store or HDFS, and not from a parser."""
    return isinstance(error, ExplainedError) or _CLIENT.search(str(error)) is not None


def may_pass(error: BaseException) -> bool:
    """Whether a failure of storage may be temporary."""
    if isinstance(error, ExplainedError):
        return error.passing
    if isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "errno", None) in _ALWAYS_ALIKE:
        return False
    answer = _aws_answer(error)
    return answer in _PASSING or not (answer in _AWS_REASONS or "AWS Error INVALID_" in str(error))


def _aws_answer(error: BaseException) -> str | None:
    found = _AWS.search(str(error))
    if found is None:
        return None
    if found[1] in _AWS_REASONS:
        return found[1]
    message = _AWS_MESSAGE.search(str(error))
    return message[1] if message is not None and message[1] in _AWS_REASONS else found[2]


def _aws_reason(error: BaseException) -> tuple[str, str] | None:
    return _AWS_REASONS.get(_aws_answer(error) or "")
