"""A program that ends while answers still stream: in the way that its argument names. Run by test_package.py."""

import asyncio
import os
import sys
import threading

import privatemode_confidential as pc

URL = os.environ["URL"]
STREAMS = 8
QUESTION = {"model": "gpt-oss-120b", "stream": True, "messages": [{"role": "user", "content": "word " * 2000}]}


def options():
    with open(os.environ["ANCHORS"]) as file:
        anchors = file.read()
    headers = {"Authorization": f"Bearer {os.environ['API_KEY']}"}
    return {"policy": os.environ["POLICY"], "danger_anchors_pem": anchors, "headers": headers}


def in_threads():
    group = pc.client(URL, **options())
    begun = threading.Barrier(STREAMS + 1)

    def listen():
        with group.stream("POST", f"{URL}/v1/chat/completions", json=QUESTION) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            begun.wait()
            for _ in pieces:
                pass

    for _ in range(STREAMS):
        threading.Thread(target=listen, daemon=True).start()
    begun.wait()


async def in_tasks():
    group = pc.async_client(URL, **options())
    begun = [asyncio.Event() for _ in range(STREAMS)]

    async def listen(mine):
        async with group.stream("POST", f"{URL}/v1/chat/completions", json=QUESTION) as answer:
            async for _ in answer.aiter_raw():
                mine.set()

    tasks = [asyncio.create_task(listen(mine)) for mine in begun]
    for mine in begun:
        await mine.wait()
    assert not any(task.done() for task in tasks)


if __name__ == "__main__":
    if sys.argv[1] == "tasks":
        asyncio.run(in_tasks())
    else:
        in_threads()
