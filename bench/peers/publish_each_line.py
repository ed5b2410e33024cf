"""Run a command, and await one PUBLISH for each line of its output, like a typical build script at its best.

    python publish_each_line.py REDIS_URI CHANNEL COMMAND

It uses hiredis and a single connection, and has no console, stream or redaction. asyncio splits the lines. It prints the start
of the command in seconds since the epoch.
"""

from __future__ import annotations

import asyncio
import sys
import time

from redis.asyncio import Redis


async def main(uri: str, channel: str, command: str) -> None:
    async with Redis.from_url(uri, single_connection_client=True) as redis:
        await redis.ping()
        print(time.time(), flush=True)
        process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async for line in process.stdout:
            await redis.publish(channel, line.decode("utf-8", "replace").rstrip("\r\n"))
        if await process.wait():
            sys.exit(f"{command} failed")
        await redis.publish(channel, "Done")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
