//! The binary as a user starts it: arguments, variables, what it prints, how it ends.
//!
//! It listens where it is told, which in tests is port 0, and is asked afterwards where that was:
//! it says so itself in its log. Its output goes to files, so it never waits for a reader.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::choose_crypto;
use crate::support::process::Process;
use crate::support::wait::{PATIENCE, eventually, poll};

/// A run of the binary; it ends when this is dropped.
#[derive(Debug)]
pub struct Program {
    process: Process,
    folder: TempDir,
}

impl Program {
    /// Runs the binary with `args`, and with the variables `env` and no others.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::run(Command::new(BINARY), args, env)
    }

    /// The same, told by the system of a file that may not grow rather than ended for it.
    pub fn start_on_full_disk(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", BINARY]);
        Self::run(shell, args, env)
    }

    /// The same with the `sockets` as descriptors 3, 4 and 5, of these `names`, as systemd hands them
    /// over; three at most, since they come by way of a shell's standard files.
    pub fn start_with(
        sockets: Vec<OwnedFd>,
        names: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let (count, mut sockets) = (sockets.len(), sockets.into_iter().map(Stdio::from));
        let mut shell = Command::new("/bin/sh");
        let script = "exec 3<&0 4<&1 5<&2 0<&- >\"$STDOUT\" 2>\"$STDERR\"; unset STDOUT STDERR; \
                      export LISTEN_PID=$$; exec \"$0\" \"$@\"";
        shell.args(["-c", script, BINARY]).args(args).env_clear().envs(env.iter().copied());
        shell.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names);
        let folder = tempfile::tempdir().unwrap();
        shell.env("STDOUT", folder.path().join(STDOUT)).env("STDERR", folder.path().join(STDERR));
        let mut next = || sockets.next().unwrap_or_else(Stdio::null);
        shell.stdin(next()).stdout(next()).stderr(next());
        // There before it is looked at.
        for name in [STDOUT, STDERR] {
            File::create(folder.path().join(name)).unwrap();
        }
        Self { process: Process::spawn_as_it_is(&mut shell), folder }
    }

    fn run(mut command: Command, args: &[&str], env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        command.args(args).env_clear().envs(env.iter().copied());
        command.stdout(file(STDOUT)).stderr(file(STDERR));
        Self { process: Process::spawn(&mut command), folder }
    }

    /// Starts the demo on ports that the system chooses, and waits until it is ready.
    pub async fn demo() -> Self {
        let demo = Self::start(&["demo", "--dns", ANY_PORT, "--admin", ANY_PORT], &[]);
        demo.ready().await;
        demo
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        choose_crypto();
        let url = format!("http://{}/ready", self.admin_address().await);
        let is_ready = async || reqwest::get(&url).await.is_ok_and(|reply| reply.status() == 200);
        eventually("the program is ready", is_ready).await;
    }

    /// Where it answers DNS.
    pub async fn dns_address(&self) -> SocketAddr {
        self.listening().await.0
    }

    /// Where its admin port is.
    pub async fn admin_address(&self) -> SocketAddr {
        self.listening().await.1
    }

    /// The exit status that it ends with.
    pub async fn status(&mut self) -> Option<i32> {
        self.process.ended().await.code()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends the signal `name`, as in `TERM`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join(STDOUT)).unwrap()
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join(STDERR)).unwrap()
    }

    /// The first DNS address and the admin address of the log line that has them.
    async fn listening(&self) -> (SocketAddr, SocketAddr) {
        let told = poll(PATIENCE, async || {
            let log = self.stderr();
            let (_, addresses) = log.split_once(" dns=[")?;
            let (dns, admin) = addresses.split_once("] admin=")?;
            let (admin, _) = admin.split_once('\n')?;
            Some((dns.split(", ").next()?.parse().unwrap(), admin.parse().unwrap()))
        });
        told.await.unwrap_or_else(|| panic!("it does not listen:\n{}", self.stderr()))
    }
}

/// For the system to choose.
pub const ANY_PORT: &str = "127.0.0.1:0";

const BINARY: &str = env!("CARGO_BIN_EXE_fingerpost");

const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
