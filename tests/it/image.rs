//! The Dockerfile is right as far as reading it can tell; no engine is needed to build it.

use std::path::Path;

const CI: &str = include_str!("../../.ci/run");
const DOCKERFILE: &str = include_str!("../../Dockerfile");
const IGNORED: &str = include_str!("../../.dockerignore");
const MANIFEST: &str = include_str!("../../Cargo.toml");

#[test]
fn each_path_that_the_image_copies_is_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copied: Vec<&str> = instructions("COPY")
        .filter(|copy| !copy.starts_with("--from="))
        .flat_map(|copy| copy.rsplit_once(' ').unwrap().0.split(' '))
        .collect();
    assert!(!copied.is_empty());
    for path in copied {
        assert!(root.join(path).exists(), "COPY {path}: there is no such path");
    }
}

#[test]
fn what_the_build_reads_is_not_ignored() {
    for path in ["Cargo.lock", "Cargo.toml", "benches", "config", "src", "tests"] {
        assert!(!IGNORED.lines().any(|line| line == path), ".dockerignore leaves out {path}");
    }
}

#[test]
fn the_image_runs_the_binary_that_cargo_builds() {
    let manifest: toml::Table = MANIFEST.parse().unwrap();
    let name = manifest["bin"][0]["name"].as_str().unwrap();
    let copy = instructions("COPY").find(|copy| copy.starts_with("--from=build ")).unwrap();
    let [_, built, installed] = copy.split(' ').collect::<Vec<_>>()[..] else {
        panic!("COPY {copy}: one binary from the build");
    };
    assert_eq!(built, format!("/src/target/release/{name}"));
    assert_eq!(only("ENTRYPOINT"), format!("[\"{installed}\"]"));
    assert_eq!(only("WORKDIR"), "/src");
}

#[test]
fn what_the_image_runs_to_build_is_run_by_ci_too() {
    // Here no engine builds the image, so this is how its one step is known to work.
    assert!(CI.contains(&format!(" {}\n", only("RUN"))));
}

#[test]
fn the_image_is_built_by_the_rust_of_the_manifest() {
    let manifest: toml::Table = MANIFEST.parse().unwrap();
    let version = manifest["package"]["rust-version"].as_str().unwrap();
    let build = instructions("FROM").next().unwrap();
    assert!(build.starts_with(&format!("rust:{version}-")), "FROM {build}, not {version}");
}

#[test]
fn the_image_runs_as_nobody_by_number() {
    // By number, since an orchestrator that asks for "not root" cannot look a name up.
    assert_eq!(only("USER"), "65534:65534");
}

/// The arguments of each instruction `name`, in order.
fn instructions(name: &str) -> impl Iterator<Item = &'static str> {
    DOCKERFILE.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(' '))
}

#[track_caller]
fn only(name: &str) -> &'static str {
    let mut found = instructions(name);
    let first = found.next().unwrap();
    assert_eq!(found.next(), None, "more than one {name}");
    first
}
