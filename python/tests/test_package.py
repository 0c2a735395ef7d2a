"""What is this package's own: what it refuses and how it says so, what it never does, and how it shares a process.

Needs a running group: URL, API_KEY, POLICY (a policy file that accepts it) and ANCHORS (its roots) in the environment.
"""

import ast
import asyncio
import contextlib
import importlib
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import unittest
import unittest.mock
import urllib.parse
import warnings

import httpx2
import openai
import others
import websockets

import privatemode_confidential as pc

URL, KEY, POLICY = os.environ["URL"], os.environ["API_KEY"], os.environ["POLICY"]
with open(os.environ["ANCHORS"]) as file:
    ANCHORS = file.read()

NOBODY = f'host_data = ["{"00" * 32}"]'
CHAT = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "alpha beta gamma"}]}
BEARER = {"Authorization": f"Bearer {KEY}"}


#: While it is a list: what Python's own sockets do. Those of the native half are none of Python's.
dialled = None


def _watch(event, arguments):
    if dialled is not None and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        dialled.append((event, arguments[1:] if event == "socket.connect" else arguments))


sys.addaudithook(_watch)


@contextlib.contextmanager
def watched():
    """Says what Python dials, or looks up, meanwhile."""
    global dialled
    dialled = seen = []
    try:
        yield seen
    finally:
        dialled = None


class Counting(pc.Transport):
    """Counts what is asked of it."""

    calls = 0

    def handle_request(self, request):
        self.calls += 1
        return super().handle_request(request)


def client(**options):
    return pc.client(URL, **{"policy": POLICY, "danger_anchors_pem": ANCHORS, "headers": BEARER, **options})


def refusing(**options):
    return pc.client(URL, **{"policy_text": NOBODY, "danger_anchors_pem": ANCHORS, **options})


