//! The rates and the latencies as pictures: SVG, readable on a light and on a dark page.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::figures::Figures;
use crate::peers::Server;
use crate::table::points;
use crate::{Results, Row, Stage};

/// Writes `rates.svg` and `latencies.svg` into `folder`.
pub fn write(folder: &Path, stage: &Stage, results: &Results) {
    fs::create_dir_all(folder).expect("a folder");
    for (name, text) in
        [("rates.svg", rates(stage, results)), ("latencies.svg", latencies(results))]
    {
        // Beside it, then in its place: a picture is whole or not there.
        let (aside, path) = (folder.join(format!(".{name}")), folder.join(name));
        fs::write(&aside, text).expect("room on the disk");
        fs::rename(&aside, &path).expect("a file in the folder");
    }
}

/// Bars: for each case, a server each.
fn rates(stage: &Stage, results: &Results) -> String {
    let rows: Vec<&Row> = SHOWN
        .iter()
        .filter_map(|label| results.rows.iter().find(|row| row.label() == *label))
        .collect();
    let rate = |row: &Row, server: Server| {
        let runs = row.runs(server)?;
        Some(runs.iter().map(|run| run.rate).collect::<Figures>().median())
    };
    let all = rows.iter().flat_map(|row| BARS.iter().filter_map(|server| rate(row, *server)));
    let top = all.fold(1.0, f64::max);
    let mut body = String::new();
    let mut y = 40;
    for row in rows {
        text(&mut body, 10, y + 12, "label", row.label());
        y += 20;
        for server in BARS {
            let Some(rate) = rate(row, *server) else { continue };
            let width = rate / top * 420.0;
            text(&mut body, 20, y + 11, "name", server.name());
            let class = if *server == Server::Ours { "ours" } else { "other" };
            let bar = format!(
                r#"<rect class="{class}" x="130" y="{y}" width="{width:.1}" height="13"/>"#
            );
            body.push_str(&bar);
            text(&mut body, 136 + width as i32, y + 11, "name", format!("{:.0}k", rate / 1e3));
            y += 17;
        }
        y += 10;
    }
    let title = format!("Queries a second on one core, over UDP ({})", stage.place.cpu);
    frame(620, y, &title, &body)
}

/// Lines: p99 by load, both on logarithmic scales.
fn latencies(results: &Results) -> String {
    let lines: Vec<(Server, Vec<(f64, f64)>)> = results
        .loads
        .iter()
        .map(|load| (load.server, points(load).map(|(_, at)| (at.rate, at.p99)).collect()))
        .collect();
    let x = |rate: f64| 60.0 + (rate.max(1_000.0) / 1_000.0).log10() / 2.7 * 500.0;
    let y = |us: f64| 300.0 - (us.max(10.0) / 10.0).log10() / 3.0 * 250.0;
    let mut body = String::new();
    for (rate, label) in [(1e3, "1k"), (1e4, "10k"), (1e5, "100k"), (4e5, "400k q/s")] {
        text(&mut body, x(rate) as i32 - 10, 318, "name", label);
    }
    for (us, label) in [(10.0, "10 us"), (100.0, "100 us"), (1e3, "1 ms"), (1e4, "10 ms")] {
        let at = y(us);
        write!(body, r#"<path class="grid" d="M60 {at:.1}H570"/>"#).expect("room");
        text(&mut body, 8, at as i32 + 4, "name", label);
    }
    for (server, points) in lines {
        let class = if server == Server::Ours { "line first" } else { "line" };
        let mut path = String::new();
        for (at, (rate, us)) in points.iter().enumerate() {
            let step = if at == 0 { 'M' } else { 'L' };
            write!(path, "{step}{:.1} {:.1}", x(*rate), y(*us)).expect("room");
        }
        write!(body, r#"<path class="{class}" d="{path}"/>"#).expect("room");
        if let Some((rate, us)) = points.last() {
            text(&mut body, x(*rate) as i32 + 6, y(*us) as i32 + 4, "name", server.name());
        }
    }
    frame(660, 330, "A x3: 99 of 100 replies come within (by load, one core)", &body)
}

fn text(body: &mut String, x: i32, y: i32, class: &str, words: impl AsRef<str>) {
    let words = words.as_ref().replace('&', "&amp;").replace('<', "&lt;");
    write!(body, r#"<text class="{class}" x="{x}" y="{y}">{words}</text>"#).expect("room");
}

fn frame(width: i32, height: i32, title: &str, body: &str) -> String {
    let mut head = String::new();
    text(&mut head, 10, 22, "title", title);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"><style>{STYLE}</style>{head}{body}</svg>
"#
    )
}

const STYLE: &str = "text{font:11px sans-serif;fill:#24292f}.title{font-weight:bold;font-size:13px}\
    .label{font-weight:bold}.ours{fill:#0969da}.other{fill:#8c959f}\
    .line{fill:none;stroke:#8c959f;stroke-width:2}.first{stroke:#0969da;stroke-width:3}\
    .grid{stroke:#d0d7de;stroke-width:1}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}\
    .ours{fill:#58a6ff}.first{stroke:#58a6ff}}";

/// Rows of the picture.
const SHOWN: &[&str] =
    &["A x3", "A x50, EDNS", "SRV x10, EDNS", "10,000 names", "NXDOMAIN flood", "REFUSED"];

const BARS: &[Server] = &[
    Server::Ours,
    Server::Nsd,
    Server::Knot,
    Server::Unbound,
    Server::Dnsmasq,
    Server::Hickory,
    Server::Consul,
    Server::Echo,
];
