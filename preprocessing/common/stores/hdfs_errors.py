"""The errors of HDFS's client as the `OSError` that each stands for: one line, with a remedy."""

from __future__ import annotations

import ast
import concurrent.futures
import errno
import os
import re

from preprocessing.common.storage_errors import ExplainedError

_NODES = "check the address, that NameNode and DataNodes run, and the network"
_KERBEROS = "run kinit, or check this machine's Kerberos set-up (krb5.conf, libgssapi_krb5)"
# A Java exception, by its class without the package, and its message.
_ANSWER = re.compile(r'(?:Fatal)?RPCError\("(?:[\w.]+[.$])?(\w+)", "(.*)"\)', re.DOTALL)
_OF_CLIENT = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)  # hdfs-native's own kind of error, as Rust prints it
_NUMBER = re.compile(r" \(os error \d+\)$")
_HUNG_UP = re.compile("^RPC listener disconnected$")
# The error number for each of Java's exceptions.
_NUMBERS = {
    "DSQuotaExceededException": errno.EDQUOT,
    "NSQuotaExceededException": errno.EDQUOT,
    "QuotaByStorageTypeExceededException": errno.EDQUOT,
    "ParentNotDirectoryException": errno.ENOTDIR,
    "PathComponentTooLongException": errno.ENAMETOOLONG,
    "PathIsNotEmptyDirectoryException": errno.EISDIR,
}
# For each of Java's exceptions: the reason (Java's own if empty), the remedy, and whether it may pass by itself.
_EXCEPTIONS = {
    "SafeModeException": ("the NameNode is in safe mode", "wait until `hdfs dfsadmin -safemode get` says OFF", True),
    "StandbyException": ("no NameNode is active", "check that one is, with `hdfs haadmin -getAllServiceState`", True),
    "InvalidPathException": ("HDFS has no such names", "choose a name without a colon", False),
    "InvalidToken": ("", "the token has expired or is another cluster's: submit the job again", False),
    "SaslException": ("", _KERBEROS, False),
    "GSSException": ("", _KERBEROS, False),
    "AuthorizationException": ("", "check what the cluster lets this user do", False),
}
_NO_DATA_NODE = re.compile("could only be written to 0 of|Unable to add a new datanode")
# The same for each of hdfs-native's own kinds of error.
_KINDS = {
    "SASLError": ("Kerberos refuses", _KERBEROS, False),
    "GSSAPIError": ("Kerberos refuses", _KERBEROS, False),
    "NoSASLMechanism": ("the NameNode wants a way to log in that this client lacks", _KERBEROS, False),
    "BlocksNotFound": ("some of its blocks are missing", "check that all DataNodes run", True),
    "DataTransferError": ("no DataNode answers", "check that the DataNodes run and can be reached from here", True),
    "ChecksumError": ("a DataNode sent damaged data", "run `hdfs fsck` on the file", True),
}


def explained(error: BaseException, seconds: float) -> OSError:
    """The error to raise for one that hdfs-native raised in a call that was given `seconds`."""
    if isinstance(error, concurrent.futures.TimeoutError):
        return ExplainedError(f"no answer in {seconds:.0f} s", _NODES)
    text = str(error)
    line = _first_line(text)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, line)
    if isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, line)
    if isinstance(error, IsADirectoryError):
        return _numbered(errno.EISDIR)
    if isinstance(error, OSError):
        return ExplainedError(_HUNG_UP.sub("the connection was closed", _NUMBER.sub("", line)), _NODES)
    answer = _ANSWER.fullmatch(text)
    if answer is not None:
        return _of_name_node(answer[1], _first_line(_unquoted(answer[2])))
    own = _OF_CLIENT.fullmatch(text)
    kind, detail = (own[1], _first_line(_unquoted((own[2] or "").strip('"')))) if own is not None else ("", line)
    why, remedy, passing = _KINDS.get(kind, ("", _NODES, True))
    return ExplainedError(why or detail or line, remedy, passing=passing)


def _of_name_node(exception: str, message: str) -> OSError:
    if exception == "AccessControlException":
        return PermissionError(message)  # names the user and the folder
    if "SafeModeException" in message:  # which one of two NameNodes wraps in a RetriableException while it starts
        exception = "SafeModeException"
    if exception in _NUMBERS:
        return _numbered(_NUMBERS[exception])
    if "must both be directories" in message:  # a rename of a file onto a folder
        return _numbered(errno.EISDIR)
    if _NO_DATA_NODE.search(message):
        return ExplainedError(
            "no DataNode takes the data", "check that the DataNodes run, have space and can be reached from here"
        )
    why, remedy, passing = _EXCEPTIONS.get(exception, ("", f"look at the NameNode's log for {exception}", True))
    return ExplainedError(why or message or exception, remedy, passing=passing)


def _numbered(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _first_line(text: str) -> str:
    """Without the Java stack trace that follows."""
    return text.strip().split("\n", 1)[0].strip()


def _unquoted(text: str) -> str:
    """A string without the quoting of Rust's debug format, which for Hadoop's messages is the same as Python's."""
    try:
        return str(ast.literal_eval(f'"{text}"'))
    except (SyntaxError, ValueError):
        return text.replace("\\n", "\n")
