//! What DNS over HTTPS (RFC 8484) says in HTTP, whatever HTTP's version.
//!
//! ```text
//!   GET  <path>?dns=<base64url>     the query is in the URL       HEAD: the same, without a body
//!   POST <path>                     the query is the body
//!   200                             a reply, whatever its response code
//!   400 404 405 408 413 415         no query that could be answered
//! ```
//! A function of what came: it knows no socket, and leaves to its callers how long they wait for a
//! body.
//!
//! **Invariant:** a query is never longer than a DNS message can be, nor is what is held of a body
//! that becomes none.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::answer::Draft;
use crate::wire::lifetime;

/// Where the query of a request is.
#[derive(Debug, Eq, PartialEq)]
pub enum Carried {
    /// In the body, which is to be read.
    InBody(Body),
    /// In the URL: this is it.
    InUrl(Vec<u8>),
}

/// A body as far as it has come.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Body {
    query: Vec<u8>,
    /// How long it is said to be.
    announced: Option<u64>,
}

impl Carried {
    /// Looks for the query of a request with this `head`, where DNS is served at `path`.
    ///
    /// # Errors
    ///
    /// Gives the status that says why there is none; see [`refuse`].
    pub fn find(head: &Parts, path: &str) -> Result<Self, StatusCode> {
        if head.uri.path() != path {
            return Err(StatusCode::NOT_FOUND);
        }
        match head.method {
            Method::GET | Method::HEAD => in_url(head.uri.query()).map(Self::InUrl),
            Method::POST => in_body(&head.headers).map(Self::InBody),
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        }
    }
}

impl Body {
    /// Takes what came next.
    ///
    /// # Errors
    ///
    /// Gives 413 when there is more than a DNS message can be.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StatusCode> {
        if self.query.len() + bytes.len() > MESSAGE_MAX {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        self.query.extend_from_slice(bytes);
        Ok(())
    }

    /// How much has come, in bytes.
    pub fn len(&self) -> usize {
        self.query.len()
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.query.is_empty()
    }

    /// The query, once the body has ended.
    ///
    /// # Errors
    ///
    /// Gives 400 where it is not as long as its head says (RFC 9110 §8.6).
    pub fn finish(self) -> Result<Vec<u8>, StatusCode> {
        match self.announced.is_none_or(|len| len == self.query.len() as u64) {
            true => Ok(self.query),
            false => Err(StatusCode::BAD_REQUEST),
        }
    }
}

/// The response to a request by `method` with what was answered to its query.
///
/// What a datagram would be ignored for is a bad request: here somebody waits for it.
pub fn respond(method: &Method, draft: Draft) -> Response<Bytes> {
    if draft.reply.is_empty() {
        return refuse(StatusCode::BAD_REQUEST);
    }
    let kept = cache_control(&draft);
    let len = HeaderValue::from(draft.reply.len());
    let body = if method == Method::HEAD { Bytes::new() } else { draft.reply.into() };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, DNS_MESSAGE_TYPE);
    headers.insert(CONTENT_LENGTH, len);
    headers.insert(CACHE_CONTROL, kept);
    response
}

/// The response to a request without a query that could be answered.
pub fn refuse(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    // Some of these may be kept by default (RFC 9110 §15.1), though a key may change them.
    headers.insert(CACHE_CONTROL, NO_STORE);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, METHODS);
    }
    response
}

/// The query in the parameter `dns` (RFC 8484 §4.1): base64url without padding (§6). Others mean
/// nothing to us; of two nobody could tell which is meant.
fn in_url(parameters: Option<&str>) -> Result<Vec<u8>, StatusCode> {
    let parameters = parameters.unwrap_or_default().split('&');
    let mut named = parameters.filter_map(|parameter| parameter.strip_prefix("dns="));
    let (Some(text), None) = (named.next(), named.next()) else {
        return Err(StatusCode::BAD_REQUEST);
    };
    // A URL holds less than the longest message: `Uri` takes 65,534 bytes of it.
    URL_SAFE_NO_PAD.decode(text).map_err(|_| StatusCode::BAD_REQUEST)
}

