//! The word that was probably meant by one that nobody knows.

/// The one of `known` closest to `written`, or `None` if none is close.
///
/// Close is a quarter of its letters away and four at most, letter case aside, or a known key in
/// the wrong section: `workers` for `dns.workers`.
pub fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str> + Clone) -> Option<&'k str> {
    let written = written.to_ascii_lowercase();
    let last = last_part(&written);
    let mut moved = known.clone().filter(|key| last_part(key) == last);
    if let (Some(key), None) = (moved.next(), moved.next()) {
        return Some(key);
    }
    known
        .map(|key| (distance(&written, key), key))
        .filter(|(distance, key)| *distance <= key.len().min(written.len()).div_ceil(4).min(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Letters to put in, take out, change, or exchange with the next, to make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (done, letter) in a.iter().enumerate() {
        let mut next = vec![done + 1];
        for ((at, other), (above, diagonal)) in
            b.iter().enumerate().zip(row.iter().skip(1).zip(&row))
        {
            let left = next.last().copied().unwrap_or_default();
            let changed = diagonal + usize::from(letter != other);
            let pair =
                |text: &[char], at: usize| Some((*text.get(at.checked_sub(1)?)?, *text.get(at)?));
            let is_exchanged =
                pair(&a, done).is_some_and(|(first, second)| pair(&b, at) == Some((second, first)));
            let exchanged = match is_exchanged {
                true => before.get(at - 1).map_or(usize::MAX, |count| count + 1),
                false => usize::MAX,
            };
            next.push(changed.min(above + 1).min(left + 1).min(exchanged));
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_word_is_found_and_a_far_one_is_not() {
        let known = ["dns.workers", "dns.listen", "admin.listen", "domain"];
        for (written, expected) in [
            ("dns.worker", "dns.workers"),
            ("dns.wrokers", "dns.workers"),
            ("DNS.Workers", "dns.workers"),
            ("dns.listne", "dns.listen"),
            ("domian", "domain"),
            ("odmain", "domain"),
            // the right word in the wrong section
            ("workers", "dns.workers"),
            ("admin.workers", "dns.workers"),
            // two sections have it, and neither is close
            ("listen", "none"),
            ("x", "none"),
            ("ports.dns", "none"),
        ] {
            let got = nearest(written, known.into_iter()).unwrap_or("none");
            assert_eq!(got, expected, "written: {written}");
        }
    }
}
