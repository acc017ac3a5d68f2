//! A folder with a snapshot file, the programs that keep it, and what they say.

use std::fs;
use std::path::PathBuf;

use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::support::dns::{exchange, extended_error, question, with_edns, zone_text};
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::eventually;

/// A folder for a snapshot file, and what a program is started with.
pub struct Ground {
    /// Where the file is, and what is set aside.
    pub folder: TempDir,
    /// Consul's address.
    pub url: String,
    env: Vec<(&'static str, String)>,
}

impl Ground {
    /// With room for four watches, so that a fifth service is fetched on demand.
    pub fn new(url: &str) -> Self {
        let env = [
            ("FINGERPOST_SNAPSHOT_EVERY", "20ms"),
            ("FINGERPOST_CONSUL_CONNECTIONS_MAX", "8"),
            ("FINGERPOST_CONSUL_CONNECTIONS_SPARE", "2"),
            ("FINGERPOST_CONSUL_BACKOFF_MIN", "20ms"),
            ("FINGERPOST_CONSUL_BACKOFF_MAX", "50ms"),
            ("FINGERPOST_DNS_REVERSE_ZONES", "10.in-addr.arpa"),
        ];
        let env = env.map(|(name, value)| (name, value.to_owned())).to_vec();
        Self { folder: tempfile::tempdir().unwrap(), url: url.to_owned(), env }
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value.to_owned()));
    }

    /// Where the file is.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("snapshot")
    }

    /// Starts a program.
    pub fn start(&self) -> Program {
        self.start_by(Program::start)
    }

    /// Starts one by `start`.
    pub fn start_by(&self, start: impl Fn(&[&str], &[(&str, &str)]) -> Program) -> Program {
        let file = self.file();
        let ports = ["--dns", ANY_PORT, "--admin", ANY_PORT];
        let args = ["serve", "--consul", &self.url, "--snapshot", file.to_str().unwrap()];
        let env: Vec<_> = self.env.iter().map(|(name, value)| (*name, &**value)).collect();
        start(&[&args[..], &ports].concat(), &env)
    }

    /// Starts one that is ready.
    pub async fn serve(&self) -> Program {
        let program = self.start();
        program.ready().await;
        program
    }

    /// The names in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until the file holds `text`.
    pub async fn holds(&self, text: &str) {
        let holds = async || fs::read_to_string(self.file()).is_ok_and(|it| it.contains(text));
        eventually(format!("the file holds {text}"), holds).await;
    }
}

/// The reply to a question with EDNS, and the extended error in it.
pub async fn told(program: &Program, name: &str, qtype: RecordType) -> (String, Option<String>) {
    let query = with_edns(question(name, qtype), 1232, false);
    let reply = exchange(program.dns_address().await, &query).await;
    let code = extended_error(&reply).map(|said| said.split(' ').next().unwrap().to_owned());
    (zone_text(&reply), code)
}

/// The status and the text of a page of the admin port.
pub async fn get(program: &Program, path: &str) -> (u16, String) {
    let url = format!("http://{}/{path}", program.admin_address().await);
    let reply = reqwest::get(url).await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

/// The value of a series without labels.
pub async fn metric(program: &Program, name: &str) -> f64 {
    let (_, text) = get(program, "metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}
