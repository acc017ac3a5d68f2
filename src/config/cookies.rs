//! The secrets of DNS cookies, as people write them: 32 hexadecimal digits (RFC 9018 §5).
//!
//! In the configuration or in a file of their own, where each has a line and `#` begins a remark.
//! What is wrong with one is said without showing it.

/// The key that `text` spells.
pub fn key(text: &str) -> Option<[u8; 16]> {
    let is_spelled = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = u128::from_str_radix(text, 16).ok().filter(|_| is_spelled)?;
    Some(key.to_be_bytes())
}

/// The keys that the lines of a file spell.
///
/// # Errors
///
/// Says what is wrong, and in which line, as in `line 2 is no secret of …`.
pub fn keys(text: &str) -> Result<Vec<[u8; 16]>, String> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let none = || format!("line {number} is no secret of 32 hexadecimal digits");
        keys.push(key(line).ok_or_else(none)?);
    }
    match keys.len() {
        0 => Err("holds no secret".to_owned()),
        1 | 2 => Ok(keys),
        more => Err(format!("holds {more} secrets, of which there may be two")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::trial::{check_line, said, sound};

    const ONE: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const OTHER: &str = "445536BCD2513298075A5D379663C962";

    #[test]
    fn secrets_are_written_in_hexadecimal() {
        assert_eq!(key("000102030405060708090a0b0c0d0eff").unwrap()[13..], [0x0d, 0x0e, 0xff]);
        for text in ["", "e5", &ONE[1..], &format!("{ONE}0"), &ONE.replace('e', "g"), "+".trim()] {
            assert_eq!(key(text), None, "{text}");
        }
        assert_eq!(key(&format!("+{}", &ONE[1..])), None);
    }

    #[test]
    fn a_file_holds_one_or_two() {
        for (text, expected) in [
            (format!("{ONE}\n"), Ok(1)),
            (format!("# the new one\n{ONE}\n\n  {OTHER}\r\n"), Ok(2)),
            (String::new(), Err("holds no secret")),
            (format!("{ONE}\ns3cret\n"), Err("line 2 is no secret of 32 hexadecimal digits")),
            (format!("{ONE}\n").repeat(3), Err("holds 3 secrets, of which there may be two")),
        ] {
            let got = keys(&text).map(|keys| keys.len());
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn the_configuration_holds_as_many_and_shows_none() {
        let rule = "must be a secret of 32 hexadecimal digits, none, one or two";
        for (text, expected) in [
            (format!("dns.cookie_secrets = \"{ONE}\""), "ok".to_owned()),
            (format!("dns.cookie_secrets = [\"{ONE}\", \"{OTHER}\"]"), "ok".to_owned()),
            (
                format!("dns.cookie_secrets = [\"{ONE}\", \"{OTHER}\", \"{ONE}\"]"),
                format!("dns.cookie_secrets = (hidden): {rule}"),
            ),
            (
                "dns.cookie_secrets = \"s3cret\"".to_owned(),
                format!("dns.cookie_secrets = (hidden): {rule}"),
            ),
        ] {
            check_line(&text, &expected);
        }
        let env = format!("FINGERPOST_DNS_COOKIE_SECRETS={ONE}, {OTHER}");
        assert_eq!(said("", &env), "ok");
        let config = sound("", &env);
        assert_eq!(config.dns.cookie_secrets.len(), 2);
        assert!(!format!("{config:?}").contains(ONE));
    }

    #[test]
    fn secrets_win_over_a_file_of_a_weaker_place() {
        let file = "dns.cookie_secrets_file = \"/s\"";
        for (file, env, expected) in [
            (file.to_owned(), String::new(), true),
            (format!("{file}\ndns.cookie_secrets = \"{ONE}\""), String::new(), true),
            (file.to_owned(), format!("FINGERPOST_DNS_COOKIE_SECRETS={ONE}"), false),
        ] {
            let dns = sound(&file, &env).dns;
            assert_eq!(dns.cookie_secrets_file.is_some(), expected, "{file} {env}");
        }
    }
}
