//! What DNS cookies are made with: the secrets of the configuration, those of a file, or one that is
//! drawn here.

use anyhow::Context as _;
use ring::rand::{SecureRandom, SystemRandom};

use crate::answer::Cookies;
use crate::clock::Clock;
use crate::config::DnsConfig;
use crate::config::cookies;
use crate::stamp;

/// Makes cookies as `config` has it; `None` where it wants none.
///
/// # Errors
///
/// Fails where the file cannot be used, or the system has no randomness to give.
pub fn make(config: &DnsConfig, clock: Clock) -> anyhow::Result<Option<Cookies>> {
    if !config.cookies {
        return Ok(None);
    }
    let mut secrets = secrets(config)?;
    if secrets.is_empty() {
        // Nobody must be able to guess it, so it is not drawn like a seed.
        let mut drawn = [0; 16];
        let random = SystemRandom::new();
        random.fill(&mut drawn).ok().context("the system gives no randomness for DNS cookies")?;
        secrets.push(drawn);
    }
    Ok(Some(Cookies::new(&secrets, clock.start_unix_ms())))
}

/// The secrets that were given, in the configuration or in a file.
///
/// # Errors
///
/// Fails where the file cannot be used: the operator's to mend.
pub fn secrets(config: &DnsConfig) -> anyhow::Result<Vec<[u8; 16]>> {
    let Some(path) = &config.cookie_secrets_file else {
        let given = config.cookie_secrets.iter();
        return Ok(given.filter_map(|secret| cookies::key(secret.reveal())).collect());
    };
    let text = stamp::read_text(path).with_context(|| format!("cannot read {}", path.display()));
    cookies::keys(&text?).map_err(|wrong| anyhow::anyhow!("{} {wrong}", path.display()))
}