class Refusals(unittest.TestCase):
    def test_another_group_is_refused_and_the_check_is_named(self):
        with self.assertRaises(pc.Refused) as raised:
            refusing().post(f"{URL}/v1/chat/completions", json=CHAT)
        self.assertEqual(raised.exception.check, "P9")
        self.assertIn("P9", str(raised.exception))
        failed = [check["id"] for check in raised.exception.checks if check["outcome"] == "failed"]
        self.assertEqual(failed, ["P9"])

    def test_another_group_is_refused_with_asyncio(self):
        async def ask():
            async with pc.async_client(URL, policy_text=NOBODY, danger_anchors_pem=ANCHORS) as group:
                await group.get(f"{URL}/v1/models")

        with self.assertRaises(pc.Refused) as raised:
            asyncio.run(ask())
        self.assertEqual(raised.exception.check, "P9")

    def test_production_anchors_refuse_simulated_hardware(self):
        with self.assertRaises(pc.Refused) as raised:
            pc.Transport(URL, policy=POLICY).verify()
        self.assertEqual(raised.exception.check, "C1")

    def test_openai_does_not_take_a_refusal_for_a_bad_network(self):
        transport = Counting(URL, policy_text=NOBODY, danger_anchors_pem=ANCHORS)
        ai = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, http_client=httpx2.Client(transport=transport))
        self.assertGreater(ai.max_retries, 0)
        with self.assertRaises(pc.Refused):
            ai.chat.completions.create(**CHAT)
        self.assertEqual(transport.calls, 1)

    def test_a_verdict_is_of_now(self):
        group = urllib.parse.urlsplit(URL)
        with others.Relay(group.hostname, group.port) as relay:
            transport = pc.Transport(relay.url, policy=POLICY, danger_anchors_pem=ANCHORS)
            first = transport.verify()
            # Somebody else takes the server's place.
            relay.group = None
            for _ in range(2):
                with self.assertRaises(pc.NotProved):
                    transport.verify()
            relay.group = (group.hostname, group.port)
            again = asyncio.run(self.verdict_with_asyncio(relay.url))
            self.assertEqual([first["verdict"], again["verdict"]], ["accepted", "accepted"])
            self.assertGreaterEqual(transport.verify()["at"], first["at"])

    @staticmethod
    async def verdict_with_asyncio(url):
        return await pc.AsyncTransport(url, policy=POLICY, danger_anchors_pem=ANCHORS).verify()

    def test_a_server_that_does_not_prove_itself_is_not_proved(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def speak_no_tls():
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    connection.recv(65536)

            impostor = threading.Thread(target=speak_no_tls)
            impostor.start()
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            with self.assertRaises(pc.NotProved) as raised:
                pc.Transport(url, policy=POLICY).verify()
            impostor.join()
        self.assertIsNone(raised.exception.check)

    def test_nobody_there_is_the_networks_error(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with self.assertRaises(httpx2.ConnectError):
            pc.client(url, policy=POLICY).get(f"{url}/v1/models")

    def test_who_waits_for_one_attempt_fails_with_it(self):
        async def ask(url):
            async with pc.async_client(url, policy=POLICY) as group:
                asked = [group.get(f"{url}/v1/models") for _ in range(16)]
                failed = await asyncio.gather(*asked, return_exceptions=True)
                # It is over for these alone: who comes later has an attempt of his own, and this one is hung up on.
                with self.assertRaises(httpx2.ConnectError):
                    await group.get(f"{url}/v1/models")
            return failed

        with others.Silent() as silent:
            failed = asyncio.run(ask(silent.url))
            accepted = silent.accepted
        self.assertEqual([type(error) for error in failed], [httpx2.ConnectTimeout] * 16)
        self.assertEqual(accepted, 2)

    def test_who_stops_waiting_ends_nobody_elses_attempt(self):
        group = urllib.parse.urlsplit(URL)
        with others.Relay(group.hostname, group.port, held=True) as relay:
            native = importlib.import_module("privatemode_confidential._native")
            server = native.Server(relay.url, pathlib.Path(POLICY).read_text(), ANCHORS)
            first, second = server.verify(), server.verify()
            self.assertTrue(relay.reached.wait(60))
            first.stop()
            relay.let_go.set()
            self.assertEqual(json.loads(second.wait(60))["verdict"], "accepted")
            # The attempt, and the proof of its own that was asked for.
            self.assertEqual(relay.accepted, 2)

    def test_no_other_server_is_asked(self):
        ai = openai.OpenAI(base_url="https://elsewhere.example/v1", api_key=KEY, http_client=client())
        with self.assertRaises(pc.OtherServer):
            ai.models.list()
        for url in ["http" + URL.removeprefix("https"), "https://elsewhere.example", "https://127.0.0.1:1"]:
            with self.assertRaises(pc.OtherServer):
                client().get(f"{url}/v1/models")


def websockets_of(ai):
    """Every way in which the openai package opens a WebSocket."""
    return {
        "responses": ai.responses.connect(),
        "realtime": ai.realtime.connect(model="m"),
        "translations": ai.realtime.translations.connect(model="m"),
        "live": ai.live.connect(),
        "forks": ai.live.forks.connect(session_id="s"),
        "sideband": ai.live.sideband.connect(session_id="s"),
        "beta.responses": ai.beta.responses.connect(),
        "beta.realtime": ai.beta.realtime.connect(model="m"),
    }


def ready(make, **options):
    return make(URL, **{"policy": POLICY, "danger_anchors_pem": ANCHORS, "api_key": KEY, **options})


class OpenAI(unittest.TestCase):
    def test_what_python_dials_is_seen(self):
        # Without this the tests below could not fail.
        ai = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, http_client=client())
        for name, socket_to_be in websockets_of(ai).items():
            with self.subTest(name), watched() as seen, self.assertRaises(OSError):
                socket_to_be.enter()
            self.assertIn("socket.connect", [event for event, _ in seen])

    def test_no_websocket_goes_around_the_transport(self):
        for ai in [ready(pc.openai), ready(pc.openai).with_options(timeout=7)]:
            for name, socket_to_be in websockets_of(ai).items():
                with self.subTest(name), watched() as seen, self.assertRaises(websockets.InvalidURI) as raised:
                    socket_to_be.enter()
                self.assertEqual(seen, [])
                self.assertIn("attested-connections-only", str(raised.exception))

    def test_no_websocket_goes_around_the_transport_with_asyncio(self):
        async def enter(socket_to_be):
            await socket_to_be.enter()

        for name, socket_to_be in websockets_of(ready(pc.async_openai)).items():
            with self.subTest(name), watched() as seen, self.assertRaises(websockets.InvalidURI):
                asyncio.run(enter(socket_to_be))
            self.assertEqual(seen, [])

    def test_python_opens_no_connection(self):
        async def ask():
            return await ready(pc.async_openai).chat.completions.create(**CHAT)

        with watched() as seen:
            answers = [ready(pc.openai).chat.completions.create(**CHAT), asyncio.run(ask())]
        self.assertEqual(seen, [])
        for answer in answers:
            self.assertIn("gamma", answer.choices[0].message.content)

    def test_options_that_choose_a_connection_are_refused(self):
        for name in [
            "base_url",
            "data_residency",
            "http_client",
            "provider",
            "websocket_base_url",
            "workload_identity",
        ]:
            for make in [pc.openai, pc.async_openai]:
                with self.assertRaises(TypeError) as raised:
                    ready(make, **{name: None})
                self.assertIn(name, str(raised.exception))

    def test_without_the_openai_package_it_says_what_to_install(self):
        with unittest.mock.patch.dict(sys.modules, {"openai": None}):
            for make in [pc.openai, pc.async_openai]:
                with self.assertRaisesRegex(ImportError, "pip install"):
                    ready(make)


class Arguments(unittest.TestCase):
    def test_there_is_no_way_around_the_transport(self):
        for name in ["transport", "mounts", "proxy", "verify", "cert", "trust_env", "http1", "limits"]:
            for make in [pc.client, pc.async_client]:
                with self.assertRaises(TypeError) as raised:
                    make(URL, policy=POLICY, **{name: None})
                self.assertIn(name, str(raised.exception))

    def test_a_proxy_of_the_environment_is_not_used(self):
        os.environ["HTTPS_PROXY"] = "http://127.0.0.1:1"
        try:
            self.assertEqual(client().get(f"{URL}/v1/models").status_code, 200)
        finally:
            del os.environ["HTTPS_PROXY"]

    def test_somebody_must_be_accepted(self):
        with self.assertRaises(TypeError):
            pc.Transport(URL)
        with self.assertRaises(TypeError):
            pc.Transport(URL, policy=POLICY, policy_text=NOBODY)

    def test_what_cannot_be_read_is_said(self):
        for options, said in [
            ({"policy_text": "hostdata = []"}, "hostdata"),
            ({"policy_text": '{"host_data": [], "host_data": []}'}, "twice"),
            ({"policy_text": NOBODY, "danger_anchors_pem": "junk"}, "danger_anchors_pem"),
        ]:
            with self.assertRaises(ValueError) as raised:
                pc.Transport(URL, **options)
            self.assertIn(said, str(raised.exception))
        with self.assertRaises(FileNotFoundError):
            pc.Transport(URL, policy="/nowhere/policy.toml")
        with self.assertRaisesRegex(ValueError, "longer"):
            pc.Transport(URL, policy="/dev/zero")
        for url in ["http://a.example", "https://a.example/v1", "a.example", "https://u@a.example"]:
            with self.assertRaises(ValueError):
                pc.Transport(url, policy=POLICY)


class Surface(unittest.TestCase):
    def test_the_stub_says_what_the_native_half_has(self):
        native = importlib.import_module("privatemode_confidential._native")
        stub = pathlib.Path(pc.__file__).with_name("_native.pyi").read_text()
        said = {
            node.name: {part.name for part in node.body if isinstance(part, ast.FunctionDef)} - {"__new__"}
            for node in ast.parse(stub).body
            if isinstance(node, ast.ClassDef)
        }
        there = {
            name: {part for part in vars(kind) if not part.startswith("__")}
            for name, kind in vars(native).items()
            if isinstance(kind, type)
        }
        self.assertEqual(said, there)

    def test_roots_that_are_not_production_are_announced(self):
        with self.assertWarnsRegex(UserWarning, "NOT PRODUCTION"):
            pc.Transport(URL, policy=POLICY, danger_anchors_pem=ANCHORS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pc.Transport(URL, policy=POLICY)


class Bodies(unittest.TestCase):
    def test_a_verdict_shows_every_check(self):
        transport = pc.Transport(URL, policy=POLICY, danger_anchors_pem=ANCHORS)
        verdict = transport.verify()
        self.assertEqual((verdict["verdict"], verdict["anchors"]), ("accepted", "NOT PRODUCTION"))
        self.assertEqual(verdict["manifest"]["service"], "privatemode-confidential")
        members = ["anchors", "at", "checks", "endpoint", "manifest", "taken_at", "verdict"]
        self.assertEqual(sorted(verdict), members)
        self.assertEqual(verdict["endpoint"], URL)
        self.assertIn("B3", [check["id"] for check in verdict["checks"]])
        self.assertEqual(transport.url, URL)

    def test_a_body_of_unknown_length_goes_out_in_pieces(self):
        pieces = (piece.encode() for piece in json.dumps(CHAT))
        answer = client().post(f"{URL}/v1/chat/completions", content=pieces)
        self.assertIn("gamma", answer.json()["choices"][0]["message"]["content"])
        self.assertEqual(answer.http_version, "HTTP/2")

    def test_a_body_that_is_given_up_is_never_whole(self):
        def pieces():
            # The server reads what is short before it asks the model.
            yield json.dumps(CHAT).encode() + b" " * 200_000
            # Whoever runs this goes on when the model has seen the beginning, and asks it for the end.
            print("begun given-up-body", flush=True)
            sys.stdin.readline()
            raise KeyError("changed its mind")

        with self.assertRaises(KeyError):
            client().post(f"{URL}/v1/chat/completions?given-up-body", content=pieces())

    def test_a_body_whose_feeder_is_gone_does_not_end_well(self):
        native = importlib.import_module("privatemode_confidential._native")
        server = native.Server(URL, pathlib.Path(POLICY).read_text(), ANCHORS)
        headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
        call = server.begin("POST", f"{URL}/v1/chat/completions", headers, True)
        self.assertTrue(call.push(json.dumps(CHAT).encode()).wait())
        answer = call.answer
        del call
        with self.assertRaises(native.Failure) as raised:
            answer.wait(60)
        self.assertEqual(raised.exception.args[0], "broken_off")

    def test_a_long_upload_is_never_held(self):
        megabytes = 45

        def form():
            yield b"--edge\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper-large-v3\r\n"
            yield b"--edge\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n"
            for _ in range(megabytes):
                yield bytes(1024 * 1024)
            yield b"\r\n--edge--\r\n"

        with client(headers={**BEARER, "Content-Type": "multipart/form-data; boundary=edge"}) as group:
            group.get(f"{URL}/v1/models")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer = group.post(f"{URL}/v1/audio/transcriptions", content=form())
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.assertIn(f"{megabytes * 1024 * 1024} bytes", answer.text)
        # Kibibytes: a part of what went through.
        self.assertLess(after - before, megabytes * 1024 / 4)

    def test_an_answer_that_comes_early_ends_the_upload(self):
        sent = 0

        def endless():
            nonlocal sent
            while True:
                sent += 1
                yield bytes(65536)

        with client(headers={}) as group:
            # Nobody without a key gets anything read.
            answer = group.post(f"{URL}/v1/chat/completions", content=endless())
        self.assertEqual(answer.status_code, 401)
        self.assertGreater(sent, 0)

    def test_a_read_that_takes_too_long_is_the_networks_error(self):
        words = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "word " * 2000}]}
        with client(timeout=httpx2.Timeout(60, read=0.001)) as group, self.assertRaises(httpx2.ReadTimeout):
            group.post(f"{URL}/v1/chat/completions", json=words)

    def test_a_timeout_without_end_is_none(self):
        async def ask(seconds):
            async with ready(pc.async_openai, timeout=seconds) as ai:
                return await ai.chat.completions.create(**CHAT)

        for seconds in [float("inf"), 1e300, None]:
            with client(timeout=seconds) as group:
                self.assertEqual(group.post(f"{URL}/v1/chat/completions", json=CHAT).status_code, 200)
            self.assertIn("gamma", asyncio.run(ask(seconds)).choices[0].message.content)

    def test_a_timeout_that_is_no_time_ends_at_once(self):
        for seconds in [0.0, -1.0, float("nan")]:
            with client(timeout=seconds) as group, self.assertRaises(httpx2.TimeoutException):
                group.post(f"{URL}/v1/chat/completions", json=CHAT)

    def test_an_answer_that_is_closed_does_not_look_whole_to_who_reads_it(self):
        native = importlib.import_module("privatemode_confidential._native")
        server = native.Server(URL, pathlib.Path(POLICY).read_text(), ANCHORS)
        headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
        call = server.begin("POST", f"{URL}/v1/chat/completions", headers, True)
        call.push(json.dumps({**CHAT, "stream": True}).encode()).wait()
        call.finish().wait()
        answer = call.answer.wait(60)
        self.assertTrue(answer.read().wait(60))
        answer.close()
        with self.assertRaises(native.Failure) as raised:
            while answer.read().wait(60) is not None:
                pass
        self.assertEqual(raised.exception.args[0], "stopped")

    def test_an_answer_that_is_closed_while_a_read_is_being_stopped_is_given_up(self):
        native = importlib.import_module("privatemode_confidential._native")
        server = native.Server(URL, pathlib.Path(POLICY).read_text(), ANCHORS)
        headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
        kept = []
        for number in range(5):
            words = [{"role": "user", "content": f"given-up-read-{number} " + "word " * 2000}]
            call = server.begin("POST", f"{URL}/v1/chat/completions", headers, True)
            call.push(json.dumps({**CHAT, "stream": True, "messages": words}).encode()).wait()
            call.finish().wait()
            answer = call.answer.wait(60)
            self.assertTrue(answer.read().wait(60))
            reading = answer.read()
            with contextlib.suppress(TimeoutError):
                # Until somebody does read: the model pauses between pieces.
                while True:
                    reading.wait(0.01)
                    reading = answer.read()
            reading.stop()
            answer.close()
            # Nothing is given back by being forgotten.
            kept.append(answer)
            print(f"gone given-up-read-{number}", flush=True)
            sys.stdin.readline()


