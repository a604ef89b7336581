//! What is to be done with the tables of a projection, from what its rows in
//! Murmur's own table say. Pure, and the same for all databases.

use std::collections::BTreeSet;

use murmur_mesh::config::{OnChange, parts_of_run};

use super::{Identity, Standing};

/// A row of Murmur's own table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) subscription: String,
    pub(super) beside: bool,
    pub(super) tables: String,
    pub(super) event_store: String,
    pub(super) run: String,
    pub(super) boundary: u64,
    pub(super) definition: String,
    /// Rises with each rebuild.
    pub(super) generation: u64,
    pub(super) position: u64,
    /// Rises with each transaction.
    pub(super) version: u64,
    pub(super) rejected: Option<(u64, String)>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Make the tables, and begin.
    Make,
    /// Go on with the tables that are read.
    GoOn,
    /// The same, with the new definition.
    Adopt,
    /// Make tables beside those that are read, and begin.
    MakeBeside,
    /// Go on with those.
    GoOnBeside,
    /// Leave all as it is.
    Wait(&'static str),
}

impl Row {
    /// The tables that it owns.
    pub(super) fn tables(&self) -> BTreeSet<String> {
        self.tables.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { position: self.position, rejected: self.rejected.clone(), beside: self.beside }
    }

    /// The row that a projection begins with.
    pub(super) fn new(identity: &Identity, tables: String, generation: u64, beside: bool) -> Self {
        Self {
            subscription: identity.subscription.clone(),
            beside,
            tables,
            event_store: identity.event_store.clone(),
            run: identity.run.clone(),
            boundary: identity.boundary,
            definition: identity.definition.clone(),
            generation,
            position: 0,
            version: 1,
            rejected: None,
        }
    }
}

/// The row of a projection's tables: of those that are read, or of those beside them.
pub(super) fn find(rows: &[Row], identity: &Identity, beside: bool) -> Option<Row> {
    rows.iter().find(|row| row.subscription == identity.subscription && row.beside == beside).cloned()
}

impl Plan {
    /// The row to go on with, for `tables`, in one column.
    ///
    /// # Errors
    /// Why none, while it waits.
    pub(super) fn row(&self, rows: &[Row], identity: &Identity, tables: String) -> Result<Row, &'static str> {
        let (live, beside) = (find(rows, identity, false), find(rows, identity, true));
        let generation = live.as_ref().map_or(1, |live| live.generation);
        let new = |generation, beside| Row::new(identity, tables.clone(), generation, beside);
        Ok(match self {
            Self::Wait(cause) => return Err(cause),
            Self::Make => new(generation, false),
            Self::MakeBeside => new(generation + 1, true),
            Self::GoOn => live.unwrap_or_else(|| new(generation, false)),
            Self::GoOnBeside => beside.unwrap_or_else(|| new(generation + 1, true)),
            Self::Adopt => {
                let live = live.unwrap_or_else(|| new(generation, false));
                Row { definition: identity.definition.clone(), tables, ..live }
            }
        })
    }
}

