//! Credentials for people: a Secret for whoever views a mesh and one for
//! whoever administers it, made and renewed for as long as the mesh is served.

mod content;
mod keep;

pub use content::{Files, renewed};
pub use keep::Keeper;
