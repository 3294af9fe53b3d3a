"""One DNS question, asked as a pod would: through the Service's address."""

from __future__ import annotations

import socket
import struct
from contextlib import closing

_TIMEOUT = 0.5
_QUERY_ID = 0x6465
_HEADER = struct.Struct("!6H")
_IN_A = struct.pack("!2H", 1, 1)


def answers(server: str, name: str) -> bool:
    """Say whether a server answers a question for a name's address with one.

    Parameters
    ----------
    server
        The server's address.
    name
        A host name.
    """
    recursion_desired = 0x0100
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = _HEADER.pack(_QUERY_ID, recursion_desired, 1, 0, 0, 0) + labels + b"\0" + _IN_A
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(_TIMEOUT)
        try:
            client.connect((server, 53))
            client.send(question)
            reply = client.recv(512)
        except OSError:
            return False
    if len(reply) < _HEADER.size:
        return False
    query_id, _, _, answer_count, _, _ = _HEADER.unpack_from(reply)
    return bool(query_id == _QUERY_ID and answer_count > 0)
