//! HTTP/2 frame by frame, for what no client of good manners does. It shares no code with the
//! server's, and knows of HPACK the static table and literals (RFC 7541 §6).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::wait::within;

/// A connection.
#[derive(Debug)]
pub struct Http2(pub TlsStream<TcpStream>);

/// A frame (RFC 9113 §4.1).
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

impl Http2 {
    /// Begins with the preface and `settings`, each an identifier and a value, and takes those of
    /// the server.
    pub async fn begin(stream: TlsStream<TcpStream>, settings: &[(u16, u32)]) -> Self {
        let mut http = Self(stream);
        http.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let setting =
            |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(setting).collect();
        http.send(SETTINGS, 0, 0, &payload).await;
        http.receive_kind(SETTINGS).await.expect("the server's settings");
        http
    }

    /// Sends one frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_raw(&frame(kind, flags, stream, payload)).await;
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        within("room to send", async {
            self.0.write_all(bytes).await.unwrap();
            self.0.flush().await.unwrap();
        })
        .await;
    }

    /// The same; false where the server takes no more.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        let sending =
            async { self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok() };
        within("room to send", sending).await
    }

    /// The next frame; `None` once the server has closed.
    pub async fn receive(&mut self) -> Option<Frame> {
        within("a frame", async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [high, middle, low, kind, flags, stream @ ..] = head;
            let len = u32::from_be_bytes([0, high, middle, low]);
            let mut payload = vec![0; len as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
        })
        .await
    }

    /// The next frame of this kind; `None` once the server has closed. Others are dropped, but
    /// that pings and settings are acknowledged.
    pub async fn receive_kind(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let received = self.receive().await?;
            if matches!(received.kind, PING | SETTINGS) && received.flags == 0 {
                let payload = if received.kind == PING { &received.payload[..] } else { &[] };
                // The server may have closed already.
                self.0.write_all(&frame(received.kind, ACK, 0, payload)).await.ok();
                self.0.flush().await.ok();
            }
            if received.kind == kind {
                return Some(received);
            }
        }
    }
}

/// A frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![high, middle, low, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a GET, as a header block.
pub fn get(path: &str) -> Vec<u8> {
    // `:method: GET`, `:scheme: https`, and two names whose values are literals.
    let mut block = vec![0x82, 0x87];
    push(&mut block, 4, path);
    push(&mut block, 1, "x");
    block
}

/// The head of a POST of a DNS message to `/dns-query`.
pub fn post() -> Vec<u8> {
    let mut block = vec![0x83, 0x87];
    push(&mut block, 4, "/dns-query");
    push(&mut block, 1, "x");
    // `content-type` is 31, past what four bits hold.
    block.extend_from_slice(&[0x0f, 31 - 15]);
    push_text(&mut block, "application/dns-message");
    block
}

/// A header of the static table's name `index`, below 15, without indexing.
fn push(block: &mut Vec<u8>, index: u8, text: &str) {
    block.push(index);
    push_text(block, text);
}

fn push_text(block: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127);
    block.push(u8::try_from(text.len()).unwrap());
    block.extend_from_slice(text.as_bytes());
}
