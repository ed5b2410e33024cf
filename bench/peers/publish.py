"""Publish a folder as a build does, and print the cost of the upload stage.

    publish.py FOLDER ENDPOINT PREFIX CONCURRENCY fast_put|aiobotocore

The import of the client, its connection and the listing are not measured, because they happen during the build.
"""

from __future__ import annotations

import json
import resource
import secrets
import sys
import time
from pathlib import Path

import anyio

from buildrunner.publish.files import collect
from buildrunner.s3.client import open_s3
from support.uploads import make_upload


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    folder, endpoint, prefix, concurrency, way = Path(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4]), sys.argv[5]
    async with open_s3(region="us-east-1", endpoint_url=endpoint, concurrency=concurrency) as s3:
        if way == "fast_put":
            await s3.warm_up("sites")
        else:
            await s3._client.head_bucket(Bucket="sites")
        upload = make_upload(s3.bucket("sites"), prefix, build=secrets.token_hex(4), concurrency=concurrency)
        await upload.survey()
        begun, cpu_before = time.perf_counter(), cpu()
        with collect(folder, folder.parent, prefix=prefix) as site:
            await upload.plan(site, on_progress=lambda _files, _bytes: None)
            await upload.send_new()
            await upload.begin()
            await upload.publish()
            await upload.tidy_up(build=secrets.token_hex(4), slug=prefix, commit=None)
        wall, used = time.perf_counter() - begun, cpu() - cpu_before
        status = Path("/proc/self/status").read_text()  # getrusage may report the peak of the parent process
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        sent = upload.files_done - upload.unchanged
        print(json.dumps({"wall": wall, "cpu": used, "peak": peak, "sent": sent}))


if __name__ == "__main__":
    anyio.run(main)
