//! `fingerpost check`: what is wrong with a configuration, key by key; nothing is started.
//!
//! It reads what `serve` would read, the environment and the files that are named included, so that
//! both judge alike.

use std::io;
use std::io::Write;
use std::path::Path;

use crate::cli::files;
use crate::config::Config;
use crate::config::Flags;
use crate::config::Sources;

/// What becomes of the files that a configuration names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Named {
    /// They are of another machine.
    Left,
    /// They are opened as at the start of a server.
    Opened,
}

/// Checks `file` with `env`, and the files that they name, and says what was found; returns the exit status.
///
/// 0 and `FILE: ok` with the remarks on `out`, or 78 and a line for each mistake on `err`. 1 when
/// that could not be written.
pub fn check(
    file: Option<&Path>,
    named: Named,
    env: Vec<(String, String)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    // Whoever closed the output has seen enough; the status still tells.
    report(file, named, env, out, err).unwrap_or(EX_FAILURE)
}

fn report(
    file: Option<&Path>,
    named: Named,
    env: Vec<(String, String)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut sources = Sources { file: None, env, flags: Flags::default() };
    if let Some(path) = file {
        match std::fs::read_to_string(path) {
            Ok(text) => sources.file = Some((path.to_owned(), text)),
            Err(error) => {
                writeln!(err, "{}: {error}", path.display())?;
                return Ok(EX_CONFIG);
            }
        }
    }
    let loaded = match Config::load(sources) {
        Ok(loaded) => loaded,
        Err(errors) => {
            writeln!(err, "{errors}")?;
            return Ok(EX_CONFIG);
        }
    };
    if let (Named::Opened, Err(mistakes)) = (named, files::open(&loaded.config)) {
        writeln!(err, "{}", mistakes.join("\n"))?;
        return Ok(EX_CONFIG);
    }
    let name = file.map_or_else(|| "environment".into(), Path::to_string_lossy);
    writeln!(out, "{name}: ok")?;
    for remark in &loaded.remarks {
        writeln!(out, "{remark}")?;
    }
    if named == Named::Opened {
        for remark in files::remarks(&loaded.config) {
            writeln!(out, "{remark}")?;
        }
    }
    Ok(0)
}

/// `EX_CONFIG` of `sysexits.h`: the configuration is wrong.
const EX_CONFIG: u8 = 78;

const EX_FAILURE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, standard output and standard error, with the folder's name taken out.
    fn run(text: Option<&str>, env: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fingerpost.toml");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let env = env.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = check(Some(&path), Named::Opened, env, &mut out, &mut err);
        let said = [out, err].map(|bytes| String::from_utf8(bytes).unwrap());
        format!("{status}\nout {}err {}", said[0], said[1])
            .replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn a_sound_file_is_ok_and_remarked_on() {
        assert_eq!(run(Some("[dns]\nworkers = 2\n"), &[]), "0\nout fingerpost.toml: ok\nerr ");
        assert_eq!(
            run(
                Some("[dns_config]\nuse_cache = true\n"),
                &[("FINGERPOST_PORT", "tcp://10.0.0.1:53")]
            ),
            "0\nout fingerpost.toml: ok\n\
             fingerpost.toml:2: dns_config.use_cache: means nothing here: \
             every answer comes from memory anyway\n\
             environment: FINGERPOST_PORT: no such key, ignored\nerr ",
        );
    }

    #[test]
    fn every_mistake_is_a_line() {
        assert_eq!(
            run(Some("[dns]\nworkers = 999\nworker = 1\n"), &[("FINGERPOST_LOG_LEVEL", "loud")]),
            "78\nout err \
             fingerpost.toml:2: dns.workers = 999: must be a whole number from 0 to 256\n\
             fingerpost.toml:3: dns.worker: unknown key; did you mean dns.workers?\n\
             environment: FINGERPOST_LOG_LEVEL = loud: \
             must be one of error, warn, info, debug, trace\n",
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        assert_eq!(
            run(None, &[]),
            "78\nout err fingerpost.toml: No such file or directory (os error 2)\n",
        );
    }

    #[test]
    fn without_a_file_the_environment_is_judged() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(check(None, Named::Opened, Vec::new(), &mut out, &mut err), 0);
        assert_eq!(String::from_utf8(out).unwrap(), "environment: ok\n");
    }

    #[test]
    fn each_file_that_is_named_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("empty"), "").unwrap();
        std::fs::write(path("catalog"), "{\"nodes\": [{\"name\": \"n\"}]}").unwrap();
        let said = |text: &str, named| {
            let file = folder.path().join("f.toml");
            std::fs::write(&file, text.replace('@', &format!("{}/", folder.path().display())))
                .unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let status = check(Some(&file), named, Vec::new(), &mut out, &mut err);
            let said = String::from_utf8([out, err].concat()).unwrap();
            format!("{status} {said}").replace(&format!("{}/", folder.path().display()), "")
        };
        for (text, expected) in [
            (
                "[consul]\naddresses = \"https://c\"\nca_file = \"@ca\"\ncert_file = \"@empty\"\n\
                 key_file = \"@empty\"\ntoken_file = \"@empty\"\n[snapshot]\npath = \"@none/s\"\n\
                 [dns]\ncookie_secrets_file = \"@none\"\ncert_file = \"@none\"\nkey_file = \"@none\"",
                "78 snapshot.path = \"none/s\": its folder is not there, create it\n\
                 dns.cookie_secrets_file: cannot read none: No such file or directory (os error 2)\n\
                 dns.cert_file: cannot read none: I/O error: No such file or directory (os error 2)\n\
                 dns.key_file: cannot read none: I/O error: No such file or directory (os error 2)\n\
                 consul.ca_file: cannot read ca: I/O error: No such file or directory (os error 2)\n\
                 consul.cert_file: no certificate in empty\n\
                 consul.key_file: cannot read empty: no items found\n\
                 consul.token_file: the token file empty is empty\n",
            ),
            (
                "catalog.file = \"@catalog\"",
                "78 catalog: nodes[0].address is missing; it must be an IP address other than \
                 0.0.0.0 and ::, or a hostname, without a port\n",
            ),
            (
                "catalog.file = \"@none\"",
                "78 catalog.file: cannot read none: No such file or directory (os error 2)\n",
            ),
            // Nobody may make a file there, root included, and the server starts all the same.
            (
                "snapshot.path = \"/proc/self/s\"",
                "0 f.toml: ok\nsnapshot.path: no file can be made in its folder, so none is kept: \
                 No such file or directory (os error 2)\n",
            ),
            ("snapshot.path = \"@s\"", "0 f.toml: ok\n"),
        ] {
            assert_eq!(said(text, Named::Opened), expected, "{text}");
            assert_eq!(said(text, Named::Left), "0 f.toml: ok\n", "{text}");
        }
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 3, "the two files and the configuration");
    }
}
