//! A projection in the service's Postgres database.
//!
//! Statements for events run as a role that has rights on the projection's tables
//! alone. What is built beside has a schema of its own, whose tables a swap moves.
//! A transaction goes out in one piece; when an event fails in it, what comes before
//! that one is applied again without it, and then it is tried first.

mod rows;
mod statements;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use futures::poll;
use tokio_postgres::{Client, Error};

use self::rows::Rows;
use self::statements::Statements;
use super::plan::{Plan, Row, find, plan};
use super::{Applied, Blame, Item, Projection, Standing, Trouble, Work, bind};
use crate::database::postgres::{Postgres, Session, told};

/// How long anything may take until the server counts as away.
const LONGEST: Duration = Duration::from_secs(45);
/// The server ends what takes longer, and transactions of a sidecar that is gone.
const SETTINGS: &str = "SET statement_timeout = '20s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '10s'; SET client_min_messages = 'warning'";

/// An open connection.
#[derive(Debug)]
pub(crate) struct PostgresStore {
    session: Session,
    projection: Projection,
    rows: Rows,
    /// As this connection left it.
    row: Row,
    statements: Statements,
    names: Names,
}

/// What a projection has beside its tables.
#[derive(Debug, Clone)]
struct Names {
    role: String,
    schema: String,
}

fn away(error: &Error) -> Trouble {
    Trouble::Away(format!("the database: {}", told(error)))
}

/// What a failure says about its event, by the class of its code.
fn blame(error: &Error) -> Blame {
    let Some(code) = error.code() else { return Blame::Database };
    match code.code() {
        // A statement that took too long. One that waited for a lock says something else.
        "57014" => Blame::Chance,
        code => match &code[..2] {
            // Cardinality, data, constraints, triggers' own errors, limits, views' checks, routines.
            "21" | "22" | "23" | "P0" | "54" | "44" | "38" | "39" | "2F" => Blame::Event,
            "42" | "0A" | "3F" | "3D" | "2B" => Blame::Statement,
            _ => Blame::Database,
        },
    }
}

/// No answer for so long is as good as no server.
async fn in_time<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    match tokio::time::timeout(LONGEST, work).await {
        Ok(done) => done,
        Err(_) => Err(Trouble::Away(format!("the database does not answer within {LONGEST:?}"))),
    }
}

impl Names {
    /// Names of subscriptions have no `_`, so no two become one.
    fn new(subscription: &str) -> Self {
        let name = subscription.replace('-', "_");
        Self { role: format!("murmur_p_{name}"), schema: format!("murmur_b_{name}") }
    }
}

impl PostgresStore {
    pub(super) async fn open(folder: &Path, projection: &Projection) -> Result<(Self, Standing), Trouble> {
        let purpose = format!("murmur projection {}", projection.identity.subscription);
        let session = Postgres::new(folder)
            .connect(&purpose)
            .await
            .map_err(|error| Trouble::Away(error.to_string()))?;
        in_time(Self::prepare(session, projection.clone())).await
    }

    async fn prepare(session: Session, projection: Projection) -> Result<(Self, Standing), Trouble> {
        let client = &session.client;
        client.batch_execute(SETTINGS).await.map_err(|error| away(&error))?;
        let names = Names::new(&projection.identity.subscription);
        // An error from here on ends the session, and with it the transaction.
        run(client, "BEGIN").await?;
        rows::make_table(client).await.map_err(|error| away(&error))?;
        let rows = Rows::prepare(client).await.map_err(|error| away(&error))?;
        let row = make(&session, &rows, &projection, &names).await?;
        let path = if row.beside { format!("\"{}\", public", names.schema) } else { "public".to_owned() };
        statements::check(client, &projection.definition, &names.role, &path).await?;
        run(client, "COMMIT").await?;
        run(client, &format!("SET search_path TO {path}")).await?;
        let statements = Statements::prepare(client, &projection.definition).await?;
        let standing = row.standing();
        Ok((Self { projection, rows, row, statements, names, session }, standing))
    }

    pub(super) async fn apply(&mut self, items: &[Item]) -> Result<Applied, Trouble> {
        in_time(self.apply_within(items)).await
    }

