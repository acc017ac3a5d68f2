//! The prepared queries of a datacenter: which there are, and what is forgotten when one is another.

use std::sync::Arc;

use crate::catalog::builder::Builder;
use crate::catalog::form::Form;
use crate::catalog::queries::{self, Queries};

impl Builder {
    /// Takes in the list of prepared queries. What one that is another now found is forgotten.
    pub(in crate::catalog) fn set_queries(
        &mut self,
        datacenter: &str,
        queries: Option<Queries>,
    ) -> bool {
        let Some(at) = self.position(datacenter) else { return false };
        let queries = queries.map(Arc::new);
        let Some(before) = self.next.datacenters.get(at).map(|it| it.queries.clone()) else {
            return false;
        };
        if before == queries {
            return false;
        }
        // Where it is not known what there is, what was found stays.
        if let (Some(old), Some(new)) = (&before, &queries) {
            for name in self.executed(at) {
                let query = queries::split(&name).0.as_bytes();
                if old.find(query) != new.find(query) {
                    self.release(datacenter, Form::Query, &name);
                }
            }
        }
        if let Some(datacenter) = self.next.datacenters.get_mut(at) {
            Arc::make_mut(datacenter).queries = queries;
        }
        true
    }

    /// The names of the queries with a result in memory.
    fn executed(&self, at: usize) -> Vec<String> {
        let all = self.next.datacenters.get(at).into_iter().flat_map(|it| it.all_unlisted());
        let queries = all.filter(|(form, _)| *form == Form::Query);
        queries.map(|(_, service)| service.name.to_string()).collect()
    }
}
