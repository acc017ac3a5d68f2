//! Reads `/metrics` as a scraper does.

use crate::support::server::Server;

/// The text of a scrape.
pub async fn scrape(server: &Server) -> String {
    let url = format!("http://{}/metrics", server.admin());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// The value of the series written as `series`.
///
/// # Panics
///
/// When there is none.
#[track_caller]
pub fn value(metrics: &str, series: &str) -> f64 {
    find(metrics, series).unwrap_or_else(|| panic!("no {series} in:\n{metrics}"))
}

/// The value of the series written as `series`, one that begins with its first event.
pub fn find(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}
