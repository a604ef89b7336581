//! Filters of subscriptions: CEL expressions over `event`. Pure, so that operator
//! and sidecar compile alike: what one takes the other takes.
//!
//! `event` has the attributes `id`, `source`, `type`, `time`, `subject` and
//! `partitionkey` as strings, further ones under `extensions`, and `data` where
//! it is JSON. JSON knows one kind of number: those without a fraction are int,
//! the others double, however they are written.
//!
//! The cost of an event is bounded by the lengths of expression and event: there
//! are no loops (`all`, `exists`, `map`, `filter`) and no regular expressions.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr};
use cel::objects::{Key, Map};
use cel::parser::Parser;
use cel::{Context, Env, IdedExpr, Value};
use murmur_mesh::event::structured;

/// The longest expression, in bytes.
pub const LONGEST: usize = 2048;
/// The deepest nesting of brackets: the parser calls itself many times for each.
const DEEPEST: usize = 12;
/// Room for the parser; only what it uses becomes memory.
const PARSERS_STACK: usize = 64 << 20;
/// The most operators: each may be a level of its own.
const MOST_OPERATORS: usize = 128;
/// The most levels of the expression: the interpreter calls itself for each.
const MOST_LEVELS: usize = 24;
/// The one variable.
const EVENT: &str = "event";
/// Functions beside the operators.
const FUNCTIONS: [&str; 8] =
    ["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string"];

/// Why an expression is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// It is too long.
    #[error("the filter has {0} bytes; at most {LONGEST} are allowed")]
    TooLong(usize),
    /// It is too deep.
    #[error(
        "the filter has more than {DEEPEST} brackets inside each other, more than {MOST_OPERATORS} operators, or more than {MOST_LEVELS} levels"
    )]
    TooDeep,
    /// It is not CEL.
    #[error("the filter is not a CEL expression: {0}")]
    Syntax(String),
    /// It loops.
    #[error("the filter loops (all, exists, exists_one, map or filter); its cost would have no bound")]
    Loop,
    /// It uses what there is not.
    #[error("the filter uses {0:?}; there are the variable event, the operators, has() and {functions}", functions = FUNCTIONS.join(", "))]
    Unknown(String),
}

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    expression: IdedExpr,
    environment: Environment,
    needs_data: bool,
}

struct Environment(Arc<Env>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}

/// What a filter makes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is for the subscription.
    Passes,
    /// It is not.
    Filtered,
    /// It is not, as the expression has no value for it: say, a field is missing.
    Failed(String),
}

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is no filter.
    pub fn compile(source: &str) -> Result<Self, InvalidFilter> {
        if source.len() > LONGEST {
            return Err(InvalidFilter::TooLong(source.len()));
        }
        if is_too_deep(source) {
            return Err(InvalidFilter::TooDeep);
        }
        let expression = parse(source).map_err(InvalidFilter::Syntax)?;
        check(&expression)?;
        let environment = Environment(Arc::new(Env::stdlib()));
        Ok(Self { expression, environment, needs_data: source.contains("data") })
    }

    /// Computes it for an event of these attributes and this data.
    pub fn decide<'a>(
        &self,
        attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
        data: &[u8],
    ) -> Outcome {
        let mut context = Context::with_env(self.environment.0.clone());
        context.add_variable_from_value(EVENT, self.event(attributes, data));
        match Value::resolve(&self.expression, &context) {
            Ok(Value::Bool(true)) => Outcome::Passes,
            Ok(Value::Bool(false)) => Outcome::Filtered,
            Ok(_) => Outcome::Failed("the filter is neither true nor false".to_owned()),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn event<'a>(&self, attributes: impl IntoIterator<Item = (&'a str, &'a str)>, data: &[u8]) -> Value {
        let mut event = HashMap::new();
        let mut extensions = HashMap::new();
        let mut json = true;
        for (name, value) in attributes {
            let text = Value::String(Arc::new(value.to_owned()));
            match name {
                "id" | "source" | "type" | "time" | "subject" | "partitionkey" => {
                    event.insert(key(name), text);
                }
                "datacontenttype" => json = structured::is_json(value),
                "specversion" => {}
                _ => {
                    extensions.insert(key(name), text);
                }
            }
        }
        event.insert(key("extensions"), map(extensions));
        if self.needs_data
            && json
            && let Ok(data) = serde_json::from_slice(data)
        {
            event.insert(key("data"), value(data));
        }
        map(event)
    }
}

fn key(name: &str) -> Key {
    Key::String(Arc::new(name.to_owned()))
}

fn map(entries: HashMap<Key, Value>) -> Value {
    Value::Map(Map { map: Arc::new(entries) })
}

