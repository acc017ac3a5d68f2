//! The ACL token, ready to send, and read again when its file changes.
//!
//! Secret managers renew tokens by replacing the file. The file's time and length are looked at
//! before a request, at most once a second, so no signal and no restart is needed.
//!
//! **Invariant:** a token that was once read stays in use until another one was read; a file
//! that is away for a moment does not turn us into the anonymous user, to whom Consul shows
//! nothing, without a sign.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use thiserror::Error;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Secret;
use crate::stamp::{self, Stamp};

/// The token as a header value, from the configuration or from a file.
pub struct Token {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

/// Why there is no token to start with. For the operator to mend.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TokenError {
    #[error("consul's token holds a character that no HTTP header can")]
    Characters,
    #[error("the token file {} is empty", path.display())]
    Empty { path: PathBuf },
    #[error("cannot read the token file {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

struct State {
    /// `None` asks as the anonymous user.
    header: Option<HeaderValue>,
    /// The file as it was when it was read.
    stamp: Option<Stamp>,
    looked_at: Instant,
    /// Whether the last look failed, so that a missing file is one log line.
    failing: bool,
}

impl Token {
    /// Takes the token from `file`, else from `given`.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read, or when the token cannot be sent.
    pub fn new(given: Option<&Secret>, file: Option<&Path>) -> Result<Self, TokenError> {
        let (header, stamp) = match (file, given) {
            (Some(path), _) => {
                let stamp = stamp_of(path)?;
                (read(path)?, Some(stamp))
            }
            (None, Some(secret)) => (header(secret.reveal())?, None),
            (None, None) => (None, None),
        };
        let state = State { header, stamp, looked_at: Instant::now(), failing: false };
        Ok(Self { file: file.map(Path::to_owned), state: Mutex::new(state) })
    }

    /// The token to send now; `None` is none.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file
            && state.looked_at.elapsed() >= LOOK_EVERY
        {
            state.look_again(path);
        }
        state.header.clone()
    }
}

impl State {
    fn look_again(&mut self, path: &Path) {
        self.looked_at = Instant::now();
        // The stamp is taken first: a file replaced in between is read once more.
        let read = stamp_of(path).and_then(|stamp| match self.stamp {
            Some(known) if known == stamp => Ok(None),
            _ => Ok(Some((stamp, read(path)?))),
        });
        match read {
            Ok(None) => self.failing = false,
            Ok(Some((stamp, header))) => {
                info!(path = %path.display(), "consul token read again");
                self.header = header;
                self.stamp = Some(stamp);
                self.failing = false;
            }
            Err(error) => {
                if !self.failing {
                    warn!(%error, "token file unreadable, keeping the last token");
                }
                self.failing = true;
            }
        }
    }
}

fn stamp_of(path: &Path) -> Result<Stamp, TokenError> {
    Stamp::of(path).map_err(|source| TokenError::File { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Option<HeaderValue>, TokenError> {
    let text = stamp::read_text(path);
    let text = text.map_err(|source| TokenError::File { path: path.to_owned(), source })?;
    match header(text.trim())? {
        // A file that is being written, say.
        None => Err(TokenError::Empty { path: path.to_owned() }),
        header => Ok(header),
    }
}

fn header(text: &str) -> Result<Option<HeaderValue>, TokenError> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut header = HeaderValue::from_str(text).map_err(|_| TokenError::Characters)?;
    // Keeps it out of the Debug of requests.
    header.set_sensitive(true);
    Ok(Some(header))
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(token: &Token) -> Option<String> {
        token.header().map(|header| header.to_str().unwrap().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_file_is_read_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let token = Token::new(None, Some(&path)).unwrap();
        assert_eq!(text(&token).as_deref(), Some("first"));

        std::fs::write(&path, "the second\n").unwrap();
        assert_eq!(text(&token).as_deref(), Some("first"), "not looked at again so soon");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(text(&token).as_deref(), Some("the second"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_vanishes_or_is_empty_leaves_the_last_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first").unwrap();
        let token = Token::new(None, Some(&path)).unwrap();

        std::fs::write(&path, " \n").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(text(&token).as_deref(), Some("first"));
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(text(&token).as_deref(), Some("first"));
        std::fs::write(&path, "third").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(text(&token).as_deref(), Some("third"));
    }

    #[test]
    fn the_file_wins_over_the_given_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "from-file").unwrap();
        let given = Secret::new("given".to_owned());
        let token = Token::new(Some(&given), Some(&path)).unwrap();
        assert_eq!(text(&token).as_deref(), Some("from-file"));
        assert_eq!(format!("{:?}", token.header()), "Some(Sensitive)");
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_without_showing_it() {
        let given = Secret::new("two\nlines".to_owned());
        let Err(error) = Token::new(Some(&given), None) else { panic!("taken") };
        assert_eq!(error.to_string(), "consul's token holds a character that no HTTP header can");
    }

    #[test]
    fn a_missing_file_is_an_error_at_start() {
        let Err(error) = Token::new(None, Some(Path::new("/nonexistent/token"))) else {
            panic!("taken")
        };
        assert_eq!(error.to_string(), "cannot read the token file /nonexistent/token");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let Err(error) = Token::new(None, Some(empty.path())) else { panic!("taken") };
        assert!(error.to_string().ends_with(" is empty"), "{error}");
    }
}
