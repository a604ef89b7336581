//! Who may do what on the bus: the operator's keys, a mesh's account and the
//! users in it, as decentralised NATS JWTs.
//!
//! Keys are made once, by `create` (whoever comes second reads what the first
//! made), and never overwritten: they outlive `helm uninstall` as NATS's own
//! volumes do.

mod account;
mod authority;
mod claims;
mod material;
mod store;

pub use account::{Account, account_claims};
pub use authority::{Authority, Certificate, RENEWED_BEFORE};
pub use claims::{ClaimsError, User, expires, mint_user, same_account, same_user};
pub use material::{SystemUser, Trust, auth_conf, files};
pub use store::{TrustError, load_account, load_authority, load_trust};
