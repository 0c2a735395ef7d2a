//! Metrics, as an operator's Prometheus reads them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::support::{Bench, K1, K2, Setup, chat, get, post};

fn shown(bench: &Bench, path: &str) -> String {
    let mut stream = UnixStream::connect(bench.path("metrics.sock")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn start() -> Bench {
    let setup = Setup::new();
    let socket = format!("unix:{}", setup.path("metrics.sock"));
    setup.set("PROXY_METRICS_LISTEN", &socket).start()
}

#[test]
fn what_happened_is_counted() {
    let bench = start();
    bench.send(get("/health", ""));
    for _ in 0..6 {
        bench.chat(K2);
    }
    bench.chat("bad");
    bench.upstream.does(|_, _| false);
    bench.chat(K1);
    let text = shown(&bench, "/metrics");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        r#"http_server_request_duration_seconds_count{http_route="/health",status="2xx"} 1"#,
        r#"http_server_request_duration_seconds_count{http_route="upstream",status="2xx"} 5"#,
        r#"proxy_limits_exceeded_total{limit="key"} 1"#,
        r#"proxy_upstream_errors_total{error_type="unreachable"} 1"#,
        r#"gen_ai_server_time_to_first_token_seconds_count{gen_ai_operation_name="chat",status="2xx"} 5"#,
        r#"gen_ai_server_request_duration_seconds_count{gen_ai_operation_name="chat",status="2xx"} 5"#,
        "proxy_answers_in_flight 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(shown(&bench, "/").starts_with("HTTP/1.1 404"));
}

/// Whatever a client sends, nothing of it is read there, and no series is made of it.
#[test]
fn nothing_of_a_request_is_shown() {
    let bench = start();
    bench.chat(K1);
    let lines = shown(&bench, "/metrics").lines().count();
    for n in 0..20 {
        let key = format!("X-API-Key: {K1}\r\nX-Canary: CANARY{n}\r\n");
        let body = format!(r#"{{"model":"CANARY{n}","messages":[{{"content":"CANARY{n}"}}]}}"#);
        bench.send(post("/v1/chat/completions", &key, &body));
        bench.send(get(&format!("/v1/CANARY{n}"), &key));
        bench.send(format!("CANARY{n} /v1/x HTTP/1.1\r\nHost: CANARY{n}\r\n{key}\r\n"));
        bench.send(chat(&format!("Authorization: Bearer CANARY{n}\r\n")));
    }
    let text = shown(&bench, "/metrics");
    assert!(
        !text.contains("CANARY") && !text.contains("test_key_1") && !text.contains("127.0.0.1")
    );
    assert!(text.lines().count() < lines + 150, "{text}");
}
