//! F: forwarding.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::{
    Answer, Bench, Connection, K1, K2, Setup, UPSTREAM_KEY, chat, get, json, post, write,
};

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

/// A request with K1 to which nothing stands in the way, and its answer.
fn send(bench: &Bench, path: &str, headers: &str, body: &str) -> Answer {
    bench.send(post(path, &format!("{}{headers}", bearer(K1)), body))
}

#[test]
fn case_053_what_is_forwarded_and_with_whose_credential() {
    let bench = Bench::new();
    let body = r#"{"model":"gpt-oss-120b","messages":[{"role":"user","content":"hällo"}]}"#;
    let headers = format!("{}X-API-Key: {K2}\r\nX-Mine: 1\r\n", bearer(K1));
    let request = post("/v1/chat/completions?a=b&c=%20d", &headers, body);
    assert_eq!(bench.send(request).status, 200);
    let got = bench.upstream.last();
    assert_eq!(got.line, "POST /v1/chat/completions?a=b&c=%20d HTTP/1.1");
    assert_eq!(got.body, body.as_bytes());
    assert_eq!(got.all("authorization"), [format!("Bearer {UPSTREAM_KEY}")]);
    assert_eq!(got.all("x-api-key"), Vec::<&str>::new());
    assert_eq!(got.header("x-mine"), Some("1"));
    for method in ["PUT", "PATCH", "DELETE"] {
        let request = format!("{method} /v1/files/1 HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(K1));
        assert_eq!(bench.send(request).status, 200);
        assert_eq!(bench.upstream.last().line, format!("{method} /v1/files/1 HTTP/1.1"));
    }
}

#[test]
fn case_053_no_credential_of_the_upstream_is_none() {
    let bench = Setup::new().unset("PRIVATEMODE_API_KEY").start();
    assert_eq!(bench.chat(K1).status, 200);
    assert_eq!(bench.upstream.last().header("authorization"), None);
}

#[test]
fn case_054_headers_of_one_hop_stay_behind_both_ways() {
    let bench = Bench::new();
    bench.upstream.answers(json(
        200,
        "Connection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTrailer: X-T\r\nX-Kept: 1\r\n",
        "{}",
    ));
    let headers = "Connection: x-mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X-T\r\nProxy-Authorization: Basic x\r\nCookie: admin_session=secret\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.2.3.4\r\nX-Kept: 1\r\n";
    let answer = send(&bench, "/v1/chat/completions", headers, "{}");
    let got = bench.upstream.last();
    for name in [
        "x-mine",
        "keep-alive",
        "te",
        "trailer",
        "proxy-authorization",
        "cookie",
        "x-forwarded-for",
        "x-forwarded-proto",
        "forwarded",
    ] {
        assert_eq!(got.header(name), None, "{name}");
    }
    assert_eq!(got.header("x-kept"), Some("1"));
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "trailer"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-kept"), Some("1"));
    assert!(got.header("host").unwrap().starts_with("127.0.0.1:"), "the upstream's own name");
}

#[test]
fn case_055_status_and_body_pass_unchanged() {
    let bench = Bench::new();
    let error = r#"{"error":{"message":"the model is on fire"}}"#;
    bench.upstream.answers(json(500, "", error));
    let answer = bench.chat(K1);
    assert_eq!((answer.status, answer.text().as_str()), (500, error));
    bench.upstream.answers(json(429, "Retry-After: 7\r\n", "{}"));
    let answer = bench.chat(K1);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    bench.upstream.answers(json(302, "Location: http://elsewhere.example/\r\n", ""));
    let answer = bench.chat(K1);
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), Some("http://elsewhere.example/"));
    bench.upstream.answers("HTTP/1.1 204 No Content\r\n\r\n");
    let answer = bench.chat(K1);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
}

#[test]
fn case_056_an_upstream_that_is_not_there_or_breaks_off() {
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", refusing.local_addr().unwrap());
    drop(refusing);
    let answer = Bench::with(&[("UPSTREAM_URL", &url)]).chat(K1);
    assert_eq!((answer.status, answer.message().as_str()), (502, "Proxy error"));

    let bench = Bench::new();
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-", "no HTTP at all\r\n\r\n"] {
        bench.upstream.does(move |_, stream| {
            write(stream, beginning);
            false
        });
        let answer = bench.chat(K1);
        assert_eq!((answer.status, answer.message().as_str()), (502, "Proxy error"));
    }
    bench.upstream.does(|_, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":");
        false
    });
    let answer = bench.chat(K1);
    assert!(
        answer.status == 200 && !answer.whole,
        "half an answer is not given out as a whole one"
    );
}

