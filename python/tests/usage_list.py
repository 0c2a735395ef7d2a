"""What the official openai and anthropic packages can ask for, call by call, and what the proxy then has written down for
the key, which its holder sees at /auth/key-info: it must be what the model server says that it said, to the token.

    usage_list.py URL API_KEY CERTIFICATES MODEL_URL

The model server is asked directly for its record of requests: a client that did not ask for usage sees none in a stream.
"""

import io
import json
import ssl
import sys
import time
import urllib.request

import anthropic
import openai

CHAT, EMBEDDING, WHISPER = "gpt-oss-120b", "qwen3-embedding-4b", "whisper-large-v3"
QUESTION = [{"role": "user", "content": "alpha beta gamma delta"}]
# Long enough that the model server had a part of it at hand.
LONG = [{"role": "user", "content": "word " * 1500}]
# Of the usage at /auth/key-info.
MEMBERS = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens", "audio_seconds")


class Group:
    def __init__(self, url, key, certificates, model_url):
        self.url, self.key, self.model_url = url, key, model_url.rstrip("/")
        self.context = ssl.create_default_context(cafile=certificates)
        http = openai.DefaultHttpxClient(verify=self.context, timeout=60)
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http)
        http = anthropic.DefaultHttpxClient(verify=self.context, timeout=60)
        self.anthropic = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, http_client=http)
        self.before = self.written_down()

    def written_down(self):
        request = urllib.request.Request(f"{self.url}/auth/key-info", headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
            usage = json.load(answer)["usage"]
        assert usage["estimated_requests"] == 0, usage
        return {member: usage[member] for member in MEMBERS}

    def said(self):
        """What the model server's newest answer said."""
        with urllib.request.urlopen(f"{self.model_url}/_sim/requests", timeout=60) as answer:
            return json.load(answer)[-1]["usage"]

    def check(self, what):
        """One call more is written down than before, with what the model server said of it."""
        end = time.monotonic() + 20
        while True:
            after = self.written_down()
            if after["requests"] != self.before["requests"] or time.monotonic() > end:
                break
            time.sleep(0.1)
        more = {member: after[member] - self.before[member] for member in MEMBERS}
        expected = {"requests": 1, **used(self.said())}
        assert more == expected, f"{what}: {more} is written down, {expected} was said"
        self.before = after


def used(said):
    """What each of the forms of usage means."""
    assert said is not None, "the model server said nothing"
    if said.get("type") == "duration":
        return tokens(0, 0, 0) | {"audio_seconds": said["seconds"]}
    if "prompt_tokens" in said:
        cached = said.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        return tokens(said["prompt_tokens"], said.get("completion_tokens", 0), cached)
    if "input_tokens_details" in said:
        return tokens(said["input_tokens"], said["output_tokens"], said["input_tokens_details"]["cached_tokens"])
    cached = said["cache_read_input_tokens"]
    prompt = said["input_tokens"] + cached + said["cache_creation_input_tokens"]
    return tokens(prompt, said["output_tokens"], cached)


def tokens(prompt, completion, cached):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": cached,
        "total_tokens": prompt + completion,
        "audio_seconds": 0,
    }


def chats(group):
    ai = group.openai.chat.completions
    answer = ai.create(model=CHAT, messages=QUESTION)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 4), answer
    group.check("a chat")

    answer = ai.create(model=CHAT, messages=LONG, max_completion_tokens=20)
    assert answer.usage.prompt_tokens_details.cached_tokens > 0, answer
    group.check("a long chat")

    chunks = list(ai.create(model=CHAT, messages=QUESTION, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), chunks
    group.check("a stream that did not ask for usage")

    chunks = list(ai.create(model=CHAT, messages=LONG, stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True], chunks
    assert not chunks[-1].choices and chunks[-1].usage.prompt_tokens == 1500, chunks[-1]
    group.check("a stream that asked for usage")

    chunks = list(ai.create(model=CHAT, messages=QUESTION, stream=True, stream_options={"include_usage": False}))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), chunks
    group.check("a stream that asked for no usage")


def others(group):
    ai = group.openai
    ai.completions.create(model=CHAT, prompt="one two three", max_tokens=2)
    group.check("a completion")
    assert list(ai.completions.create(model=CHAT, prompt="one two three", stream=True))
    group.check("a streamed completion")

    ai.embeddings.create(model=EMBEDDING, input=["one two", "three"])
    group.check("embeddings")

    assert ai.responses.create(model=CHAT, input="one two three").output_text == "one two three"
    group.check("a response")
    with ai.responses.stream(model=CHAT, input=LONG) as stream:
        assert stream.get_final_response().usage.input_tokens_details.cached_tokens > 0
    group.check("a streamed response")

    recording = ("short.wav", io.BytesIO(bytes(96_000)))
    assert ai.audio.transcriptions.create(model=WHISPER, file=recording).text
    group.check("a transcription")
    recording = ("short.wav", io.BytesIO(bytes(64_000)))
    assert ai.audio.translations.create(model=WHISPER, file=recording).text
    group.check("a translation")


def messages(group):
    ai = group.anthropic.messages
    answer = ai.create(model=CHAT, max_tokens=50, messages=QUESTION)
    assert (answer.content[0].text, answer.usage.output_tokens) == ("alpha beta gamma delta", 4), answer
    group.check("a message")

    answer = ai.create(model=CHAT, max_tokens=3, messages=LONG)
    assert answer.usage.cache_read_input_tokens > 0 and answer.stop_reason == "max_tokens", answer
    group.check("a long message")

    with ai.stream(model=CHAT, max_tokens=50, messages=QUESTION) as stream:
        assert "".join(stream.text_stream) == "alpha beta gamma delta"
        assert stream.get_final_message().usage.output_tokens == 4
    group.check("a streamed message")


def main():
    group = Group(*sys.argv[1:])
    chats(group)
    others(group)
    messages(group)
    print("ok")


main()
