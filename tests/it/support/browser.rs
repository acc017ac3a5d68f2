//! A Chromium without a window, that a test leads through a page.
//!
//! Playwright has it in hand, in a Python of its own (`browser.py`): a command goes there in a
//! line, and what came of it comes back in one. A command that fails, or waits in vain, fails the
//! test with what the page shows.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::support::skip;

/// A browser with one page; it ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    /// Its end ends the browser.
    commands: Option<ChildStdin>,
    said: UnboundedReceiver<String>,
}

impl Browser {
    /// Starts one. `None` where this machine has none: the test is to return.
    pub fn start() -> Option<Self> {
        let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let chromium = named("FINGERPOST_TEST_CHROMIUM");
        let playwright = named("FINGERPOST_TEST_PLAYWRIGHT");
        let (Some(chromium), Some(playwright)) = (chromium, playwright) else {
            skip("Chromium and Playwright (tests/run provides them)");
            return None;
        };
        let mut command = Command::new(playwright);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/browser.py"));
        command.arg(chromium).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let commands = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, said) = mpsc::unbounded_channel();
        // Reading blocks, and a server of the test's may live on its runtime.
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.map_while(|line| tell.send(line).ok()).for_each(drop);
        });
        Some(Self { child, commands, said })
    }

    /// Opens the page at `url`, so many pixels wide, in a `light` or a `dark` room.
    pub async fn open(&mut self, url: &str, width: u32, scheme: &str) {
        self.call(json!(["open", url, width, scheme])).await;
    }

    /// Waits until `condition`, in JavaScript, holds.
    pub async fn until(&mut self, condition: &str) {
        self.call(json!(["until", condition])).await;
    }

    /// Waits until the text of the element `selector` has `text` in it.
    pub async fn until_text(&mut self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        let condition =
            format!("document.querySelector({selector})?.textContent.includes({text}) ?? false");
        self.until(&condition).await;
    }

    /// The value of `expression`, in JavaScript.
    pub async fn value(&mut self, expression: &str) -> Value {
        self.call(json!(["value", expression])).await
    }

    /// Clicks at the one element `selector`.
    pub async fn click(&mut self, selector: &str) {
        self.call(json!(["click", selector])).await;
    }

    /// Writes `text` into a field.
    pub async fn fill(&mut self, selector: &str, text: &str) {
        self.call(json!(["fill", selector, text])).await;
    }

    /// Presses keys, one after the other.
    pub async fn press(&mut self, keys: &[&str]) {
        self.call(json!(["press", keys])).await;
    }

    /// Puts a picture of the whole page into a file.
    pub async fn shot(&mut self, path: &Path) {
        self.call(json!(["shot", path])).await;
    }

    /// What the console said since the page was opened, and whom else the page asked.
    pub async fn complaints(&mut self) -> Value {
        self.call(json!(["complaints_so_far"])).await
    }

    async fn call(&mut self, call: Value) -> Value {
        let line = format!("{call}\n");
        self.commands.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        // It has a patience of its own, and its words fail the test.
        let said = self.said.recv().await.unwrap_or_else(|| panic!("it ended at {call}"));
        let mut said: Value = serde_json::from_str(&said).unwrap();
        assert!(said["error"].is_null(), "{call}: {}", said["error"].as_str().unwrap_or_default());
        said["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.commands.take());
        // It ends by itself after a while, whatever happens.
        let _ = self.child.wait();
    }
}
