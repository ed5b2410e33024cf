"""Run a command and await one PUBLISH for each line of its output: the usual runner, as short and as fair as can be.

    python publish_each_line.py REDIS_URI CHANNEL COMMAND

It has hiredis, one connection and nothing else to do: no console, no stream, no redaction. Lines are read as asyncio reads
them. Prints when the command was started (seconds since the epoch).
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
