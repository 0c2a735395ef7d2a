//! Whoever `LOG_ENDPOINT` names: it keeps what is posted, and answers as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does with a request; with those that it has no answer for, it is content.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    /// This status line, and headers after it.
    Status(&'static str),
    /// This status line, and the beginning of a body that never ends.
    Endless(&'static str),
    /// It takes the request, and closes the connection.
    Lost,
    /// Nothing, for ever.
    Never,
}

/// A request that came whole.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.head.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_default()
    }
}

#[derive(Clone, Default)]
struct State {
    posts: Arc<Mutex<Vec<Post>>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
}

pub(crate) struct Endpoint {
    pub(crate) url: String,
    state: State,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Listens; the first requests are answered like this.
    pub(crate) async fn start(replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/logs", listener.local_addr().unwrap());
        let state = State::default();
        state.replies.lock().unwrap().extend(replies);
        let serving = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Self { url, state, task }
    }

    /// What came so far.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.state.posts.lock().unwrap().clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when the other side closes, or breaks off.
async fn serve(stream: TcpStream, state: State) {
    let mut stream = BufReader::new(stream);
    while let Some(post) = post(&mut stream).await {
        state.posts.lock().unwrap().push(post);
        let reply = state.replies.lock().unwrap().pop_front();
        let (status, length) = match reply.unwrap_or(Reply::Status("204 No Content")) {
            Reply::Status(status) => (status, 0_u64),
            Reply::Endless(status) => (status, 1 << 40),
            Reply::Lost => return,
            Reply::Never => std::future::pending().await,
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn post(stream: &mut BufReader<TcpStream>) -> Option<Post> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut post = Post { head, body: Vec::new() };
    post.body = vec![0; post.header("content-length").parse().unwrap()];
    stream.read_exact(&mut post.body).await.ok()?;
    Some(post)
}
