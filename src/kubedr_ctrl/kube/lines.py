"""Lines out of a byte stream, of any length, none of them cut."""

from collections.abc import AsyncIterable, AsyncIterator


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield each whole line without its end; what follows the last line end is a cut line and is dropped.

    aiohttp's own line reader is not used, as it refuses lines longer than its buffer and does not tell a
    line that ended from one that was cut off.
    """
    pieces: list[bytes] = []
    async for chunk in chunks:
        head, *rest = chunk.split(b"\n")
        pieces.append(head)
        for piece in rest:
            if line := b"".join(pieces).strip():
                yield line
            pieces = [piece]
