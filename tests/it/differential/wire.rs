//! Header, OPT, class and opcode: rule R7, and what is refused before any name is looked at.

use hickory_proto::rr::RecordType;

use crate::differential::ask::Carrier;
use crate::differential::names::Form;
use crate::differential::pending::{Today, unserved};
use crate::differential::reply::{Opt, Reply};
use crate::differential::run::Case;

/// What must come back for a question that is not looked up; `None` if it is to be.
///
/// The error is what is wrong with Consul's own reply.
pub fn refusal(case: &Case, rules: &mut Vec<&'static str>) -> Option<Result<Reply, String>> {
    let Case { theirs, carrier, subject, qtype, .. } = case;
    let is_foreign = subject.form == Form::Foreign;
    let is_transfer = matches!(qtype, RecordType::AXFR | RecordType::IXFR);
    // Consul says REFUSED where no handler of it is asked; elsewhere it looks the name up.
    let looks_up = match subject.form {
        Form::Foreign => theirs.rcode == "REFUSED",
        Form::Reverse if theirs.rcode == "SERVFAIL" => theirs.flags.contains("ra"),
        _ => theirs.flags.contains("aa"),
    };
    let (rule, rcode, consul_is_right) = match carrier {
        Carrier::UdpStatus => ("", "NOTIMP", theirs.rcode == "NOTIMP" && theirs.is_bare()),
        Carrier::UdpNotify => {
            ("R7 other opcodes are NOTIMP", "NOTIMP", looks_up && !theirs.flags.contains("rd"))
        }
        Carrier::UdpVersion1 => ("R7 EDNS version above 0 is BADVERS", "BADVERS", looks_up),
        Carrier::UdpChaos => ("R7 other classes are REFUSED", "REFUSED", looks_up),
        _ if is_foreign => ("", "REFUSED", theirs.rcode == "REFUSED" && theirs.is_bare()),
        _ if unserved(subject.form) == Some(Today::Refused) => ("", "REFUSED", true),
        _ if *qtype == RecordType::AXFR && subject.form != Form::Reverse => {
            ("N no zone transfers", "REFUSED", theirs.rcode == "NOTIMP" && theirs.is_bare())
        }
        _ if is_transfer => ("N no zone transfers", "REFUSED", looks_up),
        _ => return None,
    };
    if !consul_is_right {
        return Some(Err(format!("Consul said something unexpected to {carrier:?}")));
    }
    if !rule.is_empty() {
        rules.push(rule);
    }
    let mut expected = theirs.emptied(rcode);
    for flag in ["aa", "tc", "ra"] {
        expected.flags.remove(flag);
    }
    add_flags(&mut expected);
    if case.carrier == Carrier::UdpNotify {
        expected.flags.insert("rd");
    }
    Some(Ok(expected))
}

/// Sets the flags that every reply of ours has.
pub fn add_flags(expected: &mut Reply) {
    expected.flags.insert("qr");
}

/// The question section, exactly as it was sent.
pub fn question_text(case: &Case) -> String {
    let class = if case.carrier == Carrier::UdpChaos { "CH" } else { "IN" };
    format!("{} {class} {}", case.subject.name, case.qtype)
}

/// Compares the OPT records of both with what each has to say.
pub fn check_opt(case: &Case, complaints: &mut Vec<String>, rules: &mut Vec<&'static str>) {
    let Case { carrier, theirs, ours, .. } = case;
    let is_refused = theirs.rcode == "REFUSED";
    let is_header_only = *carrier == Carrier::UdpStatus;
    let consuls = carrier.edns_size().filter(|_| !is_refused && !is_header_only).map(|size| Opt {
        payload: size,
        version: 0,
        dnssec_ok: false,
        options: if *carrier == Carrier::UdpSubnet { vec![(8, None)] } else { Vec::new() },
    });
    if theirs.opt != consuls {
        complaints.push(format!("consul's OPT: {:?}, not {consuls:?}", theirs.opt));
    }
    let expected = carrier.edns_size().map(|_| Opt {
        payload: OUR_PAYLOAD,
        version: 0,
        dnssec_ok: *carrier == Carrier::UdpDnssecOk,
        options: extended_error(case).into_iter().map(|code| (15, Some(code))).collect(),
    });
    if ours.opt != expected {
        complaints.push(format!("OPT: {:?}, not {expected:?}", ours.opt));
    }
    let Some(ours) = &expected else { return };
    match &consuls {
        None => rules.push("R7 REFUSED carries OPT"),
        Some(theirs) => {
            if theirs.payload != ours.payload {
                rules.push("R7 the OPT has our own size");
            }
            if ours.dnssec_ok {
                rules.push("R7 DO is copied back");
            }
            if !theirs.options.is_empty() {
                rules.push("R7 unknown options are not echoed");
            }
        }
    }
    if !ours.options.is_empty() {
        rules.push("X extended errors");
    }
}

/// The info code that tells why there is no answer.
fn extended_error(case: &Case) -> Option<u16> {
    let is_query = !matches!(case.carrier, Carrier::UdpVersion1 | Carrier::UdpChaos);
    match &*case.ours.rcode {
        // RFC 8914: Not Authoritative, Not Supported.
        "REFUSED" if is_query && out_of_zone(case) => Some(20),
        "SERVFAIL" => Some(21),
        _ => None,
    }
}

fn out_of_zone(case: &Case) -> bool {
    let is_ours = |form| unserved(form).is_none();
    match case.subject.form {
        Form::Foreign => true,
        form @ (Form::Reverse | Form::AltDomain) => !is_ours(form),
        _ => false,
    }
}

/// The size in our OPT, as the server is configured by default.
pub const OUR_PAYLOAD: u16 = 1232;
