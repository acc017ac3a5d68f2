//! A scripted Consul, for the faults that a real one won't show on demand.
//!
//! Each path (without its query) has at most one **standing** answer and a queue of **scripted**
//! replies. A request takes the next scripted reply, at once and whatever index it sends. When
//! none is left it gets the standing answer, by the rules of a blocking query: a request whose
//! `index` is not below the standing one is held until the path is set, scripted or released.
//! `wait` is ignored, so that a test decides when a round ends, not the clock.
//! A datacenter that is silenced answers nothing, whatever its paths have.
//!
//! It knows nothing of the catalogue: bodies are the test's own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A listening fake; it stops, and breaks its connections, when this is dropped.
#[derive(Debug)]
pub struct FakeConsul {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Held for its drop, which ends the accepting task and its connections.
    _accepting: JoinSet<()>,
}

/// One request as it was seen.
#[derive(Clone, Debug)]
pub struct Request {
    /// As in `/v1/catalog/services`.
    pub path: String,
    /// By key, as sent; a key without a value has an empty one.
    pub query: BTreeMap<String, String>,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What one request gets.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    fate: Fate,
    /// Sent only when its path is told to let go.
    is_held: bool,
}

/// How far a reply comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// The connection is closed before any byte.
    Close,
    /// `Content-Length` counts the whole body, half of it is sent, then the connection is closed.
    Half,
    /// Nothing is sent, and the connection stays open until the client gives up.
    Hang,
    Whole,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes every held request, which then looks whether it was meant.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    paths: HashMap<String, Path>,
    silent: HashSet<String>,
    requests: Vec<Request>,
    connections: usize,
    connections_most: usize,
}

#[derive(Debug, Default)]
struct Path {
    scripted: VecDeque<Reply>,
    standing: Option<(u64, Reply)>,
    /// Held replies that may be sent.
    let_go: usize,
    /// Rises with each change and each release; a held request goes on when it has risen.
    version: u64,
}

impl FakeConsul {
    /// Listens on a free loopback port; every path is a 404 until it is told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _accepting: accepting }
    }

    /// Sets the standing answer of `path`; requests that are held on it get it at once.
    ///
    /// `index` may be anything, 0 or lower than before included.
    pub fn set(&self, path: &str, index: u64, body: &Value) {
        self.change(path, |at| at.standing = Some((index, Reply::ok(index, body))));
    }

    /// The same, and no request that is held hears of it: so Consul does where a token's rights change.
    pub fn set_unheard(&self, path: &str, index: u64, body: &Value) {
        let mut state = self.shared.state();
        let at = state.paths.entry(path.to_owned()).or_default();
        at.standing = Some((index, Reply::ok(index, body)));
    }

    /// Appends `reply` to what the next requests for `path` get; one that is held gets it at once.
    pub fn script(&self, path: &str, reply: Reply) {
        self.change(path, |at| at.scripted.push_back(reply));
    }

    /// Lets the requests that are held on `path` have the standing answer, as when `wait` is over.
    pub fn release(&self, path: &str) {
        self.change(path, |_| ());
    }

    /// Forgets what is left of the script of `path`.
    pub fn unscript(&self, path: &str) {
        self.change(path, |at| at.scripted.clear());
    }

    /// Lets a reply to `path` go that is held, see [`Reply::held`].
    pub fn let_go(&self, path: &str) {
        self.change(path, |at| at.let_go += 1);
    }

    /// Keeps every request about `datacenter` waiting, those that come included.
    pub fn silence(&self, datacenter: &str) {
        self.shared.state().silent.insert(datacenter.to_owned());
    }

    /// Lets `datacenter` answer again.
    pub fn unsilence(&self, datacenter: &str) {
        self.shared.state().silent.remove(datacenter);
        self.shared.changed.notify_waiters();
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// The requests for `path` so far.
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == path);
        requests
    }

    /// The most connections that were open at one time.
    pub fn connections_most(&self) -> usize {
        self.shared.state().connections_most
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Path)) {
        let mut state = self.shared.state();
        let at = state.paths.entry(path.to_owned()).or_default();
        change(at);
        at.version += 1;
        self.shared.changed.notify_waiters();
    }
}

impl Reply {
    /// 200 with `body`, and the headers that a healthy Consul sends.
    pub fn ok(index: u64, body: &Value) -> Self {
        Self::status(200, &body.to_string())
            .header("Content-Type", "application/json")
            .header("X-Consul-Index", &index.to_string())
            .header("X-Consul-KnownLeader", "true")
            .header("X-Consul-LastContact", "0")
    }

