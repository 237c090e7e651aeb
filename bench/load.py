"""``python -m bench.load PORT PATH SECONDS CONNECTIONS``: request again after each response; print the count.

A separate process with little Python between two requests, so that the server is the bottleneck.
"""

from __future__ import annotations

import asyncio
import sys
import time


async def main(port: int, path: str, seconds: float, connections: int) -> None:
    end = time.monotonic() + seconds
    counts = await asyncio.gather(*(_ask(port, path, end) for _ in range(connections)))
    print(f"{sum(counts) / seconds:.0f}")


async def _ask(port: int, path: str, end: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    answered = 0
    while time.monotonic() < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(head.split(b"\r\n")[0].decode())
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        answered += 1
    writer.close()
    return answered


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
