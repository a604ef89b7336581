//! The outbox in the service's Postgres database. Of several sidecars the one
//! whose session holds a lock of the database is the relay.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::row::{Columns, Row, Unreadable};
use super::store::{Identity, MOST_BYTES, MOST_COUNTED, MOST_ROWS, Mark, Refusals, Store, StoreError};
use crate::database::postgres::{self, Session, told};

/// The tables, and the trigger that says when a row was committed.
const SCHEMA: &str = include_str!("postgres.sql");
/// The lock that the relay's session holds: "murmur" and a number, as one.
const LOCK: i64 = 0x6d75_726d_7572_0001;
/// The lock under which the tables are made.
const MAKING: i64 = 0x6d75_726d_7572_0002;
/// How long the server may take for one statement of the relay.
const ANSWER: Duration = Duration::from_secs(10);
/// A session that says nothing for so long is ended by the server, and with it the lock: its
/// sidecar stands still. The relay looks at the table far more often.
const IDLE: &str = "60s";
/// So many rows deleted leave enough behind to be worth a VACUUM at once. The server's own
/// comes once a minute: by then a busy outbox would have grown by all that went through it.
const SWEEP: usize = 10_000;

/// What each session begins with. Of what an older server does not have nothing is set.
const SETTINGS: &str = "
SELECT set_config(name, value, false)
FROM (VALUES ('idle_session_timeout', $1), ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'),
             ('tcp_keepalives_count', '3'), ('synchronous_commit', 'off'), ('search_path', 'pg_catalog, public'))
     AS wanted (name, value) JOIN pg_settings USING (name)";

const ROWS: &str = "
WITH first AS (
  SELECT position, octet_length(id)::bigint + octet_length(type)
    + coalesce(octet_length(source), 0) + coalesce(octet_length(subject), 0)
    + coalesce(octet_length(partitionkey), 0) + coalesce(octet_length(data), 0)
    + coalesce(octet_length(data_base64), 0) + coalesce(octet_length(datacontenttype), 0)
    + coalesce(octet_length(extensions), 0) + coalesce(octet_length(traceparent), 0) AS size
  FROM public.murmur_outbox ORDER BY position LIMIT $1::bigint),
fitting AS (SELECT position, size, sum(least(size, $3::bigint)) OVER (ORDER BY position) - least(size, $3::bigint) AS before FROM first)
SELECT f.position, f.size, o.id, o.type, o.source, o.subject, o.partitionkey, o.data, o.data_base64,
       o.datacontenttype, to_char(o.time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
       o.extensions, o.traceparent
FROM fitting f LEFT JOIN public.murmur_outbox o ON o.position = f.position AND f.size <= $3::bigint
WHERE f.before < $2::bigint ORDER BY f.position";

/// A session that holds the lock.
pub(super) struct Postgres {
    session: Session,
    prepared: HashMap<&'static str, Statement>,
    deleted: usize,
}

/// Makes the tables, if they are not there.
pub(super) async fn prepare(database: &postgres::Postgres) -> Result<(), StoreError> {
    let session = connect(database).await?;
    make(&session).await
}

async fn connect(database: &postgres::Postgres) -> Result<Session, StoreError> {
    let connecting = database.connect("murmur outbox").await;
    connecting.map_err(|error| StoreError { what: "connect to the database", cause: error.to_string() })
}

/// Makes the tables where they are not; of several sidecars one after the other.
///
/// Only there: to make a trigger anew would wait for the service's transactions, and they for it.
async fn make(session: &Session) -> Result<(), StoreError> {
    let what = "make the tables of the outbox";
    let there = session.client.query_one("SELECT to_regclass('public.murmur_outbox_relay') IS NOT NULL", &[]);
    if answered(what, there).await?.get(0) {
        return Ok(());
    }
    // A role's name in quotes, whatever it holds.
    let service = session.service.replace('"', "\"\"");
    let schema = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({MAKING});\n{SCHEMA}\n\
         GRANT SELECT, INSERT ON public.murmur_outbox TO \"{service}\";\n\
         GRANT SELECT, DELETE ON public.murmur_outbox_refused TO \"{service}\";\nCOMMIT"
    );
    answered(what, session.client.batch_execute(&schema)).await
}

async fn answered<T>(
    what: &'static str,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match timeout(ANSWER, statement).await {
        Ok(result) => result.map_err(|error| StoreError { what, cause: told(&error) }),
        Err(_) => Err(StoreError { what, cause: format!("the database has not answered within {ANSWER:?}") }),
    }
}

impl Postgres {
    /// Connects and takes the lock. `None`: another session holds it.
    pub(super) async fn open(database: &postgres::Postgres) -> Result<Option<Self>, StoreError> {
        let session = connect(database).await?;
        let what = "become the outbox's relay";
        answered(what, session.client.execute(SETTINGS, &[&IDLE])).await?;
        let locked = session.client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]);
        if !answered(what, locked).await?.get::<_, bool>(0) {
            return Ok(None);
        }
        make(&session).await?;
        answered(what, session.client.batch_execute("LISTEN murmur_outbox")).await?;
        Ok(Some(Self { session, prepared: HashMap::new(), deleted: 0 }))
    }

    /// Runs a statement, which is prepared the first time.
    async fn query(
        &mut self,
        what: &'static str,
        text: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let statement = match self.prepared.get(text) {
            Some(statement) => statement.clone(),
            None => {
                let statement = answered(what, self.session.client.prepare(text)).await?;
                self.prepared.insert(text, statement.clone());
                statement
            }
        };
        answered(what, self.session.client.query(&statement, values)).await
    }
}

