//! Arguments, signals and exit codes; everything else is the library's.

fn main() {}
