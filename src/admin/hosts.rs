//! Which names the port may be asked under.
//!
//! A browser sends a page's scripts to any address that the page's own name is given (DNS
//! rebinding), so that a page from anywhere could read what only this machine may. It names the
//! page's host in `Host`, which no address and no name of ours is.

use std::net::Ipv6Addr;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::admin::Admin;
use crate::admin::api::Problem;

/// Answers those that ask under a name that may be used, and refuses all others.
pub(in crate::admin) async fn check(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    match host {
        // No browser leaves it out.
        None => next.run(request).await,
        Some(host) if is_ours(host, &admin.parts.hosts.load()) => next.run(request).await,
        Some(host) => {
            let error = format!(
                "this port is not asked as {host:?}: use its address, or add the name to admin.hosts"
            );
            Problem::reply(StatusCode::MISDIRECTED_REQUEST, error)
        }
    }
}

/// Whether `host`, with or without a port, is an address, this machine, or one of `known`.
fn is_ours(host: &str, known: &[String]) -> bool {
    if let Some((ip, rest)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return ip.parse::<Ipv6Addr>().is_ok() && (rest.is_empty() || rest.starts_with(':'));
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    name.parse::<std::net::Ipv4Addr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || known.iter().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_ours() {
        let known = ["dns1.example".to_owned()];
        for (host, expected) in [
            ("127.0.0.1", true),
            ("10.0.0.7:8654", true),
            ("[::1]:8654", true),
            ("[fd00::7]", true),
            ("localhost:8654", true),
            ("Fingerpost.LOCALHOST.", true),
            ("DNS1.example:8654", true),
            ("dns1.example.evil.example", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example:8654", false),
            ("evil.example:127.0.0.1", false),
            ("[evil.example]", false),
            ("[::1].evil.example", false),
            ("2130706433", false),
            ("", false),
        ] {
            assert_eq!(is_ours(host, &known), expected, "{host:?}");
        }
    }
}
