"""The official client against one base URL: a completion, a stream that arrives in pieces, embeddings, models, and
the error for a bad key. Exits with 0 if all of it is as it should be.

    openai_client.py BASE_URL API_KEY [CERTIFICATE_FILE]
"""
import ssl
import sys
import time

import openai


def main(base_url, api_key, certificate=None):
    verify = ssl.create_default_context(cafile=certificate) if certificate else True

    def client(key):
        return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0,
                             http_client=openai.DefaultHttpxClient(verify=verify, timeout=30))

    ai = client(api_key)
    question = [{"role": "user", "content": "alpha beta gamma delta epsilon zeta eta theta"}]
    whole = ai.chat.completions.create(model="gpt-oss-120b", messages=question)
    assert "gamma" in whole.choices[0].message.content, whole
    assert whole.usage.total_tokens > 0, whole

    begin, arrivals, text = time.monotonic(), [], ""
    for chunk in ai.chat.completions.create(model="gpt-oss-120b", messages=question, stream=True):
        arrivals.append(time.monotonic() - begin)
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert "gamma" in text, text
    assert len(arrivals) >= 5, arrivals
    # The model pauses between chunks; the first one must not have waited for the last.
    assert arrivals[0] < arrivals[-1] / 2, arrivals

    vectors = ai.embeddings.create(model="qwen3-embedding-4b", input=["one", "two"])
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) > 1, vectors
    assert any(model.id == "gpt-oss-120b" for model in ai.models.list()), "models"

    try:
        client("pm_wrong").chat.completions.create(model="gpt-oss-120b", messages=question)
    except openai.AuthenticationError as error:
        assert "Invalid or expired API key" in str(error), error
    else:
        raise AssertionError("a bad key was accepted")


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("ok")
