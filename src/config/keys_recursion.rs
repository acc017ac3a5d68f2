//! The rows of `[recursion]` in the table of keys: names that are not ours.
//!
//! Who is asked, and how, is spelled as in Consul: `recursors` and two keys of `[dns_config]`.
//! What Consul has no bound for is here.

use crate::config::key::Key;
use crate::config::key::Kind;

/// In the README's order.
pub static KEYS: &[Key] = &[
    Key::new(
        "recursion.allow",
        r#"["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"]"#,
        "The clients whose other names are forwarded; the rest is REFUSED. Open to all, as \
         `[\"0.0.0.0/0\", \"::/0\"]`, this server can be used to attack others.",
        Kind::Networks(|config, value| config.recursion.allow = value),
    ),
    Key::new(
        "recursion.cache_bytes_max",
        "16777216",
        "Memory for answers of the recursors, in bytes; 0 keeps none.",
        Kind::Whole {
            min: 0,
            max: 1_099_511_627_776,
            put: |config, value| config.recursion.cache_bytes_max = value as u64,
        },
    ),
    Key::new(
        "recursion.in_flight_max",
        "256",
        "Questions to the recursors under way at once, each with a socket; the next wait.",
        Kind::Whole {
            min: 1,
            max: 30_000,
            put: |config, value| config.recursion.in_flight_max = value,
        },
    ),
    Key::new(
        "recursion.waiting_max",
        "1024",
        "Queries that may wait for the recursors; one more is SERVFAIL.",
        Kind::Whole {
            min: 1,
            max: 1_000_000,
            put: |config, value| config.recursion.waiting_max = value,
        },
    ),
];

#[cfg(test)]
mod tests {
    use crate::config::trial::{said, sound};

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(said(text, ""), format!("f.toml:1: {expected}"), "line: {text}");
    }

    #[test]
    fn recursors_and_networks_must_be_addresses() {
        let rule = "must be an IP address, with a port where it is not 53, such as 10.0.0.2 or \
                    [::1]:5353, none or several";
        for text in ["", "dns.example", "0.0.0.0", "[::]:53", "224.0.0.1", "10.0.0.2:0", "::1:"] {
            check(&format!("recursors = \"{text}\""), &format!("recursors = \"{text}\": {rule}"));
        }
        let config =
            sound("recursors = [\"10.0.0.2\", \"10.0.0.3:5353\", \"::1\", \"[::2]:54\"]", "");
        assert_eq!(
            format!("{:?}", config.recursion.recursors),
            "[10.0.0.2:53, 10.0.0.3:5353, [::1]:53, [::2]:54]",
        );
        check(
            "recursion.allow = [\"10.0.0.0/8\", \"10.0.0.1/8\"]",
            "recursion.allow = \"10.0.0.1/8\": must be a network such as 10.0.0.0/8 or an IP \
             address, none or several",
        );
        assert_eq!(sound("recursion.allow = []", "").recursion.allow, []);
    }
}
