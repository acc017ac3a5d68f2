//! `fingerpost completions`: what a shell must know to complete our flags, for it to read.

use std::io;
use std::io::Write;

use clap::{Command, ValueEnum};
use clap_complete::{Generator, shells};

/// A shell that reads such a script.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shell {
    /// As a file in /usr/share/bash-completion/completions, or sourced.
    Bash,
    /// As a file in ~/.config/fish/completions.
    Fish,
    /// As a file _fingerpost in a folder of $fpath.
    Zsh,
}

/// Prints the script of `shell` for `command` on `out`; returns the exit status.
pub fn run(command: Command, shell: Shell, out: &mut dyn Write) -> u8 {
    match print(command, shell, out) {
        Ok(()) => 0,
        Err(_) => EX_FAILURE,
    }
}

fn print(mut command: Command, shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    let name = command.get_name().to_owned();
    command.set_bin_name(name);
    command.build();
    match shell {
        Shell::Bash => shells::Bash.try_generate(&command, out),
        Shell::Fish => shells::Fish.try_generate(&command, out),
        Shell::Zsh => shells::Zsh.try_generate(&command, out),
    }
}

const EX_FAILURE: u8 = 1;