    async fn apply_within(&mut self, items: &[Item]) -> Result<Applied, Trouble> {
        // A position never goes back: who asks for that knows of an old one.
        if items.first().is_some_and(|first| first.sequence <= self.row.position) {
            return Ok(Applied::Fenced);
        }
        let mut size = items.len();
        let (blame, cause) = loop {
            match self.transaction(&items[..size]).await? {
                Tried::Done => return Ok(Applied::Done(size)),
                Tried::Fenced => return Ok(Applied::Fenced),
                Tried::Failed(_, Blame::Database, cause) => return Err(Trouble::Away(cause)),
                // Those before it go in without it; then it is the first, and has nobody else to blame.
                Tried::Failed(failed, ..) if failed > 0 => size = failed,
                Tried::Failed(_, blame, cause) => break (blame, cause),
            }
        };
        match blame {
            Blame::Statement => Err(Trouble::Invalid(cause)),
            Blame::Chance => Ok(Applied::Failed(0, cause)),
            Blame::Event | Blame::Database => {
                let mut next = self.row.clone();
                next.version += 1;
                next.rejected = Some((items[0].sequence, cause.clone()));
                let client = &self.session.client;
                let moved =
                    self.rows.advance(client, &self.row, &next).await.map_err(|error| away(&error))?;
                if !moved {
                    return Ok(Applied::Fenced);
                }
                self.row = next;
                Ok(Applied::Rejected(0, cause))
            }
        }
    }

