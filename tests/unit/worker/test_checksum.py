"""A snapshot is intact if its last 32 bytes are the SHA-256 of whole sectors before them."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubedr_ctrl.worker.checksum import Checksum

PAGES = bytes(range(256)) * 4
WHOLE = PAGES + hashlib.sha256(PAGES).digest()


def follow(*chunks: bytes) -> Checksum:
    checksum = Checksum()
    for chunk in chunks:
        checksum.update(chunk)
    return checksum


@given(st.lists(st.integers(0, len(WHOLE))))
def test_it_does_not_matter_how_the_bytes_arrive(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(WHOLE)]
    checksum = follow(*(WHOLE[begin:end] for begin, end in pairwise(bounds)))
    assert checksum.intact
    assert checksum.size == len(WHOLE)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[position] ^= change
    assert not follow(bytes(damaged)).intact


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 500])
def test_what_is_no_whole_number_of_sectors_is_cut(length: int) -> None:
    cut = PAGES[:length]
    assert not follow(cut, hashlib.sha256(cut).digest()).intact
