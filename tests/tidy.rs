//! The rules of the house that a machine can check, each a test.
//!
//! Every complaint says where, and what to do. The source is read as text, line by line, in the
//! form that rustfmt gives it: comments are left out, and so are unit tests where a rule is about
//! the program. The floors are those of the table in `src/lib.rs`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One file, with its path from the root of the repository.
struct Source {
    path: String,
    text: String,
    /// The number of lines before the unit tests at the end.
    program_lines: usize,
}

impl Source {
    /// The lines of the program and their numbers, comments off.
    fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take(self.program_lines)
    }

    /// All lines and their numbers, comments off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines().map(without_comment))
    }

    /// `catalog` for `src/catalog/builder.rs` and for `src/catalog.rs`.
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
    }

    /// The header: the lines `//!` that the file opens with.
    fn header(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| line.starts_with("//!"))
    }
}

#[test]
fn every_module_has_a_floor() {
    let floors = floors();
    let mut complaints = Vec::new();
    for source in program() {
        if !floors.contains_key(source.module()) {
            complaints.push(format!("{}: give it a place in the table of src/lib.rs", source.path));
        }
    }
    for module in floors.keys() {
        if !program().iter().any(|source| source.module() == module) {
            complaints.push(format!("src/lib.rs: `{module}` is in the table and nowhere else"));
        }
    }
    check(&complaints);
}

#[test]
fn modules_use_lower_floors_only() {
    let floors = floors();
    let mut complaints = Vec::new();
    for source in program() {
        let floor = floors.get(source.module()).copied().unwrap_or_default();
        for (number, line) in source.program() {
            for used in crate_paths(line) {
                let is_below = floors.get(used).is_none_or(|used| *used < floor);
                if used != source.module() && !is_below {
                    complaints.push(format!(
                        "{}:{number}: floor {floor} uses `{used}`, which is no lower: move what \
                         is shared down, or hand it in from `app`",
                        source.path
                    ));
                }
            }
        }
    }
    check(&complaints);
}

/// Other forms would hide from the floors what is used.
#[test]
fn paths_into_the_crate_are_written_out() {
    let mut complaints = Vec::new();
    for source in program() {
        for (number, line) in source.program() {
            let what = if line.contains("crate::{") {
                "one `use crate::module::…` for each module"
            } else if line.contains("crate::*") || line.contains("super::") {
                "write `crate::module::…` out"
            } else if line.trim_start().starts_with("use ") && line.ends_with("::*;") {
                "name what is imported"
            } else {
                continue;
            };
            complaints.push(format!("{}:{number}: {what}", source.path));
        }
    }
    check(&complaints);
}

#[test]
fn the_core_knows_no_world() {
    complain_of_words(
        &OUTSIDE,
        |source| floors()[source.module()] <= CORE_FLOOR,
        "the core is given time, chance and bytes as arguments; let a shell do this",
    );
}

#[test]
fn only_the_store_names_arc_swap() {
    complain_of_words(
        &["ArcSwap", "ArcSwapAny", "ArcSwapOption", "arc_swap"],
        |source| source.path != "src/store.rs",
        "share it through `store::Cell`",
    );
}

#[test]
fn the_clock_that_people_set_decides_nothing() {
    // When the program started, the SOA's serial, and the time of a file.
    let reads_it = ["src/clock.rs", "src/publisher.rs", "src/warm/disk.rs"];
    complain_of_words(
        &["SystemTime", "UNIX_EPOCH"],
        |source| !reads_it.contains(&&*source.path),
        "take the time from `clock::Clock`, which nobody sets",
    );
}

#[test]
fn only_the_listeners_name_socket_crates() {
    complain_of_words(&["socket2"], |source| source.module() != "dns", "open sockets in `dns`");
    complain_of_words(
        &["nix"],
        |source| !["dns", "machine"].contains(&source.module()),
        "open sockets in `dns`, ask the system of the process in `machine`",
    );
    let machine = program().into_iter().find(|source| source.path == "src/machine.rs").unwrap();
    assert!(machine.program().all(|(_, line)| !line.contains("socket")), "it opens none");
}

