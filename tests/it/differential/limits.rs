//! Rule R6: how many records a reply holds, and what is left out where they do not fit.
//!
//! Which records a limited reply holds is chance. So it is compared in number, and each of its
//! records must be one of the whole answer; what is left out must be for a reason.

use crate::differential::ask::Carrier;
use crate::differential::judge::Look;
use crate::differential::reply::{Line, Reply};
use crate::differential::wire::{self, OUR_PAYLOAD};

/// Complains of what Consul's limited reply has that its whole answer has not.
pub fn check_consul(look: &Look<'_>, complaints: &mut Vec<String>) {
    let theirs = &look.case.theirs;
    let whole = look.run.whole(&look.case.subject.name, look.qtype);
    let mut complain = |what: String| complaints.push(format!("consul: {what}"));
    if theirs.rcode != whole.rcode {
        complain(format!(
            "{} over {:?}, {} over TCP",
            theirs.rcode, look.case.carrier, whole.rcode
        ));
    }
    let mut carried = whole.clone();
    wire::carry_flags(look.case.carrier, &mut carried);
    let flags = theirs.flags.iter().filter(|flag| **flag != "tc");
    if !flags.eq(&carried.flags) {
        complain(format!("flags {:?}, not {:?}", theirs.flags, carried.flags));
    }
    let whole_answer: Vec<Line> = whole.answer.iter().map(comparable).collect();
    let answer: Vec<Line> = theirs.answer.iter().map(comparable).collect();
    let has_choice = answer.iter().any(|line| line.rtype == "CNAME");
    for line in surplus(&answer, &whole_answer) {
        if !has_choice {
            complain(format!("answer {line} is not in the whole answer"));
        }
    }
    let whole_additional: Vec<Line> = whole.additional.iter().map(comparable).collect();
    // What is behind a target that is an alias differs from one of Consul's replies to the next.
    let has_choice = has_choice || whole_additional.iter().any(|line| line.rtype == "CNAME");
    for line in &theirs.additional {
        if !has_choice && !whole_additional.contains(&comparable(line)) {
            complain(format!("additional {line} is not in the whole answer"));
        }
    }
    if has_choice {
        return;
    }
    let (wanted, added) = (policy(look, whole), limited_by_addresses(look, whole));
    let is_cut = answer.len() < wanted;
    if answer.len() > wanted || is_cut && !consul_must_cut(look, whole) {
        complain(format!("{} answers, not {wanted} of {}", answer.len(), whole_answer.len()));
    }
    let truncates = look.run.world.settings.enable_truncate && answer.len() < added;
    if theirs.flags.contains("tc") != truncates {
        complain(format!("TC is to be {truncates}"));
    }
}

/// Complains of what our reply has or lacks beside `expected`, the whole of it.
pub fn check_ours(
    look: &Look<'_>,
    expected: &Reply,
    complaints: &mut Vec<String>,
    rules: &mut Vec<&'static str>,
) {
    let (ours, theirs) = (&look.case.ours, &look.case.theirs);
    for line in surplus(&ours.answer, &expected.answer) {
        complaints.push(format!("unexpected answer {line}"));
    }
    let limit = our_limit(look.case.carrier);
    if limit.is_some_and(|limit| ours.len > limit) {
        complaints.push(format!("{} bytes, more than {limit:?}", ours.len));
    }

    let wanted = policy(look, expected);
    let missing = surplus(&expected.answer, &ours.answer);
    let additional: usize = ours.additional.iter().map(Line::compact_len).sum();
    let room = |used: usize| limit.map(|limit| limit.saturating_sub(used));
    let fits = |lines: &[&Line], used| match (
        lines.iter().map(|line| line.compact_len()).max(),
        room(used),
    ) {
        (Some(longest), Some(room)) => longest <= room,
        _ => true,
    };
    let is_cut = ours.answer.len() < wanted;
    if ours.answer.len() > wanted || is_cut && fits(&missing, ours.len - additional.min(ours.len)) {
        let len = ours.answer.len();
        complaints.push(format!("{len} answers, not {wanted} of {}", expected.answer.len()));
        complaints.extend(missing.iter().map(|line| format!("missing answer {line}")));
    }
    let truncates = is_cut && limit.is_some();
    if ours.flags.contains("tc") != truncates {
        complaints.push(format!("TC is to be {truncates}"));
    }

    let due = due_additional(expected, ours);
    for line in surplus(&ours.additional, &due) {
        complaints.push(format!("unexpected additional {line}"));
    }
    let dropped = surplus(&due, &ours.additional);
    if !dropped.is_empty() && fits(&dropped, ours.len) {
        complaints.extend(dropped.iter().map(|line| format!("missing additional {line}")));
    }

    if is_cut {
        rules.push("R6 size sets TC");
    } else if !dropped.is_empty() {
        rules.push("R6 additional records are dropped first");
    }
    if theirs.flags.contains("tc") && !is_cut {
        rules.push("R6 limits of policy set no TC");
    }
    let whole = look.run.whole(&look.case.subject.name, look.qtype);
    if is_cut || theirs.answer.len() < policy(look, whole) {
        // Why either is cut has been checked; so they may differ in number.
        rules.push("R6 each server has its own size");
    }
    if limit.is_some_and(|limit| theirs.len > limit) {
        rules.push("R6 no reply is longer than 1232 or the client takes");
    }
}

