"""A second reader of sealed logs, written from docs/how-to/sealed-logs.md alone.

python3 second_reader.py FOLDER IDENTITY: checks every boot's chain and segments, prints OTLP/JSON lines. Uses the command
lines of age and zstd. Signatures are verified where the package `cryptography` is there. It does not judge evidence: that
the log is the attested group's, only a verifier of it can say.
"""

import base64, hashlib, json, pathlib, re, subprocess, sys

try:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
except ImportError:
    ec = None


def b64u(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sha256(data):
    return hashlib.sha256(data).digest()


def of_list(recipients):
    return sha256("".join(one + "\n" for one in recipients).encode())


def verify(key, compact):
    signed, signature = compact.rsplit(".", 1)
    r, s = (int.from_bytes(half, "big") for half in (b64u(signature)[:32], b64u(signature)[32:]))
    key.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))


def read_boot(folder, boot, identity):
    key = head = readers = None
    version = seq = 0
    stopped = False
    while (path := folder / f"{boot}-{seq:08}.jws").exists():
        compact = path.read_text()
        header, payload, _ = compact.split(".")
        assert json.loads(b64u(header)) == {"alg": "ES256", "typ": "privatemode-confidential-log+jws"}
        record = json.loads(b64u(payload))
        event, prev = record["event"], record["prev"]
        assert (record["v"], record["boot"], record["seq"]) == (1, boot, seq) and not stopped
        assert (prev and b64u(prev)) == head and (event["kind"] == "start") == (seq == 0)
        if event["kind"] == "start":
            readers = of_list(event["recipients"])
            if ec:
                key = serialization.load_der_public_key(b64u(record["identity"]["public_key"]))
        if event["kind"] == "recipients":
            word = json.loads(b64u(event["signed"].split(".")[1]))
            assert word["version"] > version
            version, readers = word["version"], of_list(word["recipients"])
        if key:
            verify(key, compact)
        assert b64u(record["recipients_sha256"]) == readers
        if event["kind"] == "segment":
            sealed = (folder / f"{boot}-{seq:08}.age").read_bytes()
            assert len(sealed) == event["bytes"] and sha256(sealed) == b64u(event["sha256"])
            packed = subprocess.run(["age", "-d", "-i", identity], input=sealed, stdout=-1, check=True).stdout
            lines = subprocess.run(["zstd", "-dc"], input=packed, stdout=-1, check=True).stdout
            sys.stdout.write(lines.decode())
        if event["kind"] == "loss":
            print("lost:", event, file=sys.stderr)
        head, seq, stopped = sha256(compact.encode()), seq + 1, event["kind"] == "stop"
    print(boot, "stopped" if stopped else "has an open end", file=sys.stderr)
    assert seq == len(list(folder.glob(f"{boot}-*.jws"))), "a record is missing"


if __name__ == "__main__":
    folder, identity = pathlib.Path(sys.argv[1]), sys.argv[2]
    names = (re.fullmatch(r"([0-9a-f]{32})-\d{8,}\.jws", path.name) for path in folder.iterdir())
    for boot in sorted({name[1] for name in names if name}):
        read_boot(folder, boot, identity)