/// Files that run for each query. The words that allocate, lock or copy a count are not in them;
/// `wire::record` runs when the catalogue changes, and a policy is made at start. Above the core a hot file has a start and a
/// slow way out too, which no word tells from its loop, so there only locks are looked for.
#[test]
fn hot_files_do_not_allocate_or_lock() {
    let mut complaints = Vec::new();
    for source in program() {
        let says_hot = source.header().any(|line| line.contains("**Hot.**"));
        let is_hot_core = matches!(source.module(), "answer" | "name" | "wire")
            && !matches!(&*source.path, "src/wire/record.rs" | "src/answer/policy.rs");
        for (number, line) in source.program() {
            let costly = COSTLY.iter().filter(|_| is_hot_core);
            let locking = LOCKING.iter().filter(|_| is_hot_core || says_hot);
            for word in costly.chain(locking).filter(|word| line.contains(**word)) {
                complaints.push(format!(
                    "{}:{number}: `{word}` in a hot file: take a buffer of the caller's, or move \
                     it to where the catalogue changes",
                    source.path
                ));
            }
        }
    }
    check(&complaints);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let mut complaints = Vec::new();
    for source in everything() {
        let first = source.header().next().unwrap_or_default();
        if first.trim_start_matches("//!").trim().is_empty() {
            complaints.push(format!("{}:1: open with `//!` and what the file is", source.path));
        }
    }
    check(&complaints);
}

#[test]
fn files_have_at_most_500_lines() {
    let mut complaints = Vec::new();
    for source in everything() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            complaints.push(format!("{}: {lines} lines: one idea per file, cut it", source.path));
        }
    }
    check(&complaints);
}

#[test]
fn functions_have_at_most_70_lines() {
    let mut complaints = Vec::new();
    for source in everything() {
        let lines: Vec<&str> = source.text.lines().collect();
        for start in 0..lines.len() {
            let Some(length) = function_length(&lines[start..]) else { continue };
            if length > FUNCTION_LINES_MAX {
                let (path, number) = (&source.path, start + 1);
                complaints.push(format!("{path}:{number}: {length} lines: split it by its steps"));
            }
        }
    }
    check(&complaints);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut complaints = Vec::new();
    for source in everything().iter().filter(|source| source.path != "tests/tidy.rs") {
        for (number, line) in source.code() {
            for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{}:{number}: `{word}`: finish or remove", source.path));
            }
        }
    }
    check(&complaints);
}

#[test]
fn tests_wait_for_events_and_never_for_time() {
    let mut complaints = Vec::new();
    for source in everything() {
        let is_a_test = source.path.starts_with("tests/it/");
        for (number, line) in source.code() {
            // Unit tests pause the runtime's clock, and then its sleep takes no time.
            let sleeps = is_a_test && (line.contains("sleep(") || line.contains("sleep_until("));
            // A bench paces what it measures; it asserts nothing.
            let may_pace = source.path.starts_with("benches/") || source.path == "tests/tidy.rs";
            let blocks = !may_pace && line.contains("thread::sleep");
            if (sleeps || blocks) && source.path != "tests/it/support/wait.rs" {
                complaints.push(format!(
                    "{}:{number}: wait with `support::wait::eventually`, for what is to happen",
                    source.path
                ));
            }
        }
    }
    check(&complaints);
}

/// What the measures measure, shown on text.
#[test]
fn text_is_read_as_it_is_meant() {
    for (line, expected) in [
        ("use crate::wire::{A, B};", &["wire"][..]),
        ("let a = crate::name::x(crate::wire::Y);", &["name", "wire"]),
        ("pub(in crate::catalog) key: u8,", &["catalog"]),
        ("use fingerpost::cli;", &["cli"]),
        ("crate::{a, b}", &[""]),
    ] {
        assert_eq!(crate_paths(line).collect::<Vec<_>>(), expected, "{line}");
    }
    for (line, expected) in [
        ("code // comment", "code "),
        ("/// doc", ""),
        (r#"let url = "http://x"; // y"#, r#"let url = "http://x"; "#),
    ] {
        assert_eq!(without_comment(line), expected, "{line}");
    }
    for (text, expected) in [
        ("    pub async fn f(\n        a: u8,\n    ) {\n        g();\n    }\n}", Some(5)),
        ("fn f() {}\n}", Some(1)),
        ("    fn f(\n    ) -> u8;\n    fn g() {\n    }", Some(2)),
        ("struct Fn {\n}", None),
    ] {
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(function_length(&lines), expected, "{text}");
    }
}

/// Each module and its floor, from the table in the crate's documentation.
///
/// A line of it is `N  module module…  what they are`.
fn floors() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut floors = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! ")) {
        let Some((number, rest)) = line.split_once("  ") else { continue };
        let Ok(floor) = number.parse() else { continue };
        let modules = rest.split("  ").next().unwrap_or_default();
        floors.extend(modules.split(' ').map(|module| (module.to_owned(), floor)));
    }
    assert!(floors.len() > 10, "src/lib.rs: the table of floors cannot be read: {floors:?}");
    floors
}