impl Store for Postgres {
    async fn mark(&mut self) -> Result<Mark, StoreError> {
        let what = "read where the relay stands";
        let rows = self.query(what, "SELECT stream, sequence FROM public.murmur_outbox_relay", &[]).await?;
        let row = rows.first().ok_or_else(|| StoreError {
            what,
            cause: "the table murmur_outbox_relay has lost its one row".to_owned(),
        })?;
        Ok(Mark { stream: row.get(0), sequence: row.get::<_, i64>(1).unsigned_abs() })
    }

    async fn rows(&mut self, largest: usize) -> Result<Vec<Row>, StoreError> {
        let limit = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let bounds: [&(dyn ToSql + Sync); 3] = [&limit(MOST_ROWS), &limit(MOST_BYTES), &limit(largest)];
        let rows = self.query("read the outbox", ROWS, &bounds).await?;
        Ok(rows.iter().map(row).collect())
    }

    async fn identities(&mut self, positions: &[i64]) -> Result<Vec<Identity>, StoreError> {
        let statement = "SELECT position, id, source FROM public.murmur_outbox WHERE position = ANY ($1)";
        let rows = self.query("look for rows of the outbox", statement, &[&positions]).await?;
        let identity =
            |row: &tokio_postgres::Row| Identity { position: row.get(0), id: row.get(1), source: row.get(2) };
        Ok(rows.iter().map(identity).collect())
    }

    async fn settle(&mut self, positions: &[i64], mark: &Mark) -> Result<(), StoreError> {
        let statement = "
            WITH gone AS (DELETE FROM public.murmur_outbox WHERE position = ANY ($1))
            UPDATE public.murmur_outbox_relay SET stream = $2, sequence = $3";
        let sequence = i64::try_from(mark.sequence).unwrap_or(i64::MAX);
        let what = "delete what is published from the outbox";
        self.query(what, statement, &[&positions, &mark.stream, &sequence]).await?;
        self.deleted += positions.len();
        if self.deleted >= SWEEP {
            self.deleted = 0;
            let sweep = self
                .session
                .client
                .batch_execute("VACUUM (SKIP_LOCKED) public.murmur_outbox, public.murmur_outbox_relay");
            answered("clear the outbox of what was deleted", sweep).await?;
        }
        Ok(())
    }

    async fn refuse(&mut self, position: i64, cause: &str) -> Result<(), StoreError> {
        let statement = "
            WITH gone AS (DELETE FROM public.murmur_outbox WHERE position = $1 RETURNING *)
            INSERT INTO public.murmur_outbox_refused SELECT gone.*, $2::text FROM gone";
        self.query("put a row among the refused", statement, &[&position, &cause]).await?;
        Ok(())
    }

    async fn refusals(&mut self) -> Result<Refusals, StoreError> {
        let statement = "
            SELECT (SELECT count(*) FROM (SELECT FROM public.murmur_outbox_refused LIMIT $1) AS counted),
                   (SELECT cause FROM public.murmur_outbox_refused ORDER BY refused DESC LIMIT 1)";
        let most = i64::try_from(MOST_COUNTED).unwrap_or(i64::MAX);
        let rows = self.query("count the refused rows", statement, &[&most]).await?;
        let Some(row) = rows.first() else { return Ok(Refusals::default()) };
        Ok(Refusals { count: row.get::<_, i64>(0).unsigned_abs(), cause: row.get(1) })
    }

    async fn changed(&mut self, patience: Duration) -> Result<(), StoreError> {
        match timeout(patience, self.session.notifications.recv()).await {
            // Nothing was said, which the next look at the table makes up for.
            Err(_) | Ok(Some(_)) => Ok(()),
            Ok(None) => Err(StoreError {
                what: "hear of what is committed",
                cause: "the connection to the database is lost".to_owned(),
            }),
        }
    }
}

fn row(row: &tokio_postgres::Row) -> Row {
    let size: i64 = row.get(1);
    let columns = match row.get::<_, Option<String>>(2) {
        // The table lets no id be NULL: this row was not read.
        None => Err(Unreadable::TooLarge),
        Some(id) => Ok(Columns {
            id,
            event_type: row.get(3),
            source: row.get(4),
            subject: row.get(5),
            partition_key: row.get(6),
            data: row.get::<_, Option<String>>(7).map(Bytes::from),
            data_base64: row.get(8),
            data_content_type: row.get(9),
            time: row.get(10),
            extensions: row.get(11),
            trace_parent: row.get(12),
        }),
    };
    Row { position: row.get(0), size: usize::try_from(size).unwrap_or(usize::MAX), columns }
}
