//! An explanation as text, for a terminal.

use std::fmt::{self, Display, Formatter};

use crate::explain::instances::{Line, Verdict};
use crate::explain::{Explanation, Instances, Place, Question, Said, Ttl};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { question, summary, hints, reading, subject, instances, ttl, reply, .. } = self;
        let Question { name, rtype, client, bytes_max } = question;
        writeln!(f, "{name} {rtype}, asked by {client} with room for {bytes_max} bytes")?;
        writeln!(f, "\n  {summary}")?;
        hints.iter().try_for_each(|hint| writeln!(f, "  {hint}"))?;
        writeln!(f, "\nread as     {reading}")?;
        let found = subject.as_ref().filter(|subject| subject.is_there);
        if let Some(Place { datacenter, kind, name, held, old_secs, .. }) = found {
            write!(f, "found       {kind} {name} in {datacenter}, kept {held}")?;
            match old_secs {
                Some(secs) => writeln!(f, "; old for {secs} s")?,
                None => writeln!(f)?,
            }
        }
        if let Some(Ttl { secs, from }) = ttl {
            writeln!(f, "TTL         {secs} s, from {from}")?;
        }
        if let Some(Said { rcode, flags, bytes, answers, authority, additional, error, .. }) = reply
        {
            let (flags, answers) = (flags.join(" "), answers.len());
            let (authority, additional) = (authority.len(), additional.len());
            writeln!(
                f,
                "reply       {rcode} {flags}, {bytes} bytes; answer {answers}, authority {authority}, additional {additional}"
            )?;
            let more = reply.as_ref().map_or(&[][..], |reply| &reply.answers);
            more.iter().take(RECORDS_MAX).try_for_each(|line| writeln!(f, "            {line}"))?;
            if more.len() > RECORDS_MAX {
                writeln!(f, "            and {} more", more.len() - RECORDS_MAX)?;
            }
            if let Some(error) = error {
                writeln!(f, "            extended error {}: {}", error.code, error.text)?;
            }
        }
        match instances {
            Some(instances) => write_instances(f, instances),
            None => Ok(()),
        }
    }
}

/// Records that are shown.
const RECORDS_MAX: usize = 20;

fn write_instances(f: &mut Formatter<'_>, instances: &Instances) -> fmt::Result {
    let Instances { total, answered, cut, listed, left_off, .. } = instances;
    writeln!(f, "instances   {total}: {answered} in, {cut} cut, {} out", total - answered - cut)?;
    for line in listed {
        let Line { node, id, address, port, tags, health, weight, verdict, reason, .. } = line;
        let mark = match verdict {
            Verdict::In => "in ",
            Verdict::Cut => "cut",
            Verdict::Out => "out",
        };
        write!(f, "  {mark}  {id} on {node}, {address} port {port}, {health}, weight {weight}")?;
        if !tags.is_empty() {
            write!(f, ", tags {}", tags.join(" "))?;
        }
        match reason {
            Some(reason) => writeln!(f, "\n       {reason}")?,
            None => writeln!(f)?,
        }
    }
    match left_off {
        0 => Ok(()),
        count => writeln!(f, "  and {count} more"),
    }
}
