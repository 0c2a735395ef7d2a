#!/usr/bin/env python3
"""Writes wire.json: the byte vectors of our wire formats, computed here from the text of the contract and from
nothing else, so that every implementation is held against a second one.

    python3 attestation/vectors/wire.py > attestation/vectors/wire.json
"""
import base64
import hashlib
import json

P = b"privatemode-confidential"


def lp(x: bytes) -> bytes:
    return len(x).to_bytes(4, "big") + x


def label(purpose: bytes) -> bytes:
    return lp(P + b"/" + purpose + b"/v1")


def u64(n: int) -> bytes:
    return n.to_bytes(8, "big")


def sha256(x: bytes) -> bytes:
    return hashlib.sha256(x).digest()


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf)


def split(n: int) -> int:
    """The largest power of two smaller than n (RFC 9162, 2.1.1)."""
    return 1 << ((n - 1).bit_length() - 1)


def root(leaves) -> bytes:
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = split(len(leaves))
    return sha256(b"\1" + root(leaves[:k]) + root(leaves[k:]))


def path(m: int, leaves):
    """RFC 9162, 2.1.3.1: from the leaf upwards."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return path(m, leaves[:k]) + [root(leaves[k:])]
    return path(m - k, leaves[k:]) + [root(leaves[:k])]


def filled(byte: int, n: int = 32) -> bytes:
    return bytes([byte]) * n


def bindings():
    nonce, exporter, spki, cert, manifest = (filled(b) for b in (1, 2, 3, 4, 5))
    key, boot, recipients, key_id = b"public key", filled(6, 16), filled(7), filled(8)
    return {
        "tls-channel": {
            "fields": {"nonce": nonce, "exporter": exporter, "spki_sha256": spki,
                       "certificate_sha256": cert, "manifest_sha256": manifest},
            "leaf": label(b"tls-channel") + lp(nonce) + lp(exporter) + lp(spki) + lp(cert) + lp(manifest),
        },
        "client-channel": {
            "fields": {"nonce": nonce, "exporter": exporter, "server_spki_sha256": spki,
                       "key_id_sha256": key_id},
            "leaf": label(b"client-channel") + lp(nonce) + lp(exporter) + lp(spki) + lp(key_id),
        },
        "log-key": {
            "fields": {"public_key": key, "boot_id": boot, "recipients_sha256": recipients},
            "leaf": label(b"log-key") + lp(key) + lp(boot) + lp(recipients),
        },
    }


def trees():
    out = []
    for n in range(1, 10):
        leaves = [b"leaf %d" % i for i in range(n)]
        out.append({
            "leaves": leaves,
            "root": root(leaves),
            "paths": [path(i, leaves) for i in range(n)],
            "report_data": hashlib.sha512(label(b"batch") + lp(root(leaves))).digest(),
        })
    return out


def b64u(x):
    return base64.urlsafe_b64encode(x).rstrip(b"=").decode()


def secrets():
    """What the operator signs, and what the tag of the envelope covers beside the ciphertext."""
    signer, vault_key = b64u(filled(10)), b64u(filled(11))
    payload = '{"v":1,"version":7,"group":"production","values":{"API_KEYS":"a,b","STATE_KEY":"\\"ü\\\\"}}'
    inner = '{"alg":"ES256","kid":"%s"}' % signer
    outer = '{"alg":"RSA-OAEP-256","cty":"JOSE","enc":"A256GCM","kid":"%s"}' % vault_key
    return {
        "signer_kid": signer,
        "vault_kid": vault_key,
        "version": 7,
        "group": "production",
        "values": json.loads(payload)["values"],
        "signing_input": b64u(inner.encode()) + "." + b64u(payload.encode()),
        "aad": b64u(outer.encode()),
    }


def main():
    spki, not_after, manifest = filled(3), 1_800_000_000, b'{"v":1}'
    report_data = filled(9, 64)
    runtime = b'{"keys":[]}'
    doc = {
        "bindings": bindings(),
        "merkle": trees(),
        "tls-certificate": {
            "spki_sha256": spki,
            "not_after": not_after,
            "report_data": hashlib.sha512(label(b"tls-certificate") + lp(spki) + lp(u64(not_after))).digest(),
        },
        "maa": {"runtime_data": runtime, "report_data": sha256(runtime) + filled(0)},
        "owner": {
            "report_data": report_data,
            "manifest": manifest,
            "message": label(b"owner") + report_data + lp(sha256(manifest)),
        },
        "config": {
            "variables": {"UPSTREAM_URL": "http://127.0.0.1:8081", "PORT": "443"},
            "digest": sha256(lp(b"PORT") + lp(b"443") + lp(b"UPSTREAM_URL") + lp(b"http://127.0.0.1:8081")),
        },
    }
    doc["secrets"] = secrets()
    print(json.dumps(doc, indent=1, default=lambda b: b.hex()))


if __name__ == "__main__":
    main()
