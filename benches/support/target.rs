//! What a bench aims for: a figure of every round, a bound, and whether it is kept.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use serde_json::{Value, json};

use crate::figures::Figures;

/// One that was measured.
pub struct Target {
    /// Which figure, and its bound.
    pub text: String,
    /// Round by round.
    pub figures: Figures,
    pub bound: Bound,
}

/// Where a figure is to be.
#[derive(Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    /// A target is met when both quartiles are.
    pub fn is_met(&self) -> bool {
        let [low, _, high] = self.figures.quartiles();
        match self.bound {
            Bound::AtLeast(bound) => low >= bound,
            Bound::AtMost(bound) => high <= bound,
        }
    }

    /// The same in a word.
    pub fn verdict(&self) -> &'static str {
        verdict(self.is_met())
    }

    pub fn json(&self) -> Value {
        let [low, middle, high] = self.figures.quartiles();
        let figure = json!({ "median": middle, "quartiles": [low, high] });
        json!({ "target": self.text, "figure": figure, "verdict": self.verdict() })
    }
}

/// Prints all of a bench's.
pub fn print(targets: &[Target]) {
    println!("\ntargets:");
    for target in targets {
        let Target { text, figures, .. } = target;
        println!("  {text:<66} {figures}  {}", target.verdict());
    }
}

/// How a target fared.
pub fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}