#[test]
fn case_056_an_upstream_that_does_not_answer_in_time() {
    let bench = Bench::with(&[("UPSTREAM_FIRST_BYTE_TIMEOUT", "1")]);
    let (_keep, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    bench.upstream.does(move |_, _| wait.lock().unwrap().recv().is_ok());
    let answer = bench.chat(K1);
    assert_eq!((answer.status, answer.message().as_str()), (504, "Upstream timeout"));
    assert_eq!(bench.upstream.requests().len(), 1, "nothing is sent twice");
}

/// While the client has not sent all of it, it is not the upstream that is waited for.
#[test]
fn a_client_that_pauses_is_not_taken_for_the_upstream() {
    let bench = Bench::with(&[("UPSTREAM_FIRST_BYTE_TIMEOUT", "1")]);
    let body = format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(200_000));
    let request = post("/v1/chat/completions", &bearer(K1), &body);
    let (first, second) = request.split_at(150_000);
    let mut client = bench.connect();
    client.write(first);
    std::thread::sleep(Duration::from_millis(2500));
    client.write(second);
    assert_eq!(client.answer(false).status, 200);
}

/// An upstream may close a connection at any time; what it did with a request before that, nobody knows.
#[test]
fn nothing_is_sent_twice_to_an_upstream_that_closes() {
    let bench = Bench::new();
    let answered = AtomicUsize::new(0);
    bench.upstream.does(move |_, stream| {
        // The first on a connection is answered, the next one is not.
        answered.fetch_add(1, Ordering::SeqCst) == 0 && write(stream, json(200, "", "{}"))
    });
    assert_eq!(bench.chat(K1).status, 200);
    assert_eq!(bench.chat(K1).status, 502);
    assert_eq!(bench.upstream.requests().len(), 2);
}

/// A connection that was closed while nobody used it is no reason to fail.
#[test]
fn an_idle_connection_that_was_closed_costs_nothing() {
    let bench = Bench::new();
    bench.upstream.does(|_, stream| {
        write(stream, json(200, "", "{}"));
        false
    });
    for _ in 0..20 {
        assert_eq!(bench.chat(K1).status, 200);
        assert!(bench.upstream.is_left_alone_within(Duration::from_secs(5)));
    }
}

#[test]
fn an_upstream_that_pauses_within_its_answer_is_cut_off() {
    let bench = Bench::with(&[("UPSTREAM_IDLE_TIMEOUT", "1")]);
    let (_keep, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    bench.upstream.does(move |_, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":");
        wait.lock().unwrap().recv().is_ok()
    });
    let answer = bench.chat(K1);
    assert!(answer.status == 200 && !answer.whole);
}

#[test]
fn case_057_chunked_and_other_bodies_arrive() {
    let bench = Bench::new();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{}\r\n",
        bearer(K1)
    );
    let body = r#"{"model":"gpt-oss-120b","messages":[]}"#;
    let (first, second) = body.split_at(11);
    let chunks =
        format!("{:x}\r\n{first}\r\n{:x};x=y\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
    assert_eq!(bench.send(head + &chunks).status, 200);
    assert_eq!(bench.upstream.last().body, body.as_bytes());

    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend(b"\r\n\r\n");
    for path in ["/v1/chat/completions", "/v1/audio/speech", "/v1/audio/transcriptions"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n{}\r\n",
            bytes.len(),
            bearer(K1)
        );
        assert_eq!(bench.send([head.as_bytes(), &bytes].concat()).status, 200);
        assert_eq!(bench.upstream.last().body, bytes, "{path}");
    }
}

