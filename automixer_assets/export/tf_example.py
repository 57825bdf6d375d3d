"""Token ids as serialised `tf.train.Example` records, which is what MaxText parses, without TensorFlow.

    Example { features { feature { key: COLUMN  value { int64_list { value: [ids] } } } } }

Every level is one length-delimited protobuf field, the ids are packed varints (protobuf.dev, "Encoding").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

FIRST, SECOND, THIRD = (number << 3 | 2 for number in (1, 2, 3))
"""Tags of length-delimited fields."""


def encode_examples(sequences: np.ndarray, column: str) -> Iterator[bytes]:
    """One record per row of `sequences`, [n, sequence_length], non-negative ids below 2**32."""
    key = _field(FIRST, column.encode())
    for payload in _packed_varints(sequences):
        int64_list = _field(FIRST, payload)
        feature = _field(THIRD, int64_list)
        entry = key + _field(SECOND, feature)
        features = _field(FIRST, entry)
        yield _field(FIRST, features)


def _packed_varints(sequences: np.ndarray) -> Iterator[bytes]:
    """The ids of each row as varints: seven bits a byte, low ones first, the top bit set on all but the last."""
    ids = sequences.astype(np.uint32)
    width = max(1, -(-int(ids.max(initial=0)).bit_length() // 7))
    for row in ids:
        groups = row[:, None] >> np.arange(0, 7 * width, 7, dtype=np.uint32)  # [ids, width]
        follows = np.zeros(groups.shape, bool)  # whether any higher bit is set
        follows[:, :-1] = groups[:, 1:] > 0
        used = np.concatenate([np.ones((len(row), 1), bool), follows[:, :-1]], axis=1)
        yield ((groups & 127) | (follows << 7)).astype(np.uint8)[used].tobytes()


def _field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])
