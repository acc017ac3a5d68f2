//! The tests that see the program from outside, in one binary: one link, many modules.

pub mod support;

#[cfg(test)]
mod scenario_format;