#[test]
fn case_058_json_that_is_no_object_arrives() {
    let bench = Bench::new();
    let deep = ["[".repeat(20_000), "]".repeat(20_000)].concat();
    let hidden = format!(r#"{{"model":"m","x":{deep}}}"#);
    for body in ["[1]", "\"x\"", "null", "{", "", &deep, &hidden] {
        assert_eq!(send(&bench, "/v1/chat/completions", "", body).status, 200, "{body:.20}");
        assert_eq!(bench.upstream.last().body, body.as_bytes());
    }
}

#[test]
fn case_059_odd_answers_pass_unchanged() {
    let bench = Bench::new();
    for body in [
        "[1,2]",
        r#"{"usage":null}"#,
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":null}}"#,
        r#"{"usage":[1]}"#,
        r#"{"usage":{"prompt_tokens":-1,"completion_tokens":1e999}}"#,
        r#"{"model":["x"],"usage":{"total_tokens":0.5}}"#,
        "not json",
        "",
    ] {
        bench.upstream.answers(json(200, "", body));
        let answer = send(&bench, "/v1/chat/completions", "", r#"{"model":["gpt-oss-120b"]}"#);
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    }
}

#[test]
fn case_060_061_compressed_bodies_arrive_as_they_are() {
    let bench = Bench::new();
    let gzip =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        gzip.len()
    );
    bench.upstream.answers([head.as_bytes(), gzip].concat());
    let answer = bench.chat(K1);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.body, gzip);
    assert_eq!(bench.upstream.last().header("accept-encoding"), None);

    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\nContent-Length: {}\r\n{}\r\n",
        gzip.len(),
        bearer(K1)
    );
    assert_eq!(bench.send([head.as_bytes(), gzip].concat()).status, 200);
    let got = bench.upstream.last();
    assert_eq!((got.body.as_slice(), got.header("content-encoding")), (&gzip[..], Some("gzip")));
    assert_eq!(got.header("accept-encoding"), None, "what is compressed cannot be metered");

    let request = get("/v1/files/1", &format!("{}Accept-Encoding: gzip, br\r\n", bearer(K1)));
    bench.send(request);
    assert_eq!(bench.upstream.last().header("accept-encoding"), Some("gzip, br"));
}

#[test]
fn case_062_cookies_are_nobody_elses_and_repeated_headers_survive() {
    let bench = Bench::new();
    let cookies = "Set-Cookie: upsess=SECRET-OF-A\r\nSet-Cookie: admin_session=forged; Path=/\r\nSet-Cookie: b=2\r\nX-Multi: 1\r\nX-Multi: 2\r\n";
    bench.upstream.answers(json(200, cookies, "{}"));
    let answer = bench.chat(K1);
    assert_eq!(answer.all("set-cookie"), ["upsess=SECRET-OF-A", "b=2"]);
    assert_eq!(answer.all("x-multi"), ["1", "2"]);
    bench.send(chat(&format!("{}X-Multi: a\r\nX-Multi: b\r\n", bearer(K2))));
    let got = bench.upstream.last();
    assert_eq!(got.header("cookie"), None);
    assert_eq!(got.all("x-multi"), ["a", "b"]);
}