fn in_body(headers: &HeaderMap) -> Result<Body, StatusCode> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let kind = text(CONTENT_TYPE).and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let is_plain = text(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    if !kind.trim().eq_ignore_ascii_case("application/dns-message") || !is_plain {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    // What is announced as too long is not waited for. An absurd length is the server's to refuse.
    let announced = text(CONTENT_LENGTH).and_then(|len| len.parse::<u64>().ok());
    match announced.is_some_and(|len| len > MESSAGE_MAX as u64) {
        true => Err(StatusCode::PAYLOAD_TOO_LARGE),
        false => Ok(Body { query: Vec::new(), announced }),
    }
}

/// How long a cache may keep a reply, and whose (RFC 8484 §5.1).
///
/// An error is not kept, as it is over once it is mended. Where clients at other addresses are
/// answered otherwise, and the query says nothing of it, a cache that several share would give one
/// what is another's; it would not, where the query says it, as then it is in the URL.
fn cache_control(draft: &Draft) -> HeaderValue {
    let Some(secs) = lifetime::secs(&draft.reply) else { return NO_STORE };
    let whose = if draft.is_by_address { "private, " } else { "" };
    HeaderValue::try_from(format!("{whose}max-age={secs}")).unwrap_or(NO_STORE)
}

/// The longest DNS message: what fits two bytes of length (RFC 1035 §4.2.2, RFC 8484 §6).
const MESSAGE_MAX: usize = u16::MAX as usize;

const DNS_MESSAGE_TYPE: HeaderValue = HeaderValue::from_static("application/dns-message");

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    /// What is found in a request without a body: the query in hexadecimal, `body`, or a status.
    fn find(method: &str, url: &str, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match Carried::find(&request.body(()).unwrap().into_parts().0, "/dns-query") {
            Ok(Carried::InUrl(query)) => {
                query.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            }
            Ok(Carried::InBody(_)) => "body".to_owned(),
            Err(status) => status.as_str().to_owned(),
        }
    }

    #[test]
    fn a_query_in_the_url_is_base64url_without_padding() {
        let long = format!("/dns-query?dns={}", "A".repeat(65_516));
        for (method, url, expected) in [
            ("GET", "/dns-query?dns=AAEC_-8", "000102ffef"),
            ("HEAD", "/dns-query?dns=AAEC_-8", "000102ffef"),
            ("GET", "https://ns.example:8443/dns-query?dns=AAEC", "000102"),
            ("GET", "/dns-query?ct&dns=AAEC&x=dns=1", "000102"),
            ("GET", "/dns-query?dns=", ""),
            ("GET", "/dns-query", "400"),
            ("GET", "/dns-query?dns", "400"),
            ("GET", "/dns-query?DNS=AAEC", "400"),
            ("GET", "/dns-query?dns=AAEC&dns=AAEC", "400"),
            // Padding, the other alphabet, a lone character, bits that belong to no byte
            ("GET", "/dns-query?dns=AAEC_-8=", "400"),
            ("GET", "/dns-query?dns=AAEC/+8", "400"),
            ("GET", "/dns-query?dns=AAECA", "400"),
            ("GET", "/dns-query?dns=AAEC_-9", "400"),
            ("GET", "/dns-query?dns=AA%45C", "400"),
            ("GET", &long, &"00".repeat(49_137)),
            ("GET", "/", "404"),
            ("GET", "/dns-query/?dns=AAEC", "404"),
            ("GET", "/DNS-query?dns=AAEC", "404"),
            ("DELETE", "/other", "404"),
            ("PUT", "/dns-query?dns=AAEC", "405"),
            ("OPTIONS", "/dns-query", "405"),
        ] {
            let shown = &url[..url.len().min(60)];
            assert_eq!(find(method, url, &[]), expected, "{method} {shown}");
        }
    }

    #[test]
    fn a_query_in_the_body_says_what_it_is() {
        const TYPE: (&str, &str) = ("content-type", "application/dns-message");
        for (headers, expected) in [
            (&[TYPE][..], "body"),
            (&[("content-type", "Application/DNS-Message; x=y")], "body"),
            (&[TYPE, ("content-length", "65535")], "body"),
            (&[TYPE, ("content-length", "65536")], "413"),
            (&[TYPE, ("content-encoding", "identity")], "body"),
            (&[TYPE, ("content-encoding", "gzip")], "415"),
            (&[("content-type", "application/dns-json")], "415"),
            (&[("content-type", "")], "415"),
            (&[], "415"),
        ] {
            assert_eq!(find("POST", "/dns-query", headers), expected, "{headers:?}");
        }
        assert_eq!(
            find("POST", "/dns-query?dns=AAEC", &[TYPE]),
            "body",
            "the URL is not looked at"
        );
        assert_eq!(find("POST", "/", &[TYPE]), "404");
    }

    #[test]
    fn a_body_is_no_longer_than_a_message() {
        let mut body = Body::default();
        assert_eq!(body.push(&[1; 65_534]), Ok(()));
        assert_eq!(body.push(&[2; 2]), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(body.push(&[3]), Ok(()));
        assert_eq!(body.push(&[]), Ok(()));
        assert_eq!(body.push(&[4]), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(body.len(), 65_535);
        assert_eq!(body.finish().unwrap().last(), Some(&3));
        for (announced, expected) in [(2, Ok(vec![1, 1])), (3, Err(StatusCode::BAD_REQUEST))] {
            let mut body = Body { announced: Some(announced), ..Body::default() };
            body.push(&[1, 1]).unwrap();
            assert_eq!(body.finish(), expected);
        }
    }

    /// The status, each header, and the length of the body.
    fn text(response: &Response<Bytes>) -> String {
        let mut lines = vec![response.status().as_str().to_owned()];
        let headers = response.headers().iter();
        lines.extend(headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
        lines.sort();
        format!("{}\n{} bytes", lines.join("\n"), response.body().len())
    }

    /// A reply of 35 bytes to `x. A` with an address for 300 s and this last byte of flags.
    fn draft(low: u8) -> Draft {
        let head = [0, 7, 0x84, low, 0, 1, 0, 1, 0, 0, 0, 0];
        let rest = b"\x01x\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\x0a\0\0\x01";
        let mut draft = Draft::default();
        draft.reply = [&head[..], rest].concat();
        draft
    }

    fn by_address(mut draft: Draft) -> Draft {
        draft.is_by_address = true;
        draft
    }

    #[test]
    fn a_reply_says_how_long_it_may_be_kept() {
        let kind = "content-type: application/dns-message";
        for (method, draft, kept, len) in [
            (Method::GET, draft(0), "max-age=300", 35),
            (Method::POST, draft(0), "max-age=300", 35),
            (Method::HEAD, draft(0), "max-age=300", 0),
            (Method::GET, by_address(draft(0)), "private, max-age=300", 35),
            (Method::GET, draft(2), "no-store", 35),
            (Method::GET, by_address(draft(2)), "no-store", 35),
        ] {
            let expected =
                format!("200\ncache-control: {kept}\ncontent-length: 35\n{kind}\n{len} bytes");
            assert_eq!(text(&respond(&method, draft)), expected, "{method}");
        }
    }

    #[test]
    fn what_is_refused_is_not_kept() {
        let plain = "cache-control: no-store\ncontent-length: 0";
        let silent = respond(&Method::GET, Draft::default());
        assert_eq!(text(&silent), format!("400\n{plain}\n0 bytes"));
        assert_eq!(text(&refuse(StatusCode::NOT_FOUND)), format!("404\n{plain}\n0 bytes"));
        let expected = format!("405\nallow: GET, HEAD, POST\n{plain}\n0 bytes");
        assert_eq!(text(&refuse(StatusCode::METHOD_NOT_ALLOWED)), expected);
    }
}
