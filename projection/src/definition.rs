//! A projection's definition, read and checked as far as that goes without a database.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use murmur_mesh::config::Projection;
use murmur_mesh::name::EventType;

use crate::lexer::{Kind, Piece, pieces};
use crate::value::Parameter;

/// What a statement for an event may begin with.
const STATEMENTS: [&str; 6] = ["INSERT", "UPDATE", "DELETE", "WITH", "REPLACE", "MERGE"];

/// How a database names what is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `?1`
    Sqlite,
    /// `$1`
    Postgres,
}

/// Why a definition is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct InvalidProjection {
    /// Where in the definition.
    pub place: String,
    /// What is wrong, and what to do.
    pub cause: String,
}

/// A definition whose parts are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The tables that it owns.
    pub tables: BTreeSet<String>,
    /// The statements that make them.
    pub schema: Vec<Statement>,
    /// What is done for an event of each type, in this order.
    pub on: BTreeMap<EventType, Vec<Statement>>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Where it stands in the definition.
    pub place: String,
    /// What is bound, in the order of the placeholders.
    pub parameters: Vec<Parameter>,
    sql: String,
}

impl Definition {
    /// Reads a definition.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(projection: &Projection) -> Result<Self, InvalidProjection> {
        let tables: BTreeSet<String> = projection.tables.iter().cloned().collect();
        let schema = statements("projection.schema", &projection.schema)?;
        let mut made = BTreeSet::new();
        for statement in &schema {
            made.extend(statement.makes(&tables)?);
        }
        if let Some(absent) = tables.iter().find(|table| !made.contains(*table)) {
            return Err(InvalidProjection {
                place: "projection.schema".to_owned(),
                cause: format!("it does not make the table {absent}, which projection.tables names"),
            });
        }
        let mut on: BTreeMap<EventType, Vec<Statement>> = BTreeMap::new();
        for one in &projection.on {
            let place = format!("projection.statements[{}].sql", one.event_type);
            let parsed = statements(&place, &one.sql)?;
            for statement in &parsed {
                statement.changes()?;
            }
            on.entry(one.event_type.clone()).or_default().extend(parsed);
        }
        Ok(Self { tables, schema, on })
    }
}

fn statements(place: &str, sql: &str) -> Result<Vec<Statement>, InvalidProjection> {
    let wrong = |cause: String| InvalidProjection { place: place.to_owned(), cause };
    let pieces = pieces(sql).map_err(|cause| wrong(cause.to_owned()))?;
    let mut all = Vec::new();
    for part in pieces.split(|piece| piece.kind == Kind::End) {
        if part.iter().all(|piece| piece.kind == Kind::Space) {
            continue;
        }
        let parameters = part
            .iter()
            .filter(|piece| piece.kind == Kind::Placeholder)
            .map(|piece| Parameter::parse(piece.text).map_err(&wrong))
            .collect::<Result<_, _>>()?;
        let sql = part.iter().map(|piece| piece.text).collect::<String>().trim().to_owned();
        all.push(Statement { place: place.to_owned(), parameters, sql });
    }
    if all.is_empty() {
        return Err(wrong("there is no statement".to_owned()));
    }
    Ok(all)
}

impl Statement {
    /// What goes to the database, with numbers in the place of the placeholders.
    pub fn sql(&self, dialect: Dialect) -> String {
        self.with(dialect, |_| None)
    }

    /// The same for tables of other names: `rename` says which. What a table refers to keeps its name.
    pub fn renamed(&self, dialect: Dialect, rename: impl Fn(&str) -> Option<String>) -> String {
        self.with(dialect, rename)
    }

    /// The statement as it was written.
    pub fn text(&self) -> &str {
        &self.sql
    }

    fn with(&self, dialect: Dialect, rename: impl Fn(&str) -> Option<String>) -> String {
        // It was cut once without an error.
        let pieces = pieces(&self.sql).unwrap_or_default();
        let mut text = String::with_capacity(self.sql.len() + 16);
        let (mut number, mut before) = (0, None::<Piece<'_>>);
        for piece in pieces {
            let may = before.is_none_or(|before| before.text != "." && !before.is("REFERENCES"));
            let renamed = piece.name().filter(|_| may).and_then(|name| rename(&name));
            match (piece.kind, renamed) {
                (Kind::Placeholder, _) => {
                    number += 1;
                    let sign = if dialect == Dialect::Sqlite { '?' } else { '$' };
                    // Writing to a text does not fail.
                    let _ = write!(text, "{sign}{number}");
                }
                (_, Some(name)) => {
                    let _ = write!(text, "\"{}\"", name.replace('"', "\"\""));
                }
                _ => text.push_str(piece.text),
            }
            if piece.kind != Kind::Space {
                before = Some(piece);
            }
        }
        text
    }

    /// What is neither blank nor comment.
    fn words(&self) -> Vec<Piece<'_>> {
        let pieces = pieces(&self.sql).unwrap_or_default();
        pieces.into_iter().filter(|piece| piece.kind != Kind::Space).collect()
    }

    fn wrong(&self, cause: impl Into<String>) -> InvalidProjection {
        InvalidProjection { place: self.place.clone(), cause: cause.into() }
    }

