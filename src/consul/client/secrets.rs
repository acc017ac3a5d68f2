//! What an error must not show.

use reqwest::header::HeaderValue;
use serde::de::Error as _;

use crate::consul::client::Shared;
use crate::consul::fetch::FetchError;

impl Shared {
    /// Whoever answers in Consul's stead may send back what it was sent, so the beginning of an
    /// error's text is kept without it.
    pub(in crate::consul::client) fn without_secrets(
        &self,
        error: FetchError,
        token: Option<&HeaderValue>,
    ) -> FetchError {
        match error {
            // JSON that is whole, but of another type, is quoted in the error.
            FetchError::Body(source) if source.is_data() => {
                let text = self.without_secret(source.to_string(), token);
                FetchError::Body(serde_json::Error::custom(text))
            }
            FetchError::Status { status, body, retry_after } => {
                let body = self.without_secret(body, token);
                FetchError::Status { status, body, retry_after }
            }
            error => error,
        }
    }

    fn without_secret(&self, text: String, token: Option<&HeaderValue>) -> String {
        // Basic authentication travels in another spelling, which is not worth knowing here.
        if self.http_auth.is_some() {
            return "…".to_owned();
        }
        let text = match token.and_then(|token| token.to_str().ok()) {
            Some(token) => text.replace(token, "…"),
            None => text,
        };
        text.chars().take(CHARS_SHOWN).collect()
    }
}

/// As much of an error's text as is worth a log line.
const CHARS_SHOWN: usize = 200;