#[test]
fn case_063_long_bodies_arrive_and_longer_ones_are_refused() {
    let bench = Bench::with(&[("PROXY_MAX_BODY", "31457280")]);
    let long = format!(r#"{{"model":"m","messages":["{}"]}}"#, "x".repeat(26_000_000));
    assert_eq!(send(&bench, "/v1/chat/completions", "", &long).status, 200);
    let got = bench.upstream.last();
    assert!(got.body == long.as_bytes());

    let streamed = long.replacen('{', r#"{"stream":true,"#, 1);
    assert_eq!(send(&bench, "/v1/chat/completions", "", &streamed).status, 200);
    let got = bench.upstream.last();
    assert_eq!(got.header("transfer-encoding"), Some("chunked"));
    let asked =
        [streamed.trim_end_matches('}'), r#","stream_options":{"include_usage":true}}"#].concat();
    assert!(got.body == asked.as_bytes());
    let before = bench.upstream.requests().len();

    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 31457281\r\n{}\r\n",
        bearer(K1)
    );
    let answer = bench.send(head);
    assert_eq!(answer.status, 413);
    assert!(answer.message().contains("31457280"));
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    assert_eq!(bench.upstream.requests().len(), before);
}

#[test]
fn case_063_a_chunked_body_is_refused_when_it_becomes_too_long() {
    let bench = Bench::with(&[("PROXY_MAX_BODY", "1000000")]);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{}\r\n",
        bearer(K1)
    );
    let chunk = format!("{:x}\r\n{}\r\n", 50_000, "x".repeat(50_000));
    let mut client = bench.connect();
    client.write(head);
    for _ in 0..21 {
        client.write(&chunk);
    }
    assert_eq!(client.answer(false).status, 413);
    assert!(bench.upstream.requests().is_empty(), "it never reached its end");
}

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

const STREAM: &str = r#"{"model":"gpt-oss-120b","stream":true,"messages":[]}"#;

#[test]
fn case_064_events_reach_the_client_while_the_upstream_still_sends() {
    let bench = Bench::new();
    let (next, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    bench.upstream.does(move |_, stream| {
        write(stream, STREAM_HEAD);
        // The next event is sent when the client has the one before.
        while wait.lock().unwrap().recv().is_ok() {
            write(stream, chunk(EVENT));
        }
        write(stream, "0\r\n\r\n")
    });
    let mut client = bench.connect();
    client.write(post("/v1/chat/completions", &bearer(K1), STREAM));
    next.send(()).unwrap();
    let head = client.head();
    assert_eq!((head.status, head.header("content-length")), (200, None));
    for _ in 0..20 {
        let piece = client.chunk().unwrap();
        assert!(piece.starts_with(EVENT.as_bytes()));
        next.send(()).unwrap();
    }
    drop(next);
}

#[test]
fn case_065_a_client_that_goes_takes_the_upstream_along() {
    let bench = Bench::new();
    bench.upstream.does(|_, stream| {
        write(stream, STREAM_HEAD);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(20) && write(stream, chunk(EVENT)) {
            let _ = stream.flush();
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    });
    let mut client = bench.connect();
    client.write(post("/v1/chat/completions", &bearer(K1), STREAM));
    assert_eq!(client.head().status, 200);
    assert!(client.chunk().is_some());
    drop(client);
    assert!(bench.upstream.is_left_alone_within(Duration::from_secs(5)));

    // And before the answer begins.
    let (_keep, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let arrived = Arc::new(AtomicUsize::new(0));
    let arrives = arrived.clone();
    bench.upstream.does(move |_, stream| {
        arrives.fetch_add(1, Ordering::SeqCst);
        let _ = wait.lock().unwrap().try_recv();
        // Reading finds the end of the connection.
        let mut byte = [0];
        std::io::Read::read(stream, &mut byte).is_ok_and(|read| read > 0)
    });
    let mut client = bench.connect();
    client.write(chat(&bearer(K1)));
    let begin = Instant::now();
    while arrived.load(Ordering::SeqCst) == 0 && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    assert!(bench.upstream.is_left_alone_within(Duration::from_secs(5)));
}

#[test]
fn case_066_no_request_waits_for_another() {
    let bench = Setup::new().file("settings.json", r#"{"rate_limit_requests":1000}"#).start();
    // Nobody is answered before all are there.
    let together = Arc::new(std::sync::Barrier::new(250));
    bench.upstream.does(move |_, stream| {
        together.wait();
        write(stream, json(200, "", "{}"))
    });
    let mut clients: Vec<Connection> = (0..250).map(|_| bench.connect()).collect();
    for client in &mut clients {
        client.write(chat(&bearer(K1)));
    }
    for client in &mut clients {
        assert_eq!(client.answer(false).status, 200);
    }
}

#[test]
fn case_067_paths_go_on_byte_for_byte() {
    let bench = Bench::new();
    for path in
        ["/v1/files/a%2Fb", "/v1/models%3Fx=1", "/v1/./x/../y", "//v1//x", "/v1/x?a=%2F&b=..%2f&&c"]
    {
        assert_eq!(bench.send(get(path, &bearer(K1))).status, 200, "{path}");
        assert_eq!(bench.upstream.last().path(), path);
    }
}

#[test]
fn case_068_nothing_reaches_the_upstream_without_a_key() {
    let bench = Bench::new();
    for (method, path) in [
        ("POST", "/admin/../v1/chat/completions"),
        ("POST", "/admin/%2e%2e/v1/chat/completions"),
        ("POST", "/admin/..%2fv1/chat/completions"),
        ("GET", "/admin/../../v1/models"),
        ("POST", "/adminx"),
        ("POST", "/admin"),
        ("POST", "/admin/"),
        ("GET", "/admin/nope"),
        ("PUT", "/health"),
        ("POST", "/health/../v1/chat/completions"),
        ("POST", "/v1/chat/completions"),
    ] {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}");
        let status = bench.send(request).status;
        assert!([302, 401, 403, 404, 405].contains(&status), "{method} {path}: {status}");
    }
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_069_070_framing_errors_reach_nobody_and_are_not_repeated() {
    let bench = Bench::new();
    let secret = "pm_secret-of-a-framing-error";
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 5, 6\r\n",
        "X Y: 1\r\nContent-Length: 5\r\n",
    ] {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret}\r\n{headers}\r\n{secret}"
        );
        let answer = bench.send(request);
        assert!([400, 401].contains(&answer.status), "{headers}: {}", answer.status);
        assert!(!answer.text().contains(secret));
    }
    let bad_chunk = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n{}Transfer-Encoding: chunked\r\n\r\nSECRETPROMPT\r\n",
        bearer(K1)
    );
    let answer = bench.send(bad_chunk);
    assert_eq!(answer.status, 400);
    assert!(!answer.text().contains("SECRETPROMPT"));
    assert!(bench.upstream.requests().is_empty());
    let written = bench.process.written();
    assert!(!written.contains(secret) && !written.contains("SECRETPROMPT"));
}

#[test]
fn case_069_what_others_could_read_differently_is_refused() {
    let bench = Bench::new();
    let long = "x".repeat(8300);
    for (path, headers) in [
        ("/v1/x", "Transfer-Encoding: chunked, chunked\r\n"),
        ("/v1/x", "Transfer-Encoding: gzip, chunked\r\n"),
        ("/v1/x", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("/v1/\u{e4}", ""),
        (long.as_str(), ""),
        ("/v1/x", &format!("X-Long: {long}\r\n")),
    ] {
        let path = path.trim_start_matches('/');
        let head =
            format!("POST /{path} HTTP/1.1\r\nHost: h\r\n{}{headers}\r\n0\r\n\r\n", bearer(K1));
        let answer = bench.send(head);
        assert_eq!(answer.status, 400, "{headers:.40}");
        assert_eq!(answer.json()["error"]["code"], "malformed_request");
    }
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_069_targets() {
    let bench = Bench::new();
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(K1));
    assert_eq!(bench.send(request("OPTIONS *")).status, 404);
    assert_eq!(bench.send(request("CONNECT h:443")).status, 404);
    assert!(bench.upstream.requests().is_empty());
    assert_eq!(bench.send(request("GET http://elsewhere.example:1/v1/models?x")).status, 200);
    assert_eq!(bench.upstream.last().path(), "/v1/models?x");
    let without_host = format!("GET /v1/models HTTP/1.1\r\n{}\r\n", bearer(K1));
    assert_eq!(bench.send(without_host).status, 200);
}

#[test]
fn case_071_expectations_are_met_here() {
    let bench = Bench::new();
    let body = r#"{"model":"gpt-oss-120b","messages":[]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n{}\r\n",
        body.len(),
        bearer(K1)
    );
    let mut client = bench.connect();
    client.write(head);
    assert_eq!(client.interim().status, 100);
    client.write(body);
    assert_eq!(client.answer(false).status, 200);
    let got = bench.upstream.last();
    assert_eq!((got.header("expect"), got.body.as_slice()), (None, body.as_bytes()));
}

#[test]
fn no_connection_becomes_a_tunnel() {
    let bench = Bench::new();
    let headers = format!(
        "{}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        bearer(K1)
    );
    let answer = bench.send(get("/v1/realtime", &headers));
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["code"], "upgrade_not_supported");
    assert!(bench.upstream.requests().is_empty());
    // An offer that may be ignored is.
    let headers = format!(
        "{}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        bearer(K1)
    );
    assert_eq!(bench.send(chat(&headers)).status, 200);
    let got = bench.upstream.last();
    assert_eq!((got.header("upgrade"), got.header("http2-settings")), (None, None));
}
