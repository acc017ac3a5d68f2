//! Header, OPT, class and opcode: rule R7, and what is refused before any name is looked at.

use hickory_proto::rr::RecordType;

use crate::differential::ask::Carrier;
use crate::differential::name::Labels;
use crate::differential::names::Form;
use crate::differential::reply::{Line, Opt, Reply};
use crate::differential::run::{Case, Run};

/// What must come back for a question that is not looked up; `None` if it is to be.
///
/// The error is what is wrong with Consul's own reply.
pub fn refusal(
    run: &Run,
    case: &Case,
    rules: &mut Vec<&'static str>,
) -> Option<Result<Reply, String>> {
    let Case { theirs, carrier, subject, qtype, .. } = case;
    let is_foreign = matches!(subject.form, Form::Chaos | Form::Foreign);
    let is_transfer = matches!(qtype, RecordType::AXFR | RecordType::IXFR);
    // Consul says REFUSED where no handler of it is asked; elsewhere it looks the name up, whatever
    // class, version or opcode it is asked with.
    let is_usual = theirs.rcode == run.whole(&subject.name, *qtype).rcode;
    let looks_up = is_usual
        && match subject.form {
            Form::Chaos | Form::Foreign => theirs.rcode == "REFUSED",
            Form::Reverse if theirs.rcode == "SERVFAIL" => theirs.flags.contains("ra"),
            _ => theirs.flags.contains("aa"),
        };
    let (rule, rcode, consul_is_right) = match carrier {
        Carrier::UdpStatus => ("", "NOTIMP", theirs.rcode == "NOTIMP" && theirs.is_bare()),
        Carrier::UdpNotify => {
            ("R7 other opcodes are NOTIMP", "NOTIMP", looks_up && !theirs.flags.contains("rd"))
        }
        Carrier::UdpVersion1 => ("R7 EDNS version above 0 is BADVERS", "BADVERS", looks_up),
        Carrier::UdpChaos if subject.form == Form::Chaos && is_transfer => {
            ("N no zone transfers", "REFUSED", theirs.rcode == "REFUSED")
        }
        Carrier::UdpChaos if subject.form == Form::Chaos => {
            ("X version and identity in class CH", "NOERROR", theirs.rcode == "REFUSED")
        }
        Carrier::UdpChaos => ("R7 other classes are REFUSED", "REFUSED", looks_up),
        _ if is_foreign => ("", "REFUSED", theirs.rcode == "REFUSED" && theirs.is_bare()),
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
    if case.carrier == Carrier::UdpNotify {
        expected.flags.insert("rd");
    }
    if let Some(text) = chaos_text(case).filter(|_| rcode == "NOERROR") {
        expected.flags.insert("aa");
        if matches!(qtype, RecordType::TXT | RecordType::ANY) {
            let line = Line::pointing(subject.name.clone(), 0, "TXT", &Labels::new(""));
            let data = format!("{text:?}");
            expected.answer.push(Line { class: "CH".to_owned(), data, ..line });
        }
    }
    Some(Ok(expected))
}

/// What we say of ourselves in class CH (RFC 4892).
fn chaos_text(case: &Case) -> Option<&'static str> {
    match &*case.subject.name.lower().to_string() {
        "id.server." => Some(IDENTITY),
        "version.bind." => Some(concat!("fingerpost ", env!("CARGO_PKG_VERSION"))),
        _ => None,
    }
}

/// Sets the flags of `reply` that are those of the query.
pub fn carry_flags(carrier: Carrier, reply: &mut Reply) {
    reply.flags.insert("qr");
    if carrier == Carrier::UdpNoRecursion {
        reply.flags.remove("rd");
    }
    if carrier == Carrier::UdpCheckingDisabled {
        reply.flags.insert("cd");
    }
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
        options: subnet(*carrier, consuls_scope(case)),
    });
    if theirs.opt != consuls {
        complaints.push(format!("consul's OPT: {:?}, not {consuls:?}", theirs.opt));
    }
    let mut expected = carrier.edns_size().map(|_| Opt {
        payload: OUR_PAYLOAD,
        version: 0,
        dnssec_ok: *carrier == Carrier::UdpDnssecOk,
        options: subnet(*carrier, 0),
    });
    if let (Some(expected), Some(code)) = (&mut expected, extended_error(case)) {
        expected.options.push((15, code.to_string()));
    }
    if let (Some(expected), Carrier::UdpCookie) = (&mut expected, carrier) {
        // RFC 9018 §4: 16 bytes behind the client's own.
        expected.options.push((10, "8 bytes., 24 bytes".to_owned()));
    }
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
            if theirs.options != ours.options && theirs.options.len() == ours.options.len() {
                rules.push("R7 a client's network changes no answer");
            }
            if ours.dnssec_ok {
                rules.push("R7 DO is copied back");
            }
        }
    }
    if ours.options.iter().any(|(code, _)| *code == 10) {
        rules.push("X cookies");
    }
    if ours.options.iter().any(|(code, _)| *code == 15) {
        rules.push("X extended errors");
    }
}

/// The client's network with the scope of the answer, which both echo.
fn subnet(carrier: Carrier, scope: u8) -> Vec<(u16, String)> {
    match carrier {
        Carrier::UdpSubnet => vec![(8, format!("192.0.2.0/24/{scope}"))],
        _ => Vec::new(),
    }
}

/// Consul answers a prepared query for the network that asks; no other answer is for one.
fn consuls_scope(case: &Case) -> u8 {
    let is_query = matches!(case.subject.form, Form::Query);
    let is_answered =
        case.theirs.rcode == "NOERROR" && !matches!(case.qtype, RecordType::NS | RecordType::SOA);
    if is_query && is_answered { 24 } else { 0 }
}

/// The info code that tells why there is no answer.
fn extended_error(case: &Case) -> Option<u16> {
    let is_transfer = matches!(case.qtype, RecordType::AXFR | RecordType::IXFR);
    match &*case.ours.rcode {
        // RFC 8914: Not Authoritative, Not Ready, Not Supported, No Reachable Authority.
        "REFUSED" => Some(if is_transfer { 21 } else { 20 }),
        "SERVFAIL" => Some(match case.subject.form {
            Form::Reverse => 14,
            Form::Virtual => 21,
            _ => 22,
        }),
        _ => None,
    }
}

/// The size in our OPT, as the server is configured by default.
pub const OUR_PAYLOAD: u16 = 1232;

/// Who we say that we are, as the server is configured.
pub const IDENTITY: &str = "the judged";