/// The largest magnitude below which every integer has a double of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.into_iter().map(value).collect())),
        serde_json::Value::Object(fields) => {
            map(fields.into_iter().map(|(name, field)| (Key::String(Arc::new(name)), value(field))).collect())
        }
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Value::Int(int),
            // Within these bounds the conversion is exact.
            (None, Some(double)) if double.fract() == 0.0 && double.abs() < EXACT => {
                Value::Int(double as i64)
            }
            (None, double) => Value::Float(double.unwrap_or(f64::NAN)),
        },
    }
}

/// Parses on a stack of its own: the parser needs much for each level.
fn parse(source: &str) -> Result<IdedExpr, String> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().name("cel".to_owned()).stack_size(PARSERS_STACK);
        let parsed = parser
            .spawn_scoped(scope, || Parser::new().parse(source))
            .map_err(|error| format!("no thread to parse it on: {error}"))?;
        match parsed.join() {
            Ok(Ok(expression)) => Ok(expression),
            Ok(Err(errors)) => Err(errors.to_string().lines().next().unwrap_or_default().to_owned()),
            Err(_) => Err("the parser failed".to_owned()),
        }
    })
}

/// Whether parser or interpreter might call themselves too often. What stands in
/// texts counts, too: that makes it simple, and never too little.
fn is_too_deep(source: &str) -> bool {
    let (mut depth, mut deepest, mut operators) = (0_usize, 0, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'!' | b'<' | b'>' | b'=' | b'&' | b'|' | b'?' | b'.' => {
                operators += 1;
            }
            _ => {}
        }
    }
    // `in` is an operator without a sign.
    operators += source.matches("in").count();
    deepest > DEEPEST || operators > MOST_OPERATORS
}