@unittest.skipUnless("MODEL_BREAKS_OFF" in os.environ, "a model that does is not here")
class BrokenOff(unittest.TestCase):
    def test_an_answer_that_breaks_off_does_not_look_whole(self):
        question = {**CHAT, "messages": [{"role": "user", "content": "word " * 100}]}
        with client() as group, group.stream("POST", f"{URL}/v1/chat/completions", json=question) as answer:
            self.assertEqual(answer.status_code, 200)
            with self.assertRaises(httpx2.RemoteProtocolError):
                answer.read()


class Process(unittest.TestCase):
    def test_a_forked_process_makes_connections_of_its_own(self):
        group = client()
        self.assertEqual(group.get(f"{URL}/v1/models").status_code, 200)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if group.get(f"{URL}/v1/models").status_code == 200 else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual(group.get(f"{URL}/v1/models").status_code, 200)

    def test_a_waiting_thread_hears_of_signals_and_lets_others_run(self):
        # A shell starts what runs behind it without.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))

        def interrupt():
            # Runs only if whoever waits does not hold the interpreter.
            os.kill(os.getpid(), signal.SIGINT)

        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            transport = pc.Transport(url, policy=POLICY)

            def once_it_waits():
                connection, _ = silent.accept()
                interrupt()
                connection.close()

            thread = threading.Thread(target=once_it_waits)
            thread.start()
            with self.assertRaises(KeyboardInterrupt):
                transport.verify()
            thread.join()

    def test_a_cancellation_is_not_lost_to_an_outcome_of_the_same_moment(self):
        transport = importlib.import_module("privatemode_confidential._transport")

        class Done:
            def when_done(self, callback):
                callback()

            def result(self):
                return None

            def stop(self):
                pass

        async def cancel_in_that_moment():
            task = asyncio.create_task(transport._awaited(Done(), 60, httpx2.ReadTimeout))
            await asyncio.sleep(0)
            # The loop hears of the outcome first, and of the cancellation before the task goes on.
            asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.gather(task, return_exceptions=True)
            return task.cancelled()

        self.assertTrue(asyncio.run(cancel_in_that_moment()))

    def test_a_program_may_end_while_answers_stream(self):
        program = pathlib.Path(__file__).with_name("ends_early.py")
        # It went wrong once in some runs, when a thread met the interpreter on its way out.
        for way in ["threads"] * 3 + ["tasks"] * 12:
            ended = subprocess.run(
                [sys.executable, "-W", "ignore", program, way], timeout=60, capture_output=True, check=False
            )
            self.assertEqual((way, ended.returncode, ended.stderr), (way, 0, b""))

    def test_one_client_serves_one_loop_after_the_other(self):
        group = pc.async_client(URL, policy=POLICY, danger_anchors_pem=ANCHORS, headers=BEARER)

        async def ask():
            return (await group.get(f"{URL}/v1/models")).status_code

        self.assertEqual([asyncio.run(ask()) for _ in range(2)], [200, 200])


if __name__ == "__main__":
    unittest.main()
