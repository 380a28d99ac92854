//! Values as a user types them and as messages show them.

pub mod duration;
pub(crate) mod echo;