/// Refuses loops and what there is not.
fn check(expression: &IdedExpr) -> Result<(), InvalidFilter> {
    let mut waiting = vec![(expression, 1)];
    while let Some((one, level)) = waiting.pop() {
        if level > MOST_LEVELS {
            return Err(InvalidFilter::TooDeep);
        }
        let mut parts: Vec<&IdedExpr> = Vec::new();
        match &one.expr {
            Expr::Comprehension(_) => return Err(InvalidFilter::Loop),
            Expr::Ident(name) if name != EVENT => return Err(InvalidFilter::Unknown(name.clone())),
            Expr::Struct(message) => return Err(InvalidFilter::Unknown(message.type_name.clone())),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                // The parser's names of operators (`_+_`, `@in`) are no names that can be written.
                let operator = name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
                if !operator && !FUNCTIONS.contains(&name) {
                    return Err(InvalidFilter::Unknown(name.to_owned()));
                }
                parts.extend(call.target.as_deref());
                parts.extend(&call.args);
            }
            Expr::Select(select) => parts.push(&select.operand),
            Expr::List(list) => parts.extend(&list.elements),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        parts.extend([&entry.key, &entry.value]);
                    }
                }
            }
            _ => {}
        }
        waiting.extend(parts.into_iter().map(|part| (part, level + 1)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTES: [(&str, &str); 6] = [
        ("specversion", "1.0"),
        ("id", "1"),
        ("source", "/shop/products"),
        ("type", "ProductCreated"),
        ("datacontenttype", "application/json; charset=utf-8"),
        ("color", "red"),
    ];

    fn decide(source: &str, data: &str) -> Outcome {
        Filter::compile(source)
            .unwrap_or_else(|error| panic!("{source}: {error}"))
            .decide(ATTRIBUTES, data.as_bytes())
    }

    fn passes(source: &str, data: &str) -> bool {
        match decide(source, data) {
            Outcome::Passes => true,
            Outcome::Filtered => false,
            Outcome::Failed(cause) => panic!("{source} of {data}: {cause}"),
        }
    }

    #[test]
    fn numbers_without_a_fraction_are_int_and_the_others_double() {
        for int in ["5", "5.0", "5e0"] {
            let data = format!("{{\"n\": {int}}}");
            for (source, expected) in [
                ("event.data.n == 5", true),
                ("event.data.n == 5.0", true),
                ("event.data.n == 6", false),
                ("event.data.n < 6", true),
                ("event.data.n < 5", false),
                ("event.data.n < 5.5", true),
                ("event.data.n > 4.5", true),
                ("event.data.n + 1 == 6", true),
                ("double(event.data.n) + 0.5 == 5.5", true),
                ("event.data.n in [4, 5]", true),
                ("event.data.n in [6]", false),
            ] {
                assert_eq!(passes(source, &data), expected, "{source} of {data}");
            }
        }
        let data = r#"{"n": 5.5}"#;
        for (source, expected) in [
            ("event.data.n == 5.5", true),
            ("event.data.n == 5", false),
            ("event.data.n < 6", true),
            ("event.data.n < 5.5", false),
            ("event.data.n + 0.5 == 6.0", true),
            ("event.data.n in [5.5, 7.0]", true),
            ("event.data.n in [5, 6]", false),
        ] {
            assert_eq!(passes(source, data), expected, "{source} of {data}");
        }
        assert!(passes("event.data.n == -9223372036854775808", r#"{"n": -9223372036854775808}"#));
        assert!(passes("event.data.n > 1e18", r#"{"n": 18446744073709551615}"#));
    }

    #[test]
    fn an_int_and_a_double_do_not_add_up_and_that_is_said() {
        assert!(matches!(decide("event.data.n + 0.5 > 1.0", r#"{"n": 5}"#), Outcome::Failed(_)));
    }

    #[test]
    fn attributes_extensions_and_structure_can_be_asked_for() {
        for source in [
            "event.id == '1' && event.type.startsWith('Product')",
            "event.source == '/shop/products'",
            "event.extensions.color == 'red'",
            "!has(event.subject) && !has(event.extensions.shape)",
            "has(event.data.tags) && 'new' in event.data.tags",
            "event.data.size.width * 2 == 6",
            "size(event.data.tags) == 2 && event.data.tags[0] == 'new'",
            "event.data.on ? true : false",
        ] {
            assert!(
                passes(source, r#"{"tags": ["new", "x"], "size": {"width": 3}, "on": true}"#),
                "{source}"
            );
        }
    }

    #[test]
    fn a_missing_field_is_no_match_and_is_told_from_one_that_differs() {
        assert!(matches!(decide("event.data.price > 10", "{}"), Outcome::Failed(_)));
        assert!(matches!(decide("event.data.price > 10", "no json"), Outcome::Failed(_)));
        assert!(matches!(decide("event.subject == 'a'", "{}"), Outcome::Failed(_)));
        assert!(matches!(decide("event.data.price", r#"{"price": 1}"#), Outcome::Failed(_)));
        assert_eq!(decide("event.data.price > 10", r#"{"price": 9}"#), Outcome::Filtered);
        assert!(passes("event.data.price > 10 || event.id == '1'", "{}"), "the other side may decide");
    }

    #[test]
    fn data_that_is_not_json_is_not_there() {
        let filter = Filter::compile("has(event.data)").unwrap();
        assert_eq!(filter.decide([("datacontenttype", "text/plain")], b"1"), Outcome::Filtered);
        assert_eq!(filter.decide([("datacontenttype", "application/x+json")], b"1"), Outcome::Passes);
        assert_eq!(filter.decide([], b"1"), Outcome::Passes, "JSON is what data is unless it says otherwise");
    }

    #[test]
    fn what_does_not_compile_or_has_no_bound_is_refused_with_the_cause() {
        let refused = |source: &str| Filter::compile(source).unwrap_err();
        assert!(matches!(refused("event.data.price >"), InvalidFilter::Syntax(_)));
        assert!(matches!(refused(""), InvalidFilter::Syntax(_)));
        assert_eq!(refused("event.data.tags.exists(tag, tag == 'a')"), InvalidFilter::Loop);
        assert_eq!(refused("event.data.tags.map(tag, tag) == []"), InvalidFilter::Loop);
        assert_eq!(refused("evnt.id == '1'"), InvalidFilter::Unknown("evnt".into()));
        for unknown in ["matches", "starts_with", "_in"] {
            let filter = format!("event.id.{unknown}('a')");
            assert_eq!(refused(&filter), InvalidFilter::Unknown(unknown.into()), "{filter}");
        }
        assert!(matches!(refused(&"1+".repeat(LONGEST)), InvalidFilter::TooLong(_)));
        let deep = format!("{}true{}", "(".repeat(500), ")".repeat(500));
        assert_eq!(refused(&deep), InvalidFilter::TooDeep);
        assert_eq!(refused(&format!("{}true", "!".repeat(1000))), InvalidFilter::TooDeep);
    }

    #[test]
    fn the_deepest_expressions_that_are_taken_do_no_harm() {
        let within = |level: &str, middle: &str, end: &str, times: usize| {
            format!("{}{middle}{}", level.repeat(times), end.repeat(times))
        };
        for source in [
            within("(", "true", ")", DEEPEST),
            within("!", "true", "", MOST_OPERATORS),
            within("- ", "1", "", MOST_OPERATORS),
            within("", "1", "+1", MOST_OPERATORS),
            within("true?", "1", ":1", MOST_OPERATORS),
            within("true?1:", "1", "", MOST_OPERATORS),
            within("", "event", ".a", MOST_OPERATORS),
            within("[", "1", "]", DEEPEST),
            within("{1:", "1", "}", DEEPEST),
            within("((!!!!!!!!!!!!!!!!!!!!!", "true", "))", DEEPEST / 2),
            within("", "true", "&&true", 60),
            within("", "1", "+1", MOST_LEVELS - 1),
            within("", "event", ".a", MOST_LEVELS - 1),
            within("size([", "1", "])", DEEPEST / 2),
        ] {
            if let Ok(filter) = Filter::compile(&source) {
                filter.decide(ATTRIBUTES, b"{}");
            }
        }
    }
}
