from __future__ import annotations

from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v7
from aiokafka.protocol.struct import Struct
from hypothesis import given
from hypothesis import strategies as st

import receiver.broker  # noqa: F401  # installs it
from receiver.produce import encode

PARTITIONS = st.lists(st.tuples(st.integers(0, 99), st.binary() | st.binary().map(bytearray)), max_size=3)
TOPICS = st.lists(st.tuples(st.text(max_size=20), PARTITIONS), max_size=3)


@given(st.none() | st.text(max_size=9), st.integers(-1, 1), st.integers(0, 2**31 - 1), TOPICS)
def test_the_request_is_aiokafkas_to_the_byte(
    transaction: str | None, acks: int, timeout_ms: int, topics: list[tuple[str, list[tuple[int, bytes]]]]
) -> None:
    request = ProduceRequest(transaction, acks, timeout_ms, topics).prepare({0: (3, 12)})
    assert isinstance(request, ProduceRequest_v7)
    assert type(request).encode is encode
    assert request.encode() == Struct.encode(request)