    /// `status` with `body`, and no header of Consul's.
    pub fn status(status: u16, body: &str) -> Self {
        let (headers, body) = (Vec::new(), body.to_owned());
        Self { status, headers, body, fate: Fate::Whole, is_held: false }
    }

    /// The connection is closed before any byte.
    pub fn close() -> Self {
        Self { fate: Fate::Close, ..Self::status(200, "") }
    }

    /// Nothing is sent, and the connection stays open until the client gives up.
    pub fn hang() -> Self {
        Self { fate: Fate::Hang, ..Self::status(200, "") }
    }

    /// Is decided now and sent when [`FakeConsul::let_go`] says so, as on a slow way back.
    pub fn held(self) -> Self {
        Self { is_held: true, ..self }
    }

    /// Cuts the body in half, below a `Content-Length` of the whole, then closes the connection.
    pub fn half(self) -> Self {
        Self { fate: Fate::Half, ..self }
    }

    /// Empties the body, which `Content-Length` then tells rightly.
    pub fn empty(self) -> Self {
        Self { body: String::new(), ..self }
    }

    /// Replaces the body, as by text that is no JSON.
    pub fn body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    /// Sets the header `name`, in place of one of that name.
    pub fn header(self, name: &str, value: &str) -> Self {
        let mut reply = self.without(name);
        reply.headers.push((name.to_owned(), value.to_owned()));
        reply
    }

    /// Leaves out the header `name`.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        let sent = if self.fate == Fate::Half { self.body.len() / 2 } else { self.body.len() };
        [head.as_bytes(), &self.body.as_bytes()[..sent]].concat()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The reply to `request`, once it is due.
    async fn reply(&self, request: &Request) -> Reply {
        let index = request.query.get("index").and_then(|index| index.parse().ok()).unwrap_or(0);
        let datacenter = request.query.get("dc").map_or("", String::as_str);
        let mut seen = None;
        let mut held = None;
        loop {
            // Registered before the look, so that a change between the two is not missed.
            let changed = self.changed.notified();
            let due = match held.take() {
                None => self.state().due(&request.path, datacenter, index, &mut seen),
                reply => reply,
            };
            match due {
                Some(reply) if reply.is_held && !self.state().lets_go(&request.path) => {
                    held = Some(reply);
                }
                Some(reply) => return reply,
                None => (),
            }
            changed.await;
        }
    }
}

impl State {
    /// What `path` has for a request that sent `index`, or `None` to hold it.
    ///
    /// `seen` is the version at which the request was first held.
    fn due(
        &mut self,
        path: &str,
        datacenter: &str,
        index: u64,
        seen: &mut Option<u64>,
    ) -> Option<Reply> {
        if self.silent.contains(datacenter) {
            return None;
        }
        let Some(at) = self.paths.get_mut(path) else {
            return Some(Reply::status(404, "not scripted"));
        };
        if let Some(reply) = at.scripted.pop_front() {
            return Some(reply);
        }
        let Some((standing, reply)) = &at.standing else {
            return Some(Reply::status(404, "nothing left of the script"));
        };
        let held_since = *seen.get_or_insert(at.version);
        let holds = index > 0 && index >= *standing && at.version == held_since;
        (!holds).then(|| reply.clone())
    }
}

impl State {
    /// Whether a held reply to `path` may be sent; it is one less then.
    fn lets_go(&mut self, path: &str) -> bool {
        let Some(at) = self.paths.get_mut(path).filter(|at| at.let_go > 0) else { return false };
        at.let_go -= 1;
        true
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            {
                let mut state = shared.state();
                state.connections += 1;
                state.connections_most = state.connections_most.max(state.connections);
            }
            serve(stream, &shared).await;
            shared.state().connections -= 1;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers the requests of one connection until either side closes it.
async fn serve(stream: TcpStream, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        shared.state().requests.push(request.clone());
        let reply = tokio::select! {
            reply = shared.reply(&request) => reply,
            // A client that gives up a held request closes; it sends nothing before the reply.
            _ = stream.fill_buf() => return,
        };
        match reply.fate {
            Fate::Close => return,
            Fate::Hang => {
                let _ = stream.fill_buf().await;
                return;
            }
            Fate::Half | Fate::Whole => {
                let sent = stream.get_mut().write_all(&reply.bytes()).await;
                if sent.is_err() || reply.fate == Fate::Half {
                    return;
                }
            }
        }
    }
}

/// Reads one request and drops its body; `None` when the client has closed.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let line = read_line(stream).await?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(stream).await?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let len = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    stream.read_exact(&mut vec![0; len]).await.ok()?;

    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Some(Request { path: path.to_owned(), query, headers })
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let len = stream.read_line(&mut line).await.ok()?;
    (len > 0).then(|| line.trim_end().to_owned())
}
