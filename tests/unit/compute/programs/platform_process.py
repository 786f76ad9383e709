"""A platform that only holds the driver: creates what it is told on its command line, says so, and waits to be killed."""

import asyncio
import sys
from pathlib import Path

from staging import ProcessStage


async def main(folder: str, uids: list[str]) -> None:
    stage = ProcessStage(Path(folder), fork=True)
    async with stage.compute() as compute:
        await compute.prepare(stage.app, 1)
        for uid in uids:
            await compute.create(stage.order(uid))
            while not await stage.lives(uid):
                await stage.pass_time()
        print("here they are", flush=True)
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
