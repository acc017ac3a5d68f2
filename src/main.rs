//! Arguments, signals and exit codes; everything else is the library's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use fingerpost::build;
use fingerpost::cli;
use fingerpost::cli::check::Named;
use fingerpost::cli::completions::Shell;
use fingerpost::config::Flags;

/// An authoritative DNS server for *.consul that answers from memory.
#[derive(Debug, Parser)]
#[command(name = "fingerpost", version = build::DESCRIPTION, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer DNS from a Consul's catalogue, or from a catalogue file.
    Serve(Serve),
    /// Answer DNS from a small catalogue that is compiled in; no Consul needed.
    Demo(Listen),
    /// Say what is wrong with a configuration, key by key.
    Check(Check),
    /// Say why a running server answers a question as it does.
    Explain(Explain),
    /// Compare what a running server answers with what Consul has.
    Verify(Verify),
    /// Print what a Consul agent's configuration means here, as a configuration with comments.
    Import(Import),
    /// Print a script by which a shell completes the flags of this program.
    Completions(Completions),
    /// Print the manual page, as a file fingerpost.1 would have it.
    Man,
}

#[derive(Args, Debug)]
struct Serve {
    /// The configuration, in TOML. Without it: defaults, environment and flags.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    listen: Listen,
    /// Consul's address; repeat it, and the next one is tried when one fails [default:
    /// http://127.0.0.1:8500].
    #[arg(long, value_name = "URL")]
    consul: Vec<String>,
    /// Serve this catalogue file instead of a Consul, and re-read it when it changes.
    #[arg(long, value_name = "FILE", conflicts_with = "consul")]
    catalog: Option<PathBuf>,
    /// Keep the catalogue in this file, and answer from it at the next start until Consul is heard.
    #[arg(long, value_name = "FILE", conflicts_with = "catalog")]
    snapshot: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Listen {
    /// Where to answer DNS, over UDP and TCP; may be repeated [default: 127.0.0.1:8653].
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Vec<String>,
    /// Where to serve /health, /ready and /metrics [default: 127.0.0.1:8654].
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,
}

#[derive(Args, Debug)]
struct Check {
    /// The configuration, in TOML. Without it: the environment alone.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do not open the files that it names, which are of another machine.
    #[arg(long)]
    no_files: bool,
}

#[derive(Args, Debug)]
struct Explain {
    /// The name to be explained.
    name: String,
    /// The type of record that is asked for.
    #[arg(value_name = "TYPE", default_value = "A")]
    rtype: String,
    /// The server's configuration, in TOML. Without it: defaults and environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where its admin port is [default: admin.listen].
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// Who asks, where answers depend on it [default: 127.0.0.1].
    #[arg(long, value_name = "IP")]
    client: Option<String>,
    /// How many bytes that client takes over UDP; 0 is without EDNS [default: 1232].
    #[arg(long, value_name = "BYTES")]
    bytes: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Verify {
    /// The server's configuration, in TOML. Without it: defaults and environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the server answers DNS [default: the first of dns.listen].
    #[arg(long, value_name = "ADDR:PORT")]
    server: Option<SocketAddr>,
    /// Where its admin port is, which tells what it holds [default: admin.listen, without --server].
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// Consul's address; repeat it, and the next one is tried when one fails.
    #[arg(long, value_name = "URL")]
    consul: Vec<String>,
    /// A datacenter to compare; may be repeated [default: the agent's own].
    #[arg(long, value_name = "NAME")]
    datacenter: Vec<String>,
}

#[derive(Args, Debug)]
struct Import {
    /// Files that end in .json or .hcl, and folders of them, in the order in which Consul reads them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
struct Completions {
    /// Which shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

fn main() -> ExitCode {
    // A name that is no unicode is none of ours. A value is read as far as it is text, so that one
    // of ours is refused rather than passed over.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        })
        .collect();
    let code = match Arguments::parse().command {
        Command::Serve(serve) => {
            let flags = Flags {
                dns: serve.listen.dns,
                admin: serve.listen.admin,
                consul: serve.consul,
                catalog: serve.catalog,
                snapshot: serve.snapshot,
            };
            cli::serve::run(serve.config.as_deref(), env, flags)
        }
        Command::Demo(listen) => {
            let flags = Flags { dns: listen.dns, admin: listen.admin, ..Flags::default() };
            cli::demo::run(env, flags)
        }
        Command::Check(check) => {
            let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
            let named = if check.no_files { Named::Left } else { Named::Opened };
            cli::check::check(check.config.as_deref(), named, env, out, err)
        }
        Command::Explain(explain) => {
            let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
            let terms = cli::explain::Terms {
                config: explain.config,
                admin: explain.admin,
                name: explain.name,
                rtype: explain.rtype,
                client: explain.client,
                bytes: explain.bytes,
                json: explain.json,
            };
            cli::explain::run(&terms, env, out, err)
        }
        Command::Verify(verify) => {
            let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
            let terms = cli::verify::Terms {
                config: verify.config,
                consul: verify.consul,
                server: verify.server,
                admin: verify.admin,
                datacenters: verify.datacenter,
            };
            cli::verify::run(&terms, env, out, err)
        }
        Command::Import(Import { files }) => {
            let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
            cli::import::run(&files, out, err)
        }
        Command::Completions(Completions { shell }) => {
            cli::completions::run(Arguments::command(), shell, &mut std::io::stdout())
        }
        Command::Man => cli::man::run(Arguments::command(), &mut std::io::stdout()),
    };
    ExitCode::from(code)
}
