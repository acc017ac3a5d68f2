//! The stream below HTTP, watched: what comes, whether it takes what we send, and how it ends.
//!
//! **Invariant:** closed in order, it takes what still comes for a moment and drops it. An end with
//! something unread would be a reset, which takes replies with it (RFC 9293 §3.10.7.4).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::dns::https::LINGER;
use crate::dns::https::traffic::Traffic;

/// A stream that tells `traffic` what happens on it.
#[derive(Debug)]
pub(in crate::dns::https) struct Carrier<S> {
    stream: S,
    traffic: Arc<Traffic>,
    /// Since our side is closed: until when the other may take to close.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Carrier<S> {
    /// Watches `stream`.
    pub(in crate::dns::https) fn new(stream: S, traffic: Arc<Traffic>) -> Self {
        Self { stream, traffic, lingering: None }
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        self.traffic.note_sending(written.is_pending());
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Carrier<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.traffic.note_received(buf.filled().get(filled..).unwrap_or_default());
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Carrier<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        ready!(self.note(closed))?;
        let Self { stream, lingering, .. } = &mut *self;
        let lingering = lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut dropped = [0; 1024];
        // Whoever goes on sending is not waited for.
        while lingering.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut dropped);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
