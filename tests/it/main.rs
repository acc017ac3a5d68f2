//! The integration tests, one binary so that they link once; see `tests/run`.

// Helpers outside `#[test]` functions fail a test as a test does: by a panic that says why.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
// `pub` says what a module offers to the others, here as in the library.
#![allow(unreachable_pub)]

mod support;

mod access;
mod activated;
mod behind;
mod chaos;
mod checking;
mod checklist;
mod cli;
mod clients;
mod connections;
mod costs;
mod differential;
mod dnstap;
mod events;
mod explaining;
mod fairness;
mod faults;
mod foreign;
mod forwarding;
mod frames;
mod garbage;
mod hosts;
mod https;
mod https3;
mod https_bounds;
mod image;
mod importing;
mod kept;
mod large;
mod living;
mod manual;
mod openapi;
mod page;
mod prometheus;
mod properties;
mod queries;
mod quic;
mod readme;
mod real_consul;
mod recursors;
mod refused;
mod reloading;
mod restarts;
mod scenario_format;
mod scenarios;
mod scripted_consul;
mod scripted_guard;
mod secrets;
mod sharing;
mod small_print;
mod stale;
mod stopping;
mod streams;
mod supervised;
mod tls;
mod units;
mod unlisted;
mod verifying;
mod warm;
