//! `/`: all of this for people, as one page that asks this port and nobody else.
//!
//! Its parts are files beside this one, put together at the start. The page may run the script and
//! use the style that are in it, by their digests, and nothing else; and it may build no markup from
//! text, since all that it shows is text of others.

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use crate::admin::Admin;

/// The page, ready to be sent.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Page {
    html: String,
    /// What it may do.
    policy: String,
}

impl Page {
    /// Puts the page together; `domain` is the zone whose names it explains.
    pub(in crate::admin) fn new(domain: &str) -> Self {
        let (before, after) = HTML.split_once("{domain}").unwrap_or((HTML, ""));
        let after = after.replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1);
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            source(STYLE),
            source(SCRIPT)
        );
        Self { html: format!("{before}{}{after}", escaped(domain)), policy }
    }
}

pub(in crate::admin) async fn page(State(admin): State<Admin>) -> Response {
    let Page { html, policy } = (*admin.page).clone();
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(html)).into_response()
}

/// How a policy names `text` (CSP Level 3 §2.3.1).
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_in_their_places() {
        let Page { html, policy } = Page::new("a\"<b>&");
        assert!(html.contains("<html lang=\"en\" data-domain=\"a&quot;&lt;b>&amp;\">"));
        for (tag, text) in [("style", STYLE), ("script", SCRIPT)] {
            assert_eq!(html.matches(&format!("<{tag}>{text}</{tag}>")).count(), 1, "{tag}");
            assert!(!text.contains(&format!("</{tag}")), "{tag}");
        }
        assert!(!html.contains("{style}") && !html.contains("{script}"));
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    }

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn a_digest_is_spelled_as_policies_have_it() {
        assert_eq!(source("abc"), "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }
}
