//! The server that is verified, over TCP: its replies are whole there.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::verify::question::{Question, Said};

/// A connection to it, opened again where the server has closed it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stream: Option<TcpStream>,
    id: u16,
}

impl Server {
    /// The server at `address`; opens nothing.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, id: 0 }
    }

    /// What it says.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be reached, or does not answer in time.
    pub async fn ask(&mut self, question: &Question) -> anyhow::Result<Said> {
        let is_fresh = self.stream.is_none();
        let reply = match self.exchange(question).await {
            // A server closes a connection that was idle, as it was while Consul was asked.
            Err(_) if !is_fresh => {
                self.stream = None;
                self.exchange(question).await
            }
            reply => reply,
        };
        let address = self.address;
        let reply = reply.with_context(|| format!("cannot ask the server at {address}"))?;
        let said = Said::read(&reply);
        said.with_context(|| format!("the server at {address} sent no reply to {question}"))
    }

    async fn exchange(&mut self, question: &Question) -> anyhow::Result<Vec<u8>> {
        self.id = self.id.wrapping_add(1);
        let message = question.message(self.id);
        let reply = timeout(PATIENCE, send(&mut self.stream, self.address, &message)).await;
        let reply = reply.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not reply")));
        let is_ours = |reply: &Vec<u8>| reply.starts_with(&self.id.to_be_bytes());
        match reply {
            Ok(reply) if is_ours(&reply) => Ok(reply),
            Ok(_) => {
                self.stream = None;
                Err(anyhow::anyhow!("it answers another question"))
            }
            Err(error) => {
                self.stream = None;
                Err(error)
            }
        }
    }
}

/// One question and its reply, in frames of a two-byte length (RFC 1035 §4.2.2).
async fn send(
    stream: &mut Option<TcpStream>,
    address: SocketAddr,
    message: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(TcpStream::connect(address).await?),
    };
    let mut frame = u16::try_from(message.len())?.to_be_bytes().to_vec();
    frame.extend(message);
    stream.write_all(&frame).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// Longer than a server waits for Consul before it says SERVFAIL, by default a second.
const PATIENCE: Duration = Duration::from_secs(10);
