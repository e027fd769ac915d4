//! What stored states are of, and which views they can stand for.

use isotick_model::StreamSchema;
use isotick_model::expr::Expr;
use isotick_model::view::{DefinitionHash, Lateness, Tumbling, View};

use crate::plan::{Plan, Term};

/// What states are of: some terms over the ticks that pass a filter, by key and window. A view
/// whose windows are made of whole ones of these can take the states for the ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    filter: Option<Expr>,
    window: Tumbling,
    plan: Plan,
}

impl Base {
    /// The states of a view over a stream with this schema. What its quantiles are selected from is
    /// no part of them.
    pub fn of(view: &View, schema: &StreamSchema) -> Self {
        let plan = Plan::over(view, schema);
        let terms = plan.terms().iter().map(|&(term, _)| term);
        Self::new(view.filter.clone(), view.window, terms, schema)
    }

    /// States of these terms.
    pub fn new(
        filter: Option<Expr>,
        window: Tumbling,
        terms: impl IntoIterator<Item = Term>,
        schema: &StreamSchema,
    ) -> Self {
        // Origins a multiple of the width apart make the same windows.
        let origin_ns = window.origin_ns.rem_euclid(window.width_ns);
        let window = Tumbling { origin_ns, ..window };
        Self { filter, window, plan: Plan::of_terms_over(terms, schema) }
    }

    /// Which ticks count.
    pub fn filter(&self) -> Option<&Expr> {
        self.filter.as_ref()
    }

    /// The windows; the origin is at or after the epoch, and less than a width from it.
    pub fn window(&self) -> Tumbling {
        self.window
    }

    /// The terms.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether these states stand for the ticks of a view with this plan: the filter is the same,
    /// each window of the view is made of whole ones of these, and every term is there.
    pub fn covers(&self, view: &View, plan: &Plan) -> bool {
        let (inner, outer) = (self.window, view.window);
        let apart = i128::from(outer.origin_ns) - i128::from(inner.origin_ns);
        self.filter == view.filter
            && outer.width_ns % inner.width_ns == 0
            && apart % i128::from(inner.width_ns) == 0
            && plan.values().is_empty()
            && plan.terms().iter().all(|&(term, _)| self.plan.offset(term).is_some())
    }

    /// These with those terms alone that some plans need, all of which are here.
    ///
    /// # Panics
    ///
    /// When one is not.
    #[must_use]
    pub fn narrowed<'a>(&self, plans: impl IntoIterator<Item = &'a Plan>) -> Self {
        let terms = plans.into_iter().flat_map(|plan| plan.terms()).map(|&(term, _)| term);
        let plan = self.plan.with_terms(terms);
        let all_here = plan.terms().iter().all(|&(term, _)| self.plan.offset(term).is_some());
        assert!(all_here, "states are narrowed to terms they have");
        Self { filter: self.filter.clone(), window: self.window, plan }
    }

    /// A view that has these states and gives nothing of them.
    pub(crate) fn view(&self, schema: &StreamSchema) -> View {
        View {
            name: String::new(),
            stream: schema.name.clone(),
            keys: schema.keys.clone(),
            filter: self.filter.clone(),
            window: self.window,
            aggregates: Vec::new(),
            lateness: Lateness::default(),
            definition: DefinitionHash(String::new()),
        }
    }
}
