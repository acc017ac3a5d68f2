//! fingerpost: an authoritative DNS server for `*.consul` that answers from memory.
//!
//! Two planes that meet in one place. A *source* (a Consul, or a catalogue file) hears of changes
//! and publishes snapshots of the catalogue; the *listeners* answer every query from the snapshot
//! that is there. No query waits for Consul, but for what was never heard.
//!
//! # The floors
//!
//! A module uses modules of lower floors only. `tests/tidy.rs` reads this table and holds the
//! source against it, so a new module needs a place here.
//!
//! ```text
//! 10  main lib                            arguments, exit codes; this map
//! 9  cli                                  the subcommands, one of them serve
//! 8  app                                  binds, wires, runs, drains; nothing else knows all parts
//! 7  admin consul dns dnstap file forward querylog warm   the shells; none knows another
//! 6  publisher tap                        changes -> the snapshot; queries -> who is told of them
//! 5  metrics supervisor telemetry         what is counted, what is told, what is logged
//! 4  board clock config demand news pem store  what shells share: time, settings, wishes, changes
//! 3  build explain machine stamp          version; why an answer is so; what the system says of us; files that are read again
//! 2  answer nearest                       question + snapshot -> reply; the word that was meant
//! 1  catalog                              changes -> snapshot, its records encoded
//! 0  name wire                            what a name means; bytes of DNS
//! ```
//!
//! # The life of a query
//!
//! ```text
//!  dns    bytes in --> answer::respond --> bytes out, unchanged; the outcome is counted
//!  tap      and told, where there is a query log or a collector of dnstap
//!  wire     Query      header, question, EDNS         refused: FORMERR, NOTIMP, BADVERS, silence
//!  name     Lookup     subject and datacenter         a name in no zone of ours: foreign
//!  answer   Finding    what the catalogue has, whatever the type
//!  answer   records    of the type, picked by the seed up to the limits    none: the SOA
//!  wire     Reply      slices copied one after the other, OPT, size limit, TC
//! ```
//! What is not in memory makes `respond` say [`Wants`](answer::Outcome::Wants) and no reply. The
//! listener sends the wish through [`demand`] to the source, or to the forwarder; lets the query
//! wait outside its loop, and asks `respond` again: a second time it may not want, it answers or
//! is SERVFAIL. A recursor's reply is a message of its own: it is only fitted to the client.
//!
//! # The life of a change
//!
//! ```text
//!  consul   a blocking query returns, or a fetch for a question or behind the answers
//!             --> api --> catalog::Change
//!  publisher  Builder::apply: records are encoded, what did not change is shared
//!  store      one pointer is replaced; the next query sees it
//!  news       what is different goes to who looks on at the admin port, if anybody does
//!  warm       what changed is written to a file, every few seconds; the next start publishes it
//! ```
//!
//! # Invariants
//!
//! - The core (`name`, `wire`, `catalog`, `answer`) does no IO, reads no clock, draws no random
//!   number, logs nothing and cannot fail. Time and seed are arguments.
//! - NXDOMAIN is said only of what the catalogue's own lists lack; before they were heard it is
//!   SERVFAIL. If a name has data, none of its parents is NXDOMAIN, whatever the type.
//! - A critical instance is in no answer, as its records are never encoded; but for one that a
//!   prepared query asks for all the same.
//! - What was heard last is answered until something newer is, and says so where it may be old:
//!   losing Consul loses nothing; nor does a restart where a snapshot file is kept.
//! - `store` alone holds what threads share and replace; per query there is no lock.
//! - Everything that comes from outside has a bound: bytes, connections, waiting queries, series.

pub mod admin;
pub mod answer;
pub mod app;
pub mod board;
pub mod build;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consul;
pub mod demand;
pub mod dns;
pub mod dnstap;
pub mod explain;
pub mod file;
pub mod forward;
pub mod machine;
pub mod metrics;
pub mod name;
pub mod nearest;
pub mod news;
pub mod pem;
pub mod publisher;
pub mod querylog;
pub mod stamp;
pub mod store;
pub mod supervisor;
pub mod tap;
pub mod telemetry;
pub mod warm;
pub mod wire;
