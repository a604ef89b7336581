//! What a span of several events is linked to. Pure.

use super::Context;

/// The most links of a span; as OpenTelemetry's SDKs do.
const MOST: usize = 128;

/// The places in traces that several events come from, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Links {
    contexts: Vec<Context>,
    left_out: usize,
    sampled: bool,
}

impl Links {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }

    /// Whether one of the traces is recorded.
    pub(super) fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The places, the first of them where they are too many.
    pub(super) fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// How many were too many.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }
}

impl FromIterator<Context> for Links {
    fn from_iter<I: IntoIterator<Item = Context>>(contexts: I) -> Self {
        let mut links = Self::default();
        for context in contexts {
            links.sampled |= context.is_sampled();
            if links.contexts.contains(&context) {
                continue;
            }
            if links.contexts.len() < MOST { links.contexts.push(context) } else { links.left_out += 1 }
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_linked_once_and_those_beyond_the_most_are_counted() {
        let context = Context::root(|_| false);
        let links: Links = [context, context].into_iter().collect();
        assert_eq!((links.contexts().len(), links.left_out(), links.is_sampled()), (1, 0, false));
        let links: Links = (0..MOST + 3).map(|number| Context::root(|_| number == MOST)).collect();
        assert_eq!((links.contexts().len(), links.left_out(), links.is_sampled()), (MOST, 3, true));
        assert!(Links::default().is_empty());
    }
}
