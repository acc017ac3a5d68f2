//! A child process that ends with its owner, whatever happens to the owner.
//!
//! Dropping it kills it, also while a test panics. When the test program itself is killed nothing
//! is dropped; then a second child does it, the leash: a shell that waits for the end of a pipe
//! which only this program holds open.

use std::process::{Child, Command, ExitStatus, Stdio};

use crate::support::wait::{self, PATIENCE};

/// A child process on a leash.
#[derive(Debug)]
pub struct Process {
    child: Child,
    leash: Child,
    /// How it ended, once that was asked for; from then on its pid may be another's.
    end: Option<ExitStatus>,
}

impl Process {
    /// Runs `command`, with nothing to read from its standard input.
    pub fn spawn(command: &mut Command) -> Self {
        Self::spawn_as_it_is(command.stdin(Stdio::null()))
    }

    /// Runs `command` with the standard input that it says.
    pub fn spawn_as_it_is(command: &mut Command) -> Self {
        let child = command.spawn().unwrap();
        let leash = leash(child.id());
        Self { child, leash, end: None }
    }

    /// Its end, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.end = self.child.try_wait().unwrap();
        self.end
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = wait::poll(PATIENCE, async || self.exited()).await;
        ended.unwrap_or_else(|| panic!("process {} goes on after {PATIENCE:?}", self.pid()))
    }

    /// Ends it with SIGKILL and waits for that; nothing when it has ended already.
    pub fn kill(&mut self) {
        // The leash goes first: it must not outlive the process and hit another of the same pid.
        let _ = self.leash.kill();
        let _ = self.leash.wait();
        let _ = self.child.kill();
        self.end = self.child.wait().ok();
    }

    /// Sends the signal `name`, as in `TERM`.
    ///
    /// # Panics
    ///
    /// When the process is known to have ended.
    pub fn signal(&self, name: &str) {
        assert_eq!(self.end, None, "process {} has ended", self.pid());
        // The shell's own `kill`, since a small machine has no other.
        let script = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success(), "{script}: {status}");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell that kills `pid` once nobody holds the other end of its standard input.
fn leash(pid: u32) -> Child {
    Command::new("sh")
        .args(["-c", "read -r _; kill -KILL \"$0\"", &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[tokio::test]
    async fn a_process_ends_when_its_leash_is_let_go() {
        let mut process = Process::spawn(Command::new("sleep").arg("600"));
        drop(process.leash.stdin.take());
        assert_eq!(process.ended().await.signal(), Some(9));
    }
}
