//! Eight thousand connections at once, and what the proxy takes of the system for them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::memory::resident;
use crate::{serves_others, setup};

const CONNECTIONS: usize = 8000;

/// Threads that open them, each from an address of its own: the proxy has a bound for each address.
const THREADS: usize = 16;

/// How long an answer may take, on a machine that does other work.
const ANSWER: Duration = Duration::from_secs(60);

/// What an open connection may hold, in KiB.
const EACH: u64 = 48;

/// A connection from the `n`th address of this machine.
fn from(n: usize, port: u16) -> std::net::TcpStream {
    let own = Ipv4Addr::new(127, 0, 1, u8::try_from(n + 1).unwrap());
    let made = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&made, &SocketAddr::new(own.into(), 0)).unwrap();
    connect(&made, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
    let made = std::net::TcpStream::from(made);
    made.set_read_timeout(Some(ANSWER)).unwrap();
    made
}

/// As many connections from that address, each of which was answered.
fn open_and_ask(n: usize, port: u16, number: usize) -> Vec<std::net::TcpStream> {
    let open_one = |_| {
        let mut stream = from(n, port);
        ask(&mut stream);
        stream
    };
    (0..number).map(open_one).collect()
}

fn ask(stream: &mut std::net::TcpStream) {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = [0; 2048];
    let length = stream.read(&mut answer).unwrap();
    let answer = &answer[..length];
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
}

fn hard_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Lets this process open as many as the system lets it, less `fewer`.
fn set_soft_limit(fewer: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum.map(|most| most - fewer);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn the_process_opens_as_many_files_as_the_system_lets_it() {
    let Some(hard) = hard_limit() else {
        println!("skipped: this system has no bound for open files");
        return;
    };
    set_soft_limit(1);
    let bench = setup().start();
    set_soft_limit(0);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", bench.process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers, [hard, hard]);
}

#[test]
fn eight_thousand_connections_are_served_at_once() {
    let needed = u64::try_from(CONNECTIONS).unwrap() * 2 + 1000;
    if hard_limit().is_some_and(|hard| hard < needed) {
        println!("skipped: this system lets a process open fewer than {needed} files");
        return;
    }
    set_soft_limit(0);
    let bench = setup().start();
    let (port, id) = (bench.process.port, bench.process.id());
    serves_others(&bench);
    let before = resident(id);
    // Each is asked as soon as it is open: the proxy does not wait long for a first head.
    let threads: Vec<_> = (0..THREADS)
        .map(|n| std::thread::spawn(move || open_and_ask(n, port, CONNECTIONS / THREADS)))
        .collect();
    let mut streams: Vec<_> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let each = resident(id).saturating_sub(before) / u64::try_from(CONNECTIONS).unwrap();
    serves_others(&bench);
    // Each is alive still.
    streams.iter_mut().for_each(ask);
    assert!(each <= EACH, "{each} KiB each");
    serves_others(&bench);
}

/// One address has its bound, and others do not notice.
#[test]
fn one_address_cannot_take_every_connection() {
    let bench = setup().start();
    let port = bench.process.port;
    let open: Vec<_> = (0..1200).map(|_| from(40, port)).collect();
    let served = open.into_iter().map(|mut stream| {
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
        let length = stream.read(&mut [0; 2048]).unwrap_or(0);
        (stream, length > 0)
    });
    let served: Vec<_> = served.collect();
    let number = served.iter().filter(|(_, served)| *served).count();
    assert_eq!(number, 1024);
    serves_others(&bench);
}
