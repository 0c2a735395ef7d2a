"""What a program does with the official openai package, sync and async, held against one way to reach a server: a
completion, a stream that arrives in pieces, embeddings, models, the error for a bad key, an upload of 25 MB, a hundred
requests at once, and cancellation.

    openai_list.py package URL API_KEY POLICY ANCHORS     without a forwarder, by this package
    openai_list.py base URL API_KEY [CERTIFICATES]        any base URL: a forwarder, or TLS with these authorities

A line "gone NAME" on standard output says that a request whose prompt names NAME was given up; the list goes on when it
reads a line: whoever runs it has then seen that the model lost its client while this program still lives.
"""

import asyncio
import concurrent.futures
import hashlib
import io
import os
import ssl
import sys
import threading
import time

import openai

CHAT = "gpt-oss-120b"
MEGABYTES = 25
AT_ONCE = 100
# The model repeats the prompt word by word, with a pause after each: this lasts for minutes.
LONG = "word " * 2000


class Way:
    """One way to reach the server: makes clients of the openai package."""

    def __init__(self, kind, url, key, *more):
        self.kind, self.url, self.key, self.more = kind, url, key, more

    def sync_client(self, key=None):
        return self.client(False, {"api_key": key or self.key, "max_retries": 0})

    def async_client(self, key=None):
        return self.client(True, {"api_key": key or self.key, "max_retries": 0})

    def client(self, asynchronous, options):
        if self.kind == "package":
            import privatemode_confidential as pc

            policy, anchors = self.more
            with open(anchors) as file:
                anchors = file.read()
            make = pc.async_openai if asynchronous else pc.openai
            return make(self.url, policy=policy, danger_anchors_pem=anchors, **options)
        verify = ssl.create_default_context(cafile=self.more[0]) if self.more else True
        make_http = openai.DefaultAsyncHttpxClient if asynchronous else openai.DefaultHttpxClient
        make = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        return make(base_url=self.url, http_client=make_http(verify=verify, timeout=120), **options)


def question(text):
    return [{"role": "user", "content": text}]


def gone(name):
    """Tells that a request was given up, and waits until the model knows."""
    print("gone", name, flush=True)
    sys.stdin.readline()


def recording():
    data = os.urandom(MEGABYTES * 1024 * 1024)
    said = f"{len(data)} bytes of audio {hashlib.sha256(data).hexdigest()[:8]}"
    return ("long.wav", io.BytesIO(data)), said


class Arrivals:
    """A stream's pieces: the first one must not have waited for the last."""

    def __init__(self):
        self.begin, self.times, self.text = time.monotonic(), [], ""

    def add(self, chunk):
        self.times.append(time.monotonic() - self.begin)
        self.text += (chunk.choices[0].delta.content or "") if chunk.choices else ""

    def check(self):
        assert "gamma" in self.text, self.text
        assert len(self.times) >= 5, self.times
        assert self.times[0] < self.times[-1] / 2, self.times


def is_whole(answer):
    assert "gamma" in answer.choices[0].message.content, answer
    assert answer.usage.total_tokens > 0, answer


def are_two(vectors):
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) > 1, vectors


GREEK = question("alpha beta gamma delta epsilon zeta eta theta")


def sync_list(way):
    ai = way.sync_client()
    is_whole(ai.chat.completions.create(model=CHAT, messages=GREEK))

    arrivals = Arrivals()
    for chunk in ai.chat.completions.create(model=CHAT, messages=GREEK, stream=True):
        arrivals.add(chunk)
    arrivals.check()

    are_two(ai.embeddings.create(model="qwen3-embedding-4b", input=["one", "two"]))
    assert any(model.id == CHAT for model in ai.models.list()), "models"

    try:
        way.sync_client("pm_wrong").chat.completions.create(model=CHAT, messages=GREEK)
    except openai.AuthenticationError as error:
        assert "Invalid or expired API key" in str(error), error
    else:
        raise AssertionError("a bad key was accepted")

    file, said = recording()
    assert ai.audio.transcriptions.create(model="whisper-large-v3", file=file).text == said

    start = threading.Barrier(AT_ONCE)

    def one(number):
        start.wait()
        answer = ai.chat.completions.create(model=CHAT, messages=question(f"number {number} of many"))
        return answer.choices[0].message.content

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
        for number, text in enumerate(threads.map(one, range(AT_ONCE))):
            assert f"number {number} of" in text, text

    stream = ai.chat.completions.create(model=CHAT, messages=question(f"given-up-sync {LONG}"), stream=True)
    next(iter(stream))
    stream.close()
    gone("given-up-sync")
    # The connection is as good as before.
    is_whole(ai.chat.completions.create(model=CHAT, messages=GREEK))


async def async_list(way):
    ai = way.async_client()
    is_whole(await ai.chat.completions.create(model=CHAT, messages=GREEK))

    arrivals = Arrivals()
    async for chunk in await ai.chat.completions.create(model=CHAT, messages=GREEK, stream=True):
        arrivals.add(chunk)
    arrivals.check()

    are_two(await ai.embeddings.create(model="qwen3-embedding-4b", input=["one", "two"]))
    assert any([model.id == CHAT async for model in ai.models.list()]), "models"

    file, said = recording()
    transcript = await ai.audio.transcriptions.create(model="whisper-large-v3", file=file)
    assert transcript.text == said, transcript

    async def one(number):
        answer = await ai.chat.completions.create(model=CHAT, messages=question(f"number {number} of many"))
        return answer.choices[0].message.content

    for number, text in enumerate(await asyncio.gather(*map(one, range(AT_ONCE)))):
        assert f"number {number} of" in text, text

    begun = asyncio.Event()

    async def listen():
        messages = question(f"given-up-async {LONG}")
        async for _ in await ai.chat.completions.create(model=CHAT, messages=messages, stream=True):
            begun.set()

    task = asyncio.create_task(listen())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    await asyncio.to_thread(gone, "given-up-async")
    is_whole(await ai.chat.completions.create(model=CHAT, messages=GREEK))


def main(*arguments):
    way = Way(*arguments)
    sync_list(way)
    asyncio.run(async_list(way))


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("ok")