/// The additional records that go with the answers of `ours`, along aliases.
fn due_additional(expected: &Reply, ours: &Reply) -> Vec<Line> {
    let answers = ours.answer.iter().filter(|line| matches!(&*line.rtype, "SRV" | "NS"));
    let mut targets: Vec<&str> = answers.filter_map(|line| line.data.rsplit(' ').next()).collect();
    let aliases = || expected.additional.iter().filter(|line| line.rtype == "CNAME");
    // Each alias may be the next one's target.
    for _ in aliases() {
        for alias in aliases() {
            if targets.contains(&&*alias.owner.to_string()) && !targets.contains(&&*alias.data) {
                targets.push(&alias.data);
            }
        }
    }
    let is_due = |line: &&Line| targets.contains(&&*line.owner.to_string());
    expected.additional.iter().filter(is_due).cloned().collect()
}

/// How many answers there are to be, were they to fit.
fn policy(look: &Look<'_>, whole: &Reply) -> usize {
    let wanted = limited_by_addresses(look, whole);
    let form = look.case.subject.form;
    // Consul 1.8.7 limits what comes from services alone.
    let is_limited = form.is_of_instances() && is_small(look.case.carrier);
    if is_limited { wanted.min(look.run.world.settings.udp_answer_limit.min(8)) } else { wanted }
}

fn limited_by_addresses(look: &Look<'_>, whole: &Reply) -> usize {
    let limit = look.run.world.settings.a_record_limit;
    let is_limited =
        limit > 0 && look.case.subject.form.is_of_instances() && whole.answers_only(&["A", "AAAA"]);
    if is_limited { whole.answer.len().min(limit) } else { whole.answer.len() }
}

/// Consul takes a size of up to 512 for none.
fn is_small(carrier: Carrier) -> bool {
    carrier.is_udp() && carrier.edns_size().is_none_or(|size| size <= 512)
}

/// The longest reply of ours; `None` over TCP.
fn our_limit(carrier: Carrier) -> Option<usize> {
    carrier.is_udp().then(|| match carrier.edns_size() {
        None => 512,
        Some(size) => usize::from(size.clamp(512, OUR_PAYLOAD)),
    })
}

/// Whether Consul's whole answer may be too long for it. It counts without compression.
fn consul_must_cut(look: &Look<'_>, whole: &Reply) -> bool {
    let records = whole.answer.iter().chain(&whole.additional);
    let len: usize = records.map(Line::full_len).sum();
    let limit = usize::from(look.case.carrier.edns_size().unwrap_or(512).max(512));
    look.case.carrier.is_udp() && len + HEADER > limit - CONSUL_SPARE
}

/// What is in `these` more often than in `those`.
fn surplus<'l>(these: &'l [Line], those: &[Line]) -> Vec<&'l Line> {
    let mut left: Vec<&Line> = those.iter().collect();
    let mut surplus = Vec::new();
    for line in these {
        match left.iter().position(|other| *other == line) {
            Some(at) => drop(left.swap_remove(at)),
            None => surplus.push(line),
        }
    }
    surplus
}

/// A record without what differs from one of Consul's replies to the next.
fn comparable(line: &Line) -> Line {
    let mut line = line.weightless();
    if line.rtype == "SOA" {
        let words = line.words();
        line.data = [&words[..2], &words[3..]].concat().join(" ");
    }
    line
}

const HEADER: usize = 12;

/// Consul cuts until this many bytes are left over.
const CONSUL_SPARE: usize = 8;