    /// A statement of the schema: the table that it makes, if it is one, among those that there may be.
    fn makes(&self, tables: &BTreeSet<String>) -> Result<Option<String>, InvalidProjection> {
        let words = self.words();
        if !self.parameters.is_empty() {
            return Err(self.wrong("a schema has no placeholders: it is made before any event"));
        }
        let head: Vec<String> = words.iter().take(6).map(|word| word.text.to_uppercase()).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let name = match head.as_slice() {
            ["CREATE", "TABLE", "IF", "NOT", "EXISTS", ..] => 5,
            ["CREATE", "TABLE", ..] => 2,
            ["CREATE", "INDEX", ..] | ["CREATE", "UNIQUE", "INDEX", ..] => return Ok(None),
            _ => {
                return Err(self.wrong(format!(
                    "only CREATE TABLE and CREATE INDEX may stand here, not: {}",
                    begin(&self.sql)
                )));
            }
        };
        let name = words.get(name).and_then(Piece::name).unwrap_or_default();
        if !tables.contains(&name) {
            return Err(self.wrong(format!(
                "it makes the table {name}, which projection.tables does not name: a projection owns what it makes"
            )));
        }
        Ok(Some(name))
    }

    /// The name of the index that it makes, if it makes one.
    pub fn index(&self) -> Option<String> {
        let words = self.words();
        let mut words = words.iter().skip_while(|word| !word.is("INDEX")).skip(1).peekable();
        if !self.words().iter().take(3).any(|word| word.is("INDEX")) {
            return None;
        }
        if words.peek()?.is("IF") {
            words.nth(2);
        }
        words.next()?.name().filter(|name| name != "on")
    }

    /// A statement for an event.
    fn changes(&self) -> Result<(), InvalidProjection> {
        let words = self.words();
        let first = words.first().map(|word| word.text.to_uppercase()).unwrap_or_default();
        if !STATEMENTS.contains(&first.as_str()) {
            return Err(
                self.wrong(format!("it must be an INSERT, UPDATE or DELETE, not: {}", begin(&self.sql)))
            );
        }
        let is_qualified = |two: &[Piece<'_>]| {
            let schema =
                two[0].name().is_some_and(|name| ["public", "main", "temp"].contains(&name.as_str()));
            schema && two[1].text == "."
        };
        if words.windows(2).any(is_qualified) {
            return Err(self.wrong("write tables without their schema: a rebuild is made in another one"));
        }
        Ok(())
    }
}

/// The beginning of a statement, for people.
fn begin(sql: &str) -> String {
    sql.split_whitespace().take(6).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use murmur_mesh::config::{On, OnChange};

    use super::*;

    fn projection(schema: &str, sql: &str) -> Projection {
        Projection {
            tables: vec!["products".into()],
            on_change: OnChange::Rebuild,
            schema: schema.into(),
            on: vec![On { event_type: "ProductCreated".parse().unwrap(), sql: sql.into() }],
        }
    }

    fn product_created() -> EventType {
        "ProductCreated".parse().unwrap()
    }

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS products (id TEXT PRIMARY KEY, title TEXT);\n\
        CREATE INDEX IF NOT EXISTS by_title ON products (title)";
    const SQL: &str = "INSERT INTO products AS p VALUES (:data.id, :data.title?) -- for :nobody\n\
        ON CONFLICT (id) DO UPDATE SET title = excluded.title WHERE p.title <> 'products'";

    #[test]
    fn values_are_bound_by_number() {
        let definition = Definition::parse(&projection(SCHEMA, SQL)).unwrap();
        let statement = &definition.on[&product_created()][0];
        assert!(statement.sql(Dialect::Sqlite).contains("VALUES (?1, ?2) -- for :nobody"));
        assert!(statement.sql(Dialect::Postgres).contains("VALUES ($1, $2)"));
        assert_eq!((definition.schema.len(), statement.parameters.len()), (2, 2));
        assert_eq!(definition.schema[1].index().as_deref(), Some("by_title"));
        assert_eq!(definition.schema[0].index(), None);
    }

    #[test]
    fn tables_get_other_names_and_nothing_else_does() {
        let rename = |name: &str| (name == "products").then(|| "new_products".to_owned());
        let sql = "INSERT INTO Products SELECT 'products', p.products, \"products\".x FROM \"products\" p -- products";
        let definition = Definition::parse(&projection(SCHEMA, sql)).unwrap();
        let statement = &definition.on[&product_created()][0];
        assert_eq!(
            statement.renamed(Dialect::Sqlite, rename),
            "INSERT INTO \"new_products\" SELECT 'products', p.products, \"new_products\".x FROM \"new_products\" p \
             -- products"
        );
        let schema = "CREATE TABLE products (a TEXT REFERENCES products (a))";
        let definition = Definition::parse(&projection(schema, SQL)).unwrap();
        assert_eq!(
            definition.schema[0].renamed(Dialect::Sqlite, rename),
            "CREATE TABLE \"new_products\" (a TEXT REFERENCES products (a))"
        );
    }

    #[test]
    fn what_a_projection_does_not_own_is_refused() {
        for (schema, word) in [
            ("CREATE TABLE other (a)", "other"),
            ("CREATE INDEX i ON products (a)", "does not make the table products"),
            ("DROP TABLE products", "only CREATE TABLE"),
            ("CREATE TRIGGER t AFTER INSERT ON products BEGIN DELETE FROM x; END", "only CREATE TABLE"),
            ("CREATE TABLE products (a TEXT DEFAULT :data.a)", "no placeholders"),
            ("", "no statement"),
        ] {
            let error = Definition::parse(&projection(schema, SQL)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        for (sql, word) in [
            ("DROP TABLE products", "INSERT, UPDATE or DELETE"),
            ("SELECT 1", "INSERT, UPDATE or DELETE"),
            ("INSERT INTO public.products VALUES (1)", "without their schema"),
            ("INSERT INTO products VALUES ('a", "no end"),
            ("INSERT INTO products VALUES (:a.b)", "only data has members"),
            (" ; ", "no statement"),
        ] {
            let error = Definition::parse(&projection(SCHEMA, sql)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.to_string().starts_with("projection.statements[ProductCreated].sql"), "{error}");
        }
    }
}