/// Decides from all rows there are.
///
/// # Errors
/// When another projection owns one of the tables.
pub(super) fn plan(rows: &[Row], identity: &Identity, tables: &BTreeSet<String>) -> Result<Plan, String> {
    for other in rows.iter().filter(|row| row.subscription != identity.subscription) {
        if let Some(table) = other.tables().intersection(tables).next() {
            return Err(format!(
                "the table {table} belongs to the projection {}: choose another name",
                other.subscription
            ));
        }
    }
    let built = parts_of_run(&identity.run).map(|(_, definition)| definition);
    if identity.on_change == OnChange::Rebuild && built.is_some_and(|built| built != identity.definition) {
        // Built now, they would pass for those of the definition that the rebuild is for.
        return Ok(Plan::Wait("the rebuild that it is told of is another definition's"));
    }
    let of =
        |beside| rows.iter().find(|row| row.subscription == identity.subscription && row.beside == beside);
    let Some(live) = of(false) else { return Ok(Plan::Make) };
    if live.event_store == identity.event_store {
        if live.run == identity.run {
            return Ok(match identity.on_change {
                _ if live.definition == identity.definition => Plan::GoOn,
                OnChange::Keep => Plan::Adopt,
                OnChange::Rebuild => Plan::Wait(
                    "its definition has changed: its tables stay as they are until the rebuild begins",
                ),
            });
        }
        if live.boundary > identity.boundary {
            return Ok(Plan::Wait("its tables are of a later replay than this pod's configuration says"));
        }
    }
    let continues = of(true).is_some_and(|beside| {
        beside.event_store == identity.event_store
            && beside.run == identity.run
            && beside.definition == identity.definition
    });
    Ok(if continues { Plan::GoOnBeside } else { Plan::MakeBeside })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(store: &str, run: &str, boundary: u64, definition: &str, on_change: OnChange) -> Identity {
        Identity {
            subscription: "catalog".into(),
            event_store: store.into(),
            run: run.into(),
            boundary,
            definition: definition.into(),
            on_change,
        }
    }

    fn planned(rows: &[Row], identity: &Identity) -> Plan {
        plan(rows, identity, &BTreeSet::from(["products".to_owned()])).unwrap()
    }

    #[test]
    fn the_first_run_makes_the_tables_and_the_next_start_goes_on() {
        let first = identity("s", "", 0, "d", OnChange::Rebuild);
        assert_eq!(planned(&[], &first), Plan::Make);
        assert_eq!(planned(&[Row::new(&first, "products".into(), 1, false)], &first), Plan::GoOn);
    }

    #[test]
    fn another_run_or_another_event_store_is_built_beside() {
        let first = identity("s", "", 0, "d", OnChange::Rebuild);
        let live = Row::new(&first, "products".into(), 1, false);
        for next in [
            identity("s", "again", 7, "d", OnChange::Rebuild),
            identity("s", "again", 7, "e", OnChange::Rebuild),
            identity("s", "again", 7, "d", OnChange::Keep),
            identity("another", "", 0, "d", OnChange::Keep),
        ] {
            assert_eq!(planned(std::slice::from_ref(&live), &next), Plan::MakeBeside);
            let beside = Row::new(&next, "products".into(), 2, true);
            assert_eq!(planned(&[live.clone(), beside.clone()], &next), Plan::GoOnBeside);
            let changed = Identity { definition: "f".into(), ..next };
            assert_eq!(planned(&[live.clone(), beside], &changed), Plan::MakeBeside);
        }
    }

    #[test]
    fn a_changed_definition_waits_for_its_rebuild_or_counts_from_now_on() {
        let live = Row::new(&identity("s", "", 0, "d", OnChange::Rebuild), "products".into(), 1, false);
        let rebuild = identity("s", "", 0, "e", OnChange::Rebuild);
        assert!(matches!(planned(std::slice::from_ref(&live), &rebuild), Plan::Wait(_)));
        let keep = identity("s", "", 0, "e", OnChange::Keep);
        assert_eq!(planned(&[live], &keep), Plan::Adopt);
    }

    #[test]
    fn a_rebuild_of_another_definition_is_waited_out() {
        let live = Row::new(&identity("s", "", 0, "d", OnChange::Rebuild), "products".into(), 1, false);
        for rows in [vec![], vec![live]] {
            for (definition, waits) in [("d", true), ("e", false)] {
                let told = identity("s", " e", 7, definition, OnChange::Rebuild);
                assert_eq!(matches!(planned(&rows, &told), Plan::Wait(_)), waits, "{definition}");
                // Where a change does not rebuild, the last rebuild is any definition's.
                let kept = Identity { on_change: OnChange::Keep, ..told };
                assert!(!matches!(planned(&rows, &kept), Plan::Wait(_)));
            }
        }
    }

    #[test]
    fn a_pod_that_does_not_know_of_the_replay_yet_leaves_its_tables_alone() {
        let live = Row::new(&identity("s", "again", 7, "d", OnChange::Rebuild), "products".into(), 2, false);
        let old = identity("s", "", 0, "d", OnChange::Rebuild);
        assert!(matches!(planned(std::slice::from_ref(&live), &old), Plan::Wait(_)));
        let replaced = identity("another", "", 0, "d", OnChange::Rebuild);
        assert_eq!(planned(&[live], &replaced), Plan::MakeBeside);
    }

    #[test]
    fn a_table_has_one_owner() {
        let mut other =
            Row::new(&identity("s", "", 0, "d", OnChange::Keep), "orders products".into(), 1, false);
        other.subscription = "other".into();
        let mine = identity("s", "", 0, "d", OnChange::Keep);
        let error = plan(&[other], &mine, &BTreeSet::from(["products".to_owned()])).unwrap_err();
        assert!(error.contains("products") && error.contains("other"));
    }
}
