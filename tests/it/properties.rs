//! What holds for every catalogue and for every message, tried on thousands of random ones.
//!
//! The random numbers are drawn from a fixed seed, so a test that passes once always does.

mod asking;
mod building;
mod decoding;
mod domains;
mod existence;
mod health;
mod parsing;
mod pointing;
mod replying;
mod soundness;
mod warming;
