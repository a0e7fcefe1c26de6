//! What the upstream is told of the caller, signed.

use std::fmt;
use std::sync::Arc;

/// A token about the caller that was signed for the upstream. Whoever has it can show it, so it is shown in no log and no
/// `Debug`: see [`Minted::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Minted(Arc<str>);

impl Minted {
    /// A token that was just signed.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(token.into())
    }

    /// The token, for the one header it goes into.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Minted(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_shows_itself_to_nobody_who_does_not_ask_for_it() {
        let minted = Minted::new("eyJ.canary.sig");
        assert_eq!(
            format!("{minted:?} {:?}", Some(&minted)),
            "Minted(..) Some(Minted(..))"
        );
        assert_eq!(minted.expose(), "eyJ.canary.sig");
    }
}
