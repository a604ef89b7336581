//! What must be true in the end, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::Stored;

/// What the service committed: the ids of each key's events, in the order of their commits.
pub(super) type Truth = BTreeMap<String, Vec<String>>;

/// Everything that was committed is in the event store once and in order per key, and nothing else is.
pub(super) fn verdict(committed: &Truth, stored: &[Stored]) -> Result<usize, String> {
    let mut seen = BTreeSet::new();
    for one in stored {
        if !seen.insert(one.header("ce-id")) {
            return Err(format!("{} is stored twice", one.header("ce-id")));
        }
        if one.data != format!("data of {}", one.header("ce-id")) {
            return Err(format!(
                "{} is stored with {:?} under {}",
                one.header("ce-id"),
                one.data,
                one.subject
            ));
        }
    }
    let found = super::by_key(stored);
    for (key, ids) in &found {
        let wanted = committed.get(key).map(Vec::as_slice).unwrap_or_default();
        if ids == wanted {
            continue;
        }
        let known: BTreeSet<_> = wanted.iter().collect();
        if let Some(id) = ids.iter().find(|id| !known.contains(id)) {
            return Err(format!("{id} is stored and was never committed"));
        }
        let place = ids.iter().zip(wanted).position(|(is, should)| is != should).unwrap_or(ids.len());
        let is = ids.iter().skip(place).take(4).collect::<Vec<_>>();
        let should = wanted.iter().skip(place).take(4).collect::<Vec<_>>();
        return Err(format!("key {key}: place {place} is {is:?} and should be {should:?}"));
    }
    match committed.keys().find(|key| !found.contains_key(*key)) {
        Some(key) => Err(format!("nothing of key {key} is stored")),
        None => Ok(seen.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(ids: &[&str]) -> Vec<Stored> {
        let one = |id: &&str| {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("ce-id", *id);
            headers.insert("ce-partitionkey", "k");
            Stored { subject: String::new(), headers, data: format!("data of {id}") }
        };
        ids.iter().map(one).collect()
    }

    #[test]
    fn the_checker_sees_what_is_missing_doubled_disordered_or_invented() {
        let committed =
            BTreeMap::from([("k".to_owned(), vec!["1".to_owned(), "2".to_owned(), "3".to_owned()])]);
        assert_eq!(verdict(&committed, &stored(&["1", "2", "3"])), Ok(3));
        for (wrong, word) in [
            (vec!["1", "2"], "place 2"),
            (vec!["1", "2", "3", "2"], "twice"),
            (vec!["1", "3", "2"], "place 1"),
            (vec!["1", "2", "3", "4"], "never committed"),
            (vec![], "nothing of key"),
        ] {
            assert!(verdict(&committed, &stored(&wrong)).unwrap_err().contains(word), "{wrong:?}");
        }
    }
}
