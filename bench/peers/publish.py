"""Publish a folder as a run does, and print what its upload stage took: `publish.py FOLDER ENDPOINT CONCURRENCY hot|aiobotocore`.

The client is imported and has made its connection before, as in a run, where that happens while the build runs.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import anyio

from buildrunner.site.bucket import open_s3
from buildrunner.site.files import collect
from buildrunner.site.upload import Upload


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    folder, endpoint, concurrency, way = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    async with open_s3(region="us-east-1", endpoint_url=endpoint, concurrency=concurrency) as s3:
        if way == "hot":
            await s3.warm_up("sites")
        else:
            await s3._client.head_bucket(Bucket="sites")
        begun, cpu_before = time.perf_counter(), cpu()
        with collect(folder, folder.parent, prefix="site/") as site:
            upload = await Upload.plan(
                site,
                s3.bucket("sites"),
                prefix="site/",
                concurrency=concurrency,
                on_progress=lambda _files, _bytes: None,
            )
            await upload.send_new()
            await upload.publish()
        wall, used = time.perf_counter() - begun, cpu() - cpu_before
        status = Path("/proc/self/status").read_text()  # getrusage's figure may be that of who started this
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        print(json.dumps({"wall": wall, "cpu": used, "peak": peak, "files": upload.files_done}))


if __name__ == "__main__":
    anyio.run(main)