/// The modules that `line` reaches into by `crate::`, or by the library's name in `main.rs`.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    ["crate::", "fingerpost::"].into_iter().flat_map(move |root| {
        line.match_indices(root).map(move |(at, root)| {
            let rest = &line[at + root.len()..];
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            &rest[..end]
        })
    })
}

#[track_caller]
fn complain_of_words(words: &[&str], concerns: impl Fn(&Source) -> bool, what_to_do: &str) {
    let mut complaints = Vec::new();
    for source in program().iter().filter(|source| concerns(source)) {
        for (number, line) in source.program() {
            for word in line.split(|c: char| !is_word(c)).filter(|word| words.contains(word)) {
                let path = &source.path;
                complaints.push(format!("{path}:{number}: names `{word}`: {what_to_do}"));
            }
        }
    }
    check(&complaints);
}

#[track_caller]
fn check(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The files of `src/` that are part of the program.
fn program() -> Vec<Source> {
    let sources = read("src");
    let mut test_files = Vec::new();
    for source in &sources {
        for (attribute, module) in source.text.lines().zip(source.text.lines().skip(1)) {
            let name = module.trim_start_matches("pub ").strip_prefix("mod ");
            let name = name.and_then(|name| name.strip_suffix(';'));
            if let (ON_TEST, Some(name)) = (attribute, name) {
                let folder = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
                test_files.push(format!("{folder}/{name}.rs"));
            }
        }
    }
    sources.into_iter().filter(|source| !test_files.contains(&source.path)).collect()
}

/// Every Rust file there is.
fn everything() -> Vec<Source> {
    ["src", "tests", "benches"].into_iter().flat_map(read).collect()
}

fn read(folder: &str) -> Vec<Source> {
    let root = root();
    let (mut folders, mut sources) = (vec![root.join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                let tests_at = lines.windows(2).position(|two| *two == [ON_TEST, "mod tests {"]);
                let program_lines = tests_at.unwrap_or(lines.len());
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text, program_lines });
            }
        }
    }
    assert!(!sources.is_empty(), "{folder} holds no source");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// `line` up to its comment. `//` behind a colon is a URL's.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// The lines of the function that starts on the first of `lines`; `None` if none does.
///
/// Rustfmt puts a function's last brace where its first line starts.
fn function_length(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    let code = first.trim_start();
    let indent = &first[..first.len() - code.len()];
    let mut words = code.split(' ');
    let is_qualifier = |word: &&str| word.starts_with("pub") || QUALIFIERS.contains(word);
    if words.find(|word| !is_qualifier(word))? != "fn" {
        return None;
    }
    let head = lines.iter().position(|line| line.ends_with(['{', '}', ';']))?;
    if !lines[head].ends_with('{') {
        return Some(head + 1);
    }
    let end = lines.iter().position(|line| line.strip_prefix(indent) == Some("}"))?;
    Some(end + 1)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The core is what stands on this floor or lower.
const CORE_FLOOR: usize = 2;

/// What does IO, reads the clock, draws numbers, logs, or knows a format of the outside.
const OUTSIDE: [&str; 23] = [
    "File",
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "axum",
    "fastrand",
    "fs",
    "hyper",
    "moka",
    "notify",
    "process",
    "prometheus",
    "rand",
    "reqwest",
    "rustls",
    "serde",
    "serde_json",
    "thread",
    "tokio",
    "tracing",
];

const COSTLY: [&str; 9] = [
    "Arc::clone",
    "Box::new",
    "String::",
    "Vec::new",
    "format!",
    "to_string()",
    "to_vec()",
    "vec!",
    "with_label_values",
];

const LOCKING: [&str; 3] = [".lock()", "Mutex", "RwLock"];

const UNFINISHED: [&str; 5] = ["#[ignore", "dbg!(", "todo!(", "unimplemented!(", "FIXME"];

const QUALIFIERS: [&str; 5] = ["async", "const", "crate::catalog)", "extern", "unsafe"];

const ON_TEST: &str = "#[cfg(test)]";

const FILE_LINES_MAX: usize = 500;

const FUNCTION_LINES_MAX: usize = 70;
