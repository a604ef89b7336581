//! What the Secret of a person holds, and when it must be written anew. Pure
//! but for new keys.

use std::collections::BTreeMap;
use std::time::Duration;

use murmur_mesh::people::{CREDENTIALS_FILE, Person, URL_FILE};
use murmur_plan::permissions;
use nkeys::KeyPair;

use crate::trust::{Account, ClaimsError, User, expires, same_user};

/// How long credentials hold: what was copied elsewhere ends by itself.
pub(super) const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Credentials that end before this time has passed are renewed.
pub(super) const RENEWED_BEFORE: Duration = Duration::from_secs(15 * 24 * 3600);

/// The Secret's files.
pub type Files = BTreeMap<String, String>;

/// What the Secret should hold instead of `found`, `now` being the seconds
/// since 1970; `None` when it is as it should be. A key that can be used is kept.
///
/// # Errors
/// When the account's key cannot sign.
pub fn renewed(
    person: Person,
    account: &Account,
    url: &str,
    found: &Files,
    now: i64,
) -> Result<Option<Files>, ClaimsError> {
    let old = found.get(CREDENTIALS_FILE).and_then(|text| parse(text));
    if let Some((jwt, pair)) = &old
        && found.get(URL_FILE).is_some_and(|found| found == url)
        && same_user(jwt, &user(person, account, pair), &account.issuer())
        && expires(jwt).is_some_and(|end| end > now.saturating_add(seconds(RENEWED_BEFORE)))
    {
        return Ok(None);
    }
    let pair = old.map_or_else(KeyPair::new_user, |(_, pair)| pair);
    let end = now.saturating_add(seconds(LIFETIME));
    let jwt = account.mint_until(&user(person, account, &pair), end)?;
    let seed = pair.seed().map_err(|error| ClaimsError::Key(error.to_string()))?;
    Ok(Some(BTreeMap::from([
        (CREDENTIALS_FILE.to_owned(), format(&jwt, &seed)),
        (URL_FILE.to_owned(), url.to_owned()),
    ])))
}

fn user(person: Person, account: &Account, pair: &KeyPair) -> User {
    let permissions = permissions::of_person(person);
    User {
        name: person.secret().to_owned(),
        public_key: pair.public_key(),
        account: account.public_key(),
        publish: permissions.publish,
        subscribe: permissions.subscribe,
    }
}

/// The form of NATS's own tools.
fn format(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// JWT and key; `None` when the text is not what [`format`] makes.
fn parse(text: &str) -> Option<(String, KeyPair)> {
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('-'));
    let (jwt, seed) = (lines.next()?, lines.next()?);
    Some((jwt.trim().to_owned(), KeyPair::from_seed(seed.trim()).ok()?))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Account;

    const URL: &str = "nats://nats:4222";
    const NOW: i64 = 1_800_000_000;

    fn made(account: &Account) -> Files {
        renewed(Person::Viewer, account, URL, &Files::new(), NOW).unwrap().unwrap()
    }

    fn seed(files: &Files) -> String {
        parse(&files[CREDENTIALS_FILE]).unwrap().1.seed().unwrap()
    }

    #[test]
    fn credentials_are_left_alone_for_half_their_life_and_then_renewed_with_the_same_key() {
        let account = Account::new().unwrap();
        let files = made(&account);
        let at = |now| renewed(Person::Viewer, &account, URL, &files, now).unwrap();
        assert_eq!(at(NOW + seconds(LIFETIME - RENEWED_BEFORE) - 1), None);
        let later = at(NOW + seconds(LIFETIME - RENEWED_BEFORE)).unwrap();
        assert_eq!(seed(&later), seed(&files));
        let (jwt, _) = parse(&later[CREDENTIALS_FILE]).unwrap();
        assert!(expires(&jwt).unwrap() > NOW + seconds(LIFETIME));
    }

    #[test]
    fn another_url_account_or_person_makes_them_anew() {
        let account = Account::new().unwrap();
        let files = made(&account);
        assert!(renewed(Person::Viewer, &account, "nats://other:4222", &files, NOW).unwrap().is_some());
        assert!(renewed(Person::Viewer, &Account::new().unwrap(), URL, &files, NOW).unwrap().is_some());
        assert!(renewed(Person::Admin, &account, URL, &files, NOW).unwrap().is_some());
    }

    #[test]
    fn what_someone_spoiled_is_made_anew() {
        let account = Account::new().unwrap();
        for text in ["", "nonsense", "a\nb\nc"] {
            let mut files = made(&account);
            files.insert(CREDENTIALS_FILE.to_owned(), text.to_owned());
            let again = renewed(Person::Viewer, &account, URL, &files, NOW).unwrap().unwrap();
            assert!(parse(&again[CREDENTIALS_FILE]).is_some());
        }
    }
}
