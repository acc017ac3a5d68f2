//! What the tests stand on: a real Consul, a scripted one, a DNS client and one way to wait.
//!
//! Of the code under test, `server` and `straight` know how it is started and asked, `scenario` and
//! `generate` in which words a catalogue is told; the rest knows nothing. Where a component of the
//! machine is missing, the test says so where it is seen and is left out; under `CI=true` that is
//! a failure.

// Each file is a toolbox: what one version of the tests leaves unused is not dead.
#![allow(dead_code)]

pub mod authority;
pub mod browser;
pub mod consul;
pub mod dns;
pub mod expectation;
pub mod fake_consul;
pub mod generate;
pub mod http2;
pub mod https;
pub mod metrics;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod quic;
pub mod recursor;
pub mod scenario;
pub mod server;
pub mod stage;
pub mod straight;
pub mod wait;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Once;

/// The Consul to test against: `FINGERPOST_TEST_CONSUL`, else the one on `PATH`.
///
/// `None` when there is none, which has then been said.
pub fn consul_binary() -> Option<PathBuf> {
    let named = env::var_os("FINGERPOST_TEST_CONSUL").filter(|named| !named.is_empty());
    let found = named.map(PathBuf::from).or_else(|| on_path("consul"));
    if found.is_none() {
        skip("consul (tests/run provides it)");
    }
    found
}

/// The program `name` on `PATH`, if there is one.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says that the running test is left out for lack of `missing`; panics under `CI=true`.
pub fn skip(missing: &str) {
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "{missing} is missing, and under CI=true nothing is skipped"
    );
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not `eprintln!`, which libtest keeps to itself while a test passes.
    let line = format!("SKIPPED, for lack of {missing}: {test}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Chooses the process's crypto provider, without which an HTTP client cannot be built.
pub fn choose_crypto() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A Python that has dnspython with all of its transports: `FINGERPOST_TEST_PYTHON`.
///
/// `None` when there is none, which has then been said.
pub fn dnspython() -> Option<PathBuf> {
    let named = env::var_os("FINGERPOST_TEST_PYTHON").filter(|named| !named.is_empty());
    if named.is_none() {
        skip("dnspython (tests/run provides it)");
    }
    named.map(PathBuf::from)
}

/// The program `name` on `PATH`; `None` when there is none, which has then been said.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = on_path(name);
    if found.is_none() {
        skip(&format!("{name} (tests/run provides it)"));
    }
    found
}

/// Schemathesis, which `FINGERPOST_TEST_SCHEMATHESIS` names; `None` when there is none, which has then
/// been said.
pub fn schemathesis() -> Option<PathBuf> {
    let named = env::var_os("FINGERPOST_TEST_SCHEMATHESIS").filter(|named| !named.is_empty());
    if named.is_none() {
        skip("schemathesis (tests/run provides it)");
    }
    named.map(PathBuf::from)
}
