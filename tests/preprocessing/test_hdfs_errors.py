"""What hdfs-native and a NameNode say, in one line with a remedy."""

from __future__ import annotations

import concurrent.futures

import pytest

from preprocessing.common.retries import may_pass
from preprocessing.common.storage_errors import of_client, reason, remedy
from preprocessing.common.stores.hdfs_errors import explained

JAVA = "\\n\\tat org.apache.hadoop.hdfs.server.namenode.FSDirWriteFileOp.startFile(FSDirWriteFileOp.java:389)"


@pytest.mark.parametrize(
    ("error", "says", "what_to_do", "passes"),
    [
        (
            RuntimeError(
                'RPCError("org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Cannot create file/x. Name '
                f'node is in safe mode.\\nThe reported blocks{JAVA}")'
            ),
            "the NameNode is in safe mode",
            "wait until `hdfs dfsadmin -safemode get` says OFF",
            True,
        ),
        (
            RuntimeError(
                'RPCError("org.apache.hadoop.ipc.RetriableException", "org.apache.hadoop.hdfs.server.namenode.'
                f'SafeModeException: Cannot create file/x. Name node is in safe mode.{JAVA}")'
            ),
            "the NameNode is in safe mode",
            "wait until `hdfs dfsadmin -safemode get` says OFF",
            True,
        ),
        (
            RuntimeError(
                'RPCError("org.apache.hadoop.security.AccessControlException", "Permission denied: user=me, '
                f'access=WRITE, inode=\\"/\\":hdfs:supergroup:drwxr-xr-x{JAVA}")'
            ),
            'Permission denied: user=me, access=WRITE, inode="/":hdfs:supergroup:drwxr-xr-x',
            "check the permissions of this user",
            False,
        ),
        (
            RuntimeError(
                'RPCError("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", "The DiskSpace quota of /x is '
                f'exceeded{JAVA}")'
            ),
            "Disk quota exceeded",
            "free some space, or choose another place",
            True,
        ),
        (
            RuntimeError(f'RPCError("java.io.IOException", "File /x could only be written to 0 of the 1 min{JAVA}")'),
            "no DataNode takes the data",
            "check that the DataNodes run, have space and can be reached from here",
            True,
        ),
        (
            RuntimeError(
                'RPCError("org.apache.hadoop.fs.ParentNotDirectoryException", "/a/b (is not a directory)\\n")'
            ),
            "Not a directory",
            "there is a file where a folder should be, or a folder where a file should be: choose another place",
            False,
        ),
        (
            RuntimeError(
                'RPCError("org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLongException", "Too")'
            ),
            "File name too long",
            "choose a shorter name",
            False,
        ),
        (
            RuntimeError(f'RPCError("org.apache.hadoop.some.NewException", "What it says{JAVA}")'),
            "What it says",
            "look at the NameNode's log for NewException",
            True,
        ),
        (
            OSError("Connection refused (os error 111)"),
            "Connection refused",
            "check the address, that NameNode and DataNodes run, and the network",
            True,
        ),
        (
            concurrent.futures.TimeoutError(),
            "no answer in 30 s",
            "check the address, that NameNode and DataNodes run, and the network",
            True,
        ),
        (
            RuntimeError("NoSASLMechanism"),
            "the NameNode wants a way to log in that this client lacks",
            "run kinit, or check this machine's Kerberos set-up (krb5.conf, libgssapi_krb5)",
            False,
        ),
        (
            OSError("RPC listener disconnected"),
            "the connection was closed",
            "check the address, that NameNode and DataNodes run, and the network",
            True,
        ),
        (
            RuntimeError('DataTransferError("All DataNodes failed: [DatanodeInfoProto { id: DatanodeIdProto {")'),
            "no DataNode answers",
            "check that the DataNodes run and can be reached from here",
            True,
        ),
        (RuntimeError('BlocksNotFound("/x")'), "some of its blocks are missing", "check that all DataNodes run", True),
    ],
)
def test_each_failure_has_its_reason_and_remedy(error: Exception, says: str, what_to_do: str, passes: bool) -> None:
    found = explained(error, 30.0)
    assert (reason(found), remedy(found, local=False), may_pass(found)) == (says, what_to_do, passes)
    assert found.errno is not None or isinstance(found, PermissionError) or of_client(found)


def test_absent_and_present_are_told_apart() -> None:
    assert type(explained(FileNotFoundError("File does not exist: /x\n\tat org.apache"), 1.0)) is FileNotFoundError
    assert type(explained(FileExistsError("/x already exists\n\tat org.apache"), 1.0)) is FileExistsError
    assert str(explained(FileNotFoundError("no: /x\n\tat org"), 1.0)) == "[Errno 2] no: /x"
