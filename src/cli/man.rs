//! `fingerpost man`: the manual page, made of what `--help` says.
//!
//! One page for all subcommands, each in a section of its own, since a page each would have to be
//! found by names that nobody looks for.

use std::io;
use std::io::Write;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// Prints the page for `command` on `out`; returns the exit status.
pub fn run(command: Command, out: &mut dyn Write) -> u8 {
    match print(command, out) {
        Ok(()) => 0,
        Err(_) => EX_FAILURE,
    }
}

fn print(command: Command, out: &mut dyn Write) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    // Now each subcommand knows by which words it is called.
    command.build();
    let page = Man::new(command.clone()).manual("User Commands");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for subcommand in command.get_subcommands() {
        section(subcommand, out)?;
    }
    exit_status(out)
}

/// The parts of a subcommand's own page, a level lower.
fn section(subcommand: &Command, out: &mut dyn Write) -> io::Result<()> {
    let mut title = Roff::new();
    title.control("SH", [subcommand.get_name().to_uppercase().as_str()]);
    write!(out, "{}", title.render())?;

    // These two are the same everywhere, and are told at the top.
    let without = |command: Command, flag| command.mut_arg(flag, |flag| flag.hide(true));
    let page = Man::new(without(without(subcommand.clone(), "help"), "version"));
    let mut parts = Vec::new();
    page.render_synopsis_section(&mut parts)?;
    page.render_description_section(&mut parts)?;
    page.render_options_section(&mut parts)?;
    for line in String::from_utf8_lossy(&parts).lines() {
        match line.strip_prefix(".SH ") {
            Some(title) => writeln!(out, ".SS {title}")?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

fn exit_status(out: &mut dyn Write) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in STATUSES {
        section.control("TP", []).text([bold(status)]).text([roman(meaning)]);
    }
    write!(out, "{}", section.render())
}

const STATUSES: [(&str, &str); 4] = [
    ("0", "Ended by SIGTERM or SIGINT; nothing wrong, no difference."),
    ("1", "Something could not be started or printed, or verify found a difference."),
    ("2", "An unknown flag or subcommand, or a value missing; verify could not ask."),
    ("78", "The configuration is wrong, or a file that it names cannot be used."),
];

const EX_FAILURE: u8 = 1;
