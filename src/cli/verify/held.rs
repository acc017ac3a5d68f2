//! What a server holds, as its metrics tell it: DNS has no list of names.
//!
//! So a service or a node is found that Consul has no more. Services beyond
//! `metrics.services_max` have no series, and are not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::verify::Subject;

/// The services and the nodes of `datacenter` that the server at `admin` has instances of.
///
/// # Errors
///
/// Fails where nobody answers there in time.
pub(in crate::cli::verify) async fn subjects(
    admin: SocketAddr,
    datacenter: &str,
) -> anyhow::Result<BTreeSet<Subject>> {
    let text = timeout(PATIENCE, scrape(admin)).await;
    let text = text.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not reply")));
    Ok(read(&text.with_context(|| format!("cannot read the metrics at {admin}"))?, datacenter))
}

async fn scrape(admin: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    // HTTP/1.0: the server closes when it has sent all, and sends it in one piece.
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut reply = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

fn read(metrics: &str, datacenter: &str) -> BTreeSet<Subject> {
    let series = metrics.lines().filter_map(|line| line.strip_prefix("fingerpost_service_health{"));
    let of_datacenter = series.filter(|series| label(series, "dc").as_deref() == Some(datacenter));
    let subjects = of_datacenter.flat_map(|series| {
        let node = label(series, "instance");
        let node = node.and_then(|instance| Some(instance.split_once('/')?.0.to_owned()));
        let service = label(series, "service").map(Subject::Service);
        [node.map(Subject::Node), service].into_iter().flatten()
    });
    subjects.collect()
}

/// The value of a label, as Prometheus' text format escapes it.
fn label(series: &str, name: &str) -> Option<String> {
    let start = format!("{name}=\"");
    let at = series.match_indices(&*start).find(|(at, _)| {
        let before = series.get(..*at).unwrap_or_default();
        before.is_empty() || before.ends_with("\",")
    });
    let mut value = String::new();
    let mut rest = series.get(at?.0 + start.len()..)?.chars();
    loop {
        match rest.next()? {
            '"' => return Some(value),
            '\\' => match rest.next()? {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

/// More than ten thousand services and their instances take.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_nodes_are_read_from_the_series_of_their_health() {
        let metrics = "# HELP fingerpost_service_health Health.\n\
             fingerpost_service_health{dc=\"dc1\",instance=\"n1/web\",service=\"web\"} 1\n\
             fingerpost_service_health{dc=\"dc2\",instance=\"n2/db\",service=\"db\"} 1\n\
             fingerpost_service_health{dc=\"dc1\",instance=\"n3/a/b\",service=\"o\\\"dd\"} 0\n\
             fingerpost_cache_total{result=\"hit\",service=\"api\"} 7\n";
        let expected = [
            Subject::Node("n1".to_owned()),
            Subject::Node("n3".to_owned()),
            Subject::Service("o\"dd".to_owned()),
            Subject::Service("web".to_owned()),
        ];
        assert_eq!(read(metrics, "dc1").into_iter().collect::<Vec<_>>(), expected);
    }
}
