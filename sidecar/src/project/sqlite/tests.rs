//! A real database, without a bus.

use async_nats::HeaderMap;
use bytes::Bytes;
use murmur_mesh::config::{self, On, OnChange};
use murmur_projection::Definition;
use tempfile::TempDir;

use super::super::Identity;
use super::*;

struct Bed {
    folder: TempDir,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        sqlite::prepare(&folder.path().join("service.db")).unwrap();
        Self { folder }
    }

    fn store(&self, projection: &Projection) -> Result<(SqliteStore, Standing), Trouble> {
        SqliteStore::open(&self.folder.path().join("service.db"), projection.clone())
    }

    fn sql(&self) -> Connection {
        Connection::open(self.folder.path().join("service.db")).unwrap()
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        let connection = self.sql();
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

fn projection(schema: &str, sql: &str) -> Projection {
    let definition = config::Projection {
        tables: vec!["t".into()],
        on_change: OnChange::Rebuild,
        schema: schema.into(),
        on: vec![On { event_type: "T".parse().unwrap(), sql: sql.into() }],
    };
    Projection {
        identity: Identity {
            subscription: "model".into(),
            event_store: "s".into(),
            run: String::new(),
            boundary: 0,
            definition: definition.fingerprint(),
            on_change: OnChange::Rebuild,
        },
        definition: Definition::parse(&definition).unwrap(),
    }
}

fn counting() -> Projection {
    projection("CREATE TABLE t (id TEXT, n INTEGER)", "INSERT INTO t VALUES (:id, :data.n)")
}

fn item(sequence: u64, data: &str) -> Item {
    let mut headers = HeaderMap::new();
    let id = sequence.to_string();
    for (name, value) in [("ce-id", id.as_str()), ("ce-type", "T"), ("ce-source", "/s")] {
        headers.insert(name, value);
    }
    let message = async_nats::Message {
        subject: "events.a.1.T".into(),
        reply: None,
        payload: Bytes::from(data.to_owned()),
        headers: Some(headers),
        status: None,
        description: None,
        length: 0,
    };
    Item { sequence, work: Work::Apply(Arc::new(message)) }
}

fn items(sequences: std::ops::RangeInclusive<u64>) -> Vec<Item> {
    sequences.map(|sequence| item(sequence, r#"{"n": 1}"#)).collect()
}

#[test]
fn the_position_moves_with_what_is_applied() {
    let bed = Bed::new();
    let (mut store, standing) = bed.store(&counting()).unwrap();
    assert_eq!((standing.position, standing.beside), (0, false));
    assert_eq!(store.apply(&items(3..=5)), Ok(Applied::Done(3)));
    drop(store);
    assert_eq!(bed.store(&counting()).unwrap().1.position, 5);
    assert_eq!(bed.texts("SELECT id FROM t"), ["3", "4", "5"]);
}

#[test]
fn of_two_writers_at_one_position_one_is_fenced() {
    let bed = Bed::new();
    let (mut one, _) = bed.store(&counting()).unwrap();
    let (mut other, _) = bed.store(&counting()).unwrap();
    assert_eq!(one.apply(&items(1..=2)), Ok(Applied::Done(2)));
    assert_eq!(other.apply(&items(1..=2)), Ok(Applied::Fenced));
    assert_eq!(bed.texts("SELECT id FROM t"), ["1", "2"]);
}

#[test]
fn a_position_never_goes_back() {
    let bed = Bed::new();
    let (mut store, _) = bed.store(&counting()).unwrap();
    assert_eq!(store.apply(&items(1..=5)), Ok(Applied::Done(5)));
    assert_eq!(store.apply(&items(5..=6)), Ok(Applied::Fenced));
    assert_eq!(store.apply(&items(6..=6)), Ok(Applied::Done(1)));
}

#[test]
fn an_event_that_fails_takes_all_its_statements_back_and_is_noted() {
    let bed = Bed::new();
    let strict = projection(
        "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER CHECK (n < 10))",
        "INSERT INTO t VALUES (:id, 0); UPDATE t SET n = :data.n WHERE id = :id",
    );
    let (mut store, _) = bed.store(&strict).unwrap();
    let mut all = items(1..=2);
    all.extend([item(3, r#"{"n": 99}"#), item(4, r#"{"n": 1}"#)]);
    let Ok(Applied::Rejected(2, cause)) = store.apply(&all) else { panic!("it is applied") };
    assert!(cause.contains("CHECK"), "{cause}");
    drop(store);
    let (mut store, standing) = bed.store(&strict).unwrap();
    assert_eq!((standing.position, standing.rejected), (2, Some((3, cause))));
    let passed = Item { sequence: 3, work: Work::Pass };
    assert_eq!(store.apply(&[passed, all[3].clone()]), Ok(Applied::Done(2)));
    drop(store);
    let (_, standing) = bed.store(&strict).unwrap();
    assert_eq!((standing.position, standing.rejected), (4, None));
    assert_eq!(bed.texts("SELECT id FROM t"), ["1", "2", "4"]);
}

#[test]
fn values_have_the_types_of_the_table_in_the_documents() {
    let bed = Bed::new();
    let all = projection(
        "CREATE TABLE t (v)",
        "INSERT INTO t VALUES (:data.yes), (:data.whole), (:data.large), (:data.real), (:data.text), (:data.list), \
         (:data.null), (:data.absent?)",
    );
    let (mut store, _) = bed.store(&all).unwrap();
    let data = r#"{"yes": true, "whole": -5, "large": 18446744073709551615, "real": 1.5, "text": "1", "list": [1],
        "null": null}"#;
    assert_eq!(store.apply(&[item(1, data)]), Ok(Applied::Done(1)));
    assert_eq!(
        bed.texts("SELECT typeof(v) || ' ' || coalesce(v, '') FROM t"),
        [
            "integer 1",
            "integer -5",
            "text 18446744073709551615",
            "real 1.5",
            "text 1",
            "text [1]",
            "null ",
            "null "
        ]
    );
}

#[test]
fn what_a_projection_does_not_own_it_does_not_touch() {
    let bed = Bed::new();
    bed.sql().execute_batch("CREATE TABLE others (x TEXT); INSERT INTO others VALUES ('mine')").unwrap();
    for sql in [
        "INSERT INTO others VALUES (:id)",
        "DELETE FROM others",
        "INSERT INTO t SELECT x, 1 FROM others",
        "UPDATE murmur_projections SET position = 7",
        "INSERT INTO t SELECT sql, 1 FROM sqlite_master",
    ] {
        let wrong = projection("CREATE TABLE t (id TEXT, n INTEGER)", sql);
        let Err(Trouble::Invalid(cause)) = bed.store(&wrong) else { panic!("{sql} is taken") };
        assert!(cause.contains("not among projection.tables"), "{cause}");
    }
    assert_eq!(
        bed.texts("SELECT name FROM sqlite_master WHERE name = 't'"),
        [] as [&str; 0],
        "nothing was made"
    );
    // A trigger of the service's own on the table is no way around.
    let (mut store, _) = bed.store(&counting()).unwrap();
    let trigger = "CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO others VALUES (new.id); END";
    bed.sql().execute_batch(trigger).unwrap();
    assert!(matches!(store.apply(&items(1..=1)), Err(Trouble::Invalid(_))));
    bed.sql().execute_batch("DROP TRIGGER tr").unwrap();
    let (mut store, _) = bed.store(&counting()).unwrap();
    assert_eq!(store.apply(&items(1..=1)), Ok(Applied::Done(1)));
    assert_eq!(bed.texts("SELECT x FROM others"), ["mine"]);
}

#[test]
fn a_table_that_is_there_already_is_nobodys_to_take() {
    let bed = Bed::new();
    bed.sql().execute_batch("CREATE TABLE t (id TEXT, n INTEGER); INSERT INTO t VALUES ('mine', 1)").unwrap();
    let Err(Trouble::Invalid(cause)) = bed.store(&counting()) else { panic!("it is taken") };
    assert!(cause.contains("there is a table t already"), "{cause}");
    assert_eq!(bed.texts("SELECT id FROM t"), ["mine"]);
}

#[test]
fn a_rebuild_replaces_the_tables_at_once_and_leaves_nothing_behind() {
    let bed = Bed::new();
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER); CREATE INDEX by_n ON t (n)";
    let one = projection(schema, "INSERT INTO t VALUES (:id, 1)");
    let mut two = projection(schema, "INSERT INTO t VALUES (:id, 2)");
    (two.identity.run, two.identity.boundary) = ("again".into(), 3);
    let (mut store, _) = bed.store(&one).unwrap();
    store.apply(&items(1..=3)).unwrap();
    bed.sql().execute_batch("CREATE VIEW v AS SELECT sum(n) AS total FROM t").unwrap();
    let (mut beside, standing) = bed.store(&two).unwrap();
    assert_eq!((standing.position, standing.beside), (0, true));
    beside.apply(&items(1..=2)).unwrap();
    assert_eq!(bed.texts("SELECT cast(total AS TEXT) FROM v"), ["3"], "readers see the old one");
    drop(beside);
    let (mut beside, standing) = bed.store(&two).unwrap();
    assert_eq!((standing.position, standing.beside), (2, true), "it goes on");
    beside.apply(&items(3..=3)).unwrap();
    beside.swap().unwrap();
    assert_eq!(
        bed.texts("SELECT cast(total AS TEXT) FROM v"),
        ["6"],
        "a view of the service's own reads the new one"
    );
    assert_eq!(store.apply(&items(4..=4)), Ok(Applied::Fenced), "who wrote the old ones is not let in");
    let (mut store, standing) = bed.store(&two).unwrap();
    assert_eq!((standing.position, standing.beside), (3, false));
    store.apply(&items(4..=4)).unwrap();
    let names = bed.texts("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name");
    assert_eq!(names, ["by_n_2", "murmur_projections", "t", "v"]);
}

#[test]
fn a_full_disk_ends_the_transaction_and_nothing_of_it_counts_as_applied() {
    let bed = Bed::new();
    let large = projection("CREATE TABLE t (id TEXT, text TEXT)", "INSERT INTO t VALUES (:id, :data.text)");
    let data = format!(r#"{{"text": "{}"}}"#, "x".repeat(2000));
    let all: Vec<Item> = (1..=20).map(|sequence| item(sequence, &data)).collect();
    let (mut store, _) = bed.store(&large).unwrap();
    let pages: u32 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages + 4).unwrap();
    let Err(Trouble::Away(cause)) = applied(&mut store, &all) else { panic!("there is room") };
    assert!(cause.contains("full"), "{cause}");
    drop(store);
    let (mut store, standing) = bed.store(&large).unwrap();
    assert_eq!(bed.texts("SELECT id FROM t").len(), usize::try_from(standing.position).unwrap());
    // Another connection has no such bound: there is room again.
    applied(&mut store, &all[usize::try_from(standing.position).unwrap()..]).unwrap();
    assert_eq!(bed.texts("SELECT id FROM t"), (1..=20).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_statement_that_ends_the_transaction_is_wrong_and_takes_no_other_event_with_it() {
    let bed = Bed::new();
    let ending = projection(
        "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER UNIQUE)",
        "INSERT OR ROLLBACK INTO t VALUES (:id, :data.n)",
    );
    let (mut store, _) = bed.store(&ending).unwrap();
    let all = [item(1, r#"{"n": 1}"#), item(2, r#"{"n": 2}"#), item(3, r#"{"n": 2}"#)];
    let Err(Trouble::Invalid(cause)) = applied(&mut store, &all) else { panic!("it is applied") };
    assert!(cause.contains("must not end the transaction"), "{cause}");
    drop(store);
    let (_, standing) = bed.store(&ending).unwrap();
    assert_eq!(bed.texts("SELECT id FROM t").len(), usize::try_from(standing.position).unwrap());
}

/// All of them, in as many transactions as it takes.
fn applied(store: &mut SqliteStore, mut items: &[Item]) -> Result<(), Trouble> {
    while !items.is_empty() {
        match store.apply(items)? {
            Applied::Done(count) => items = &items[count..],
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

#[test]
fn a_table_that_goes_while_it_is_written_costs_no_event() {
    let bed = Bed::new();
    let (mut store, _) = bed.store(&counting()).unwrap();
    store.apply(&items(1..=1)).unwrap();
    bed.sql().execute_batch("DROP TABLE t").unwrap();
    assert!(matches!(store.apply(&items(2..=2)), Err(Trouble::Invalid(_))));
    let Err(Trouble::Invalid(cause)) = bed.store(&counting()) else { panic!("it is not missed") };
    assert!(cause.contains("replay.id"), "{cause}");
}

#[test]
fn the_services_own_writes_get_their_turn() {
    let bed = Bed::new();
    let (mut store, _) = bed.store(&counting()).unwrap();
    let many = items(1..=100_000);
    let Ok(Applied::Done(count)) = store.apply(&many) else { panic!("it fails") };
    assert!(count < many.len(), "a transaction ends although there is more");
}
