//! SQL, cut into pieces: as much of it as finding placeholders, names of tables
//! and the ends of statements takes. Literals, comments and quoted names are
//! pieces of their own, so that nothing is found inside them.

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A text in single quotes or between dollar signs.
    Literal,
    /// Blanks and comments.
    Space,
    /// `:data.id`, with a `?` behind it if there is one.
    Placeholder,
    /// `;`
    End,
    /// Anything else, one character; `::` is one piece.
    Other,
}

/// One piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
}

impl Piece<'_> {
    /// Whether it is this keyword.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// The name that it is, if it is one: lower case unless it is in quotes.
    pub(crate) fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text.to_lowercase()),
            Kind::Quoted => Some(self.text.trim_matches('"').replace("\"\"", "\"")),
            _ => None,
        }
    }
}

/// Cuts all of it; nothing is left out.
///
/// # Errors
/// What is opened and never closed.
pub(crate) fn pieces(sql: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    let mut all = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = piece(rest, first, all.last())?;
        let (text, behind) = rest.split_at(length);
        all.push(Piece { kind, text });
        rest = behind;
    }
    Ok(all)
}

fn piece(rest: &str, first: char, before: Option<&Piece<'_>>) -> Result<(Kind, usize), &'static str> {
    let second = rest.chars().nth(1);
    Ok(match (first, second) {
        (';', _) => (Kind::End, 1),
        ('-', Some('-')) => (Kind::Space, rest.find('\n').unwrap_or(rest.len())),
        ('/', Some('*')) => (Kind::Space, comment(rest).ok_or("a comment has no end: */ is missing")?),
        ('\'', _) => {
            // E'it\'s' is Postgres'.
            let escapes = before.is_some_and(|before| before.is("e"));
            (Kind::Literal, quoted(rest, '\'', escapes).ok_or("a text has no end: ' is missing")?)
        }
        ('"', _) => (Kind::Quoted, quoted(rest, '"', false).ok_or("a name has no end: \" is missing")?),
        ('`', _) => return Err("a name stands in ` and `: put it in double quotes"),
        ('$', _) => match dollars(rest) {
            Some(length) => {
                (Kind::Literal, length.ok_or("a text has no end: its closing dollars are missing")?)
            }
            None => (Kind::Other, 1),
        },
        (':', Some(':')) => (Kind::Other, 2),
        (':', Some(second)) if starts_name(second) => (Kind::Placeholder, placeholder(rest)),
        (first, _) if first.is_whitespace() => {
            (Kind::Space, rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()))
        }
        (first, _) if in_name(first) => {
            (Kind::Word, rest.find(|c: char| !in_name(c) && c != '$').unwrap_or(rest.len()))
        }
        (first, _) => (Kind::Other, first.len_utf8()),
    })
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Up to behind the quote that closes; a doubled one does not.
fn quoted(rest: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if escapes && c == '\\' {
            characters.next();
        } else if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
    }
    None
}

/// Comments may hold comments in Postgres; in SQLite nobody writes such.
fn comment(rest: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// `$$text$$` and `$tag$text$tag$`; `None`: it is neither.
fn dollars(rest: &str) -> Option<Option<usize>> {
    let tag = rest[1..].find('$').map(|end| &rest[..end + 2])?;
    let name = &tag[1..tag.len() - 1];
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(in_name) {
        return None;
    }
    Some(rest[tag.len()..].find(tag).map(|end| tag.len() + end + tag.len()))
}

/// `:data.a.0."b c"?`
fn placeholder(rest: &str) -> usize {
    let mut at = 1 + rest[1..].find(|c: char| !in_name(c)).unwrap_or(rest.len() - 1);
    while let Some(next) = rest[at..].strip_prefix('.') {
        let length = match next.chars().next() {
            Some('"') => quoted(next, '"', false),
            Some(c) if in_name(c) => Some(next.find(|c: char| !in_name(c)).unwrap_or(next.len())),
            _ => None,
        };
        let Some(length) = length else { break };
        at += 1 + length;
    }
    at + usize::from(rest[at..].starts_with('?'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placeholders(sql: &str) -> Vec<&str> {
        let all = pieces(sql).unwrap();
        all.into_iter().filter(|piece| piece.kind == Kind::Placeholder).map(|piece| piece.text).collect()
    }

    #[test]
    fn placeholders_are_found_where_values_stand() {
        assert_eq!(
            placeholders("VALUES (:data.id, :data.image?, :source,:data.items.0.\"a b\"::int)"),
            [":data.id", ":data.image?", ":source", ":data.items.0.\"a b\""]
        );
        assert_eq!(placeholders("a - :data.b. :c"), [":data.b", ":c"]);
    }

    #[test]
    fn none_is_found_in_texts_comments_names_and_casts() {
        for sql in [
            "':data.id'",
            "'it''s :data.id'",
            "E'it\\'s :data.id'",
            "\":data.id\"",
            "-- :data.id",
            "/* :a /* :b */ :c */",
            "$$ :data.id $$",
            "$body$ :a $$ :b $body$",
            "a::int",
            "arr[1:2]",
            "'a' || 'b:c'",
        ] {
            assert_eq!(placeholders(sql), [] as [&str; 0], "{sql}");
        }
        assert_eq!(placeholders("-- :a\n:b"), [":b"]);
        assert_eq!(placeholders("'\\' || :b"), [":b"], "a backslash is nothing special");
        assert_eq!(placeholders("$1 + :b"), [":b"]);
    }

    #[test]
    fn what_is_not_closed_is_said() {
        for sql in ["'a", "\"a", "/* a", "$$ a", "`a`", "E'a\\'"] {
            assert!(pieces(sql).is_err(), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_out(sql in ".{0,80}") {
            if let Ok(pieces) = pieces(&sql) {
                prop_assert_eq!(pieces.iter().map(|piece| piece.text).collect::<String>(), sql);
            }
        }

        #[test]
        fn sql_of_all_sorts_is_cut_without_a_panic(sql in "['\"$:;?/*.a-c0 \\\\-]{0,40}") {
            let _ = pieces(&sql);
        }
    }
}