    /// All of them in one transaction, or none.
    async fn transaction(&mut self, items: &[Item]) -> Result<Tried, Trouble> {
        let mut next = self.row.clone();
        next.version += 1;
        if let Some(last) = items.last() {
            (next.position, next.rejected) = (last.sequence, None);
        }
        let (client, rows) = (&self.session.client, &self.rows);
        let role = format!("SET LOCAL ROLE \"{}\"", self.names.role);
        let mut failure = None;
        {
            let mut sent: Vec<(usize, Pending<'_>)> = Vec::with_capacity(items.len());
            let mut begun = Box::pin(async { client.batch_execute("BEGIN").await });
            let mut fence = Box::pin(rows.advance(client, &self.row, &next));
            let mut as_role = Box::pin(async { client.batch_execute(&role).await });
            // Polled once, a request is on its way: so they go out in this order.
            let (begun_now, fence_now, role_now) =
                (poll!(&mut begun), poll!(&mut fence), poll!(&mut as_role));
            for (index, item) in items.iter().enumerate() {
                let bound = match &item.work {
                    // Parsed data takes many times its room: it is let go of at once.
                    Work::Apply(message) => self.statements.of(&bind::event(message)),
                    Work::Pass => continue,
                    Work::GiveUp(cause) => Err(cause.clone()),
                };
                let statements = match bound {
                    Ok(statements) => statements,
                    Err(cause) => {
                        failure = Some((index, Blame::Event, cause));
                        break;
                    }
                };
                for statement in statements {
                    let mut pending: Pending<'_> = Box::pin(statement.run(client));
                    // A finished future must not be polled again.
                    match poll!(&mut pending) {
                        std::task::Poll::Pending => sent.push((index, pending)),
                        std::task::Poll::Ready(Ok(())) => {}
                        std::task::Poll::Ready(Err(failed)) => {
                            sent.push((index, Box::pin(std::future::ready(Err(failed)))));
                        }
                    }
                }
            }
            settle(begun_now, begun).await.map_err(|error| away(&error))?;
            let let_through = settle(fence_now, fence).await.map_err(|error| away(&error))?;
            settle(role_now, as_role).await.map_err(|error| away(&error))?;
            for (index, pending) in sent {
                // What comes after the first failure fails because of that one.
                if let Err((blame, cause)) = pending.await
                    && failure.as_ref().is_none_or(|(first, ..)| *first >= index)
                {
                    failure = Some((index, blame, cause));
                    break;
                }
            }
            if !let_through {
                run(client, "ROLLBACK").await?;
                return Ok(Tried::Fenced);
            }
        }
        if let Some((index, blame, cause)) = failure {
            run(client, "ROLLBACK").await?;
            return Ok(Tried::Failed(index, blame, cause));
        }
        // Deferred constraints speak only now, and of no event in particular.
        match client.batch_execute("COMMIT").await {
            Ok(()) => self.row = next,
            Err(error) if blame(&error) == Blame::Event && items.len() > 1 => {
                return Ok(Tried::Failed(items.len() / 2, Blame::Event, told(&error)));
            }
            Err(error) => return Ok(Tried::Failed(0, blame(&error), told(&error))),
        }
        Ok(Tried::Done)
    }

    pub(super) async fn swap(&mut self) -> Result<(), Trouble> {
        in_time(self.swap_within()).await
    }

    async fn swap_within(&mut self) -> Result<(), Trouble> {
        let client = &self.session.client;
        let subscription = self.row.subscription.clone();
        run(client, "BEGIN").await?;
        let all = self.rows.all(client).await.map_err(|error| away(&error))?;
        let here = all.contains(&self.row);
        if !self.row.beside || !here {
            return run(client, "ROLLBACK").await;
        }
        let live = all.iter().find(|row| row.subscription == subscription && !row.beside);
        let swap = |error: Error| match blame(&error) {
            Blame::Statement => Trouble::Invalid(format!(
                "the rebuilt tables cannot take their place: {}; drop what depends on the old ones",
                told(&error)
            )),
            _ => away(&error),
        };
        for table in live.map(Row::tables).unwrap_or_default() {
            client.batch_execute(&format!("DROP TABLE IF EXISTS public.\"{table}\"")).await.map_err(swap)?;
        }
        let schema = &self.names.schema;
        for table in self.projection.tables() {
            let sql = format!("ALTER TABLE \"{schema}\".\"{table}\" SET SCHEMA public");
            client.batch_execute(&sql).await.map_err(swap)?;
        }
        let mut next = self.row.clone();
        (next.beside, next.version) = (false, next.version + 1);
        self.rows.remove(client, &subscription, true).await.map_err(|error| away(&error))?;
        self.rows.put(client, &next).await.map_err(|error| away(&error))?;
        run(client, &format!("DROP SCHEMA \"{schema}\"")).await?;
        run(client, "COMMIT").await
    }
}

type Pending<'a> = Pin<Box<dyn Future<Output = Result<(), (Blame, String)>> + Send + 'a>>;

/// What came of a transaction.
enum Tried {
    Done,
    Fenced,
    /// The event of this index failed; nothing is in.
    Failed(usize, Blame, String),
}

/// The result of what was polled once.
async fn settle<T>(first: std::task::Poll<T>, rest: Pin<Box<impl Future<Output = T>>>) -> T {
    match first {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => rest.await,
    }
}

async fn run(client: &Client, sql: &str) -> Result<(), Trouble> {
    client.batch_execute(sql).await.map_err(|error| match blame(&error) {
        Blame::Statement => Trouble::Invalid(format!("the database refuses {sql:?}: {}", told(&error))),
        _ => away(&error),
    })
}

/// Makes what is missing, within a transaction.
async fn make(
    session: &Session,
    rows: &Rows,
    projection: &Projection,
    names: &Names,
) -> Result<Row, Trouble> {
    let client = &session.client;
    let identity = &projection.identity;
    let all = rows.all(client).await.map_err(|error| away(&error))?;
    let planned = plan(&all, identity, projection.tables()).map_err(Trouble::Invalid)?;
    let row = planned.row(&all, identity, projection.table_list()).map_err(Trouble::Waits)?;
    make_role(client, &names.role).await?;
    if !row.beside || planned == Plan::MakeBeside {
        rows.remove(client, &identity.subscription, true).await.map_err(|error| away(&error))?;
        run(client, &format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", names.schema)).await?;
    }
    let schema = if row.beside { names.schema.as_str() } else { "public" };
    if matches!(planned, Plan::Make | Plan::MakeBeside | Plan::Adopt) {
        let adopted = find(&all, identity, false).filter(|_| planned == Plan::Adopt);
        make_tables(client, projection, names, schema, adopted).await?;
        rows.put(client, &row).await.map_err(|error| away(&error))?;
    }
    for table in projection.tables() {
        if !exists(client, schema, table).await? {
            return Err(Trouble::Invalid(format!(
                "the table {table} is gone: a new spec.replay.id builds the projection's tables anew"
            )));
        }
        // A database that was restored may not know of rights.
        statements::grant(client, schema, table, &names.role, &session.service).await?;
    }
    Ok(row)
}

/// Makes the tables; those that the projection has already stay.
async fn make_tables(
    client: &Client,
    projection: &Projection,
    names: &Names,
    schema: &str,
    before: Option<Row>,
) -> Result<(), Trouble> {
    if schema == names.schema {
        run(
            client,
            &format!("CREATE SCHEMA \"{schema}\"; GRANT USAGE ON SCHEMA \"{schema}\" TO \"{}\"", names.role),
        )
        .await?;
    }
    let owned = before.map(|row| row.tables());
    for table in projection.tables() {
        let known = owned.as_ref().is_some_and(|owned| owned.contains(table));
        if !known && exists(client, schema, table).await? {
            return Err(Trouble::Invalid(format!(
                "there is a table {table} already, which no projection made: drop or rename it, or choose another name"
            )));
        }
    }
    statements::make(client, &projection.definition, schema).await
}

async fn make_role(client: &Client, role: &str) -> Result<(), Trouble> {
    let known = client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&role]).await;
    if known.map_err(|error| away(&error))?.is_none() {
        run(client, &format!("CREATE ROLE \"{role}\" NOLOGIN; GRANT \"{role}\" TO CURRENT_USER")).await?;
    }
    Ok(())
}

async fn exists(client: &Client, schema: &str, table: &str) -> Result<bool, Trouble> {
    let find = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = $1 AND c.relname = $2";
    let found = client.query_opt(find, &[&schema, &table]).await.map_err(|error| away(&error))?;
    Ok(found.is_some())
}
