//! Which known name an unknown one was meant to be.

/// The known name that is most like `name`, if one is close: at most a third of its letters differ, and at most three.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let most = (name.chars().count() / 3).min(3);
    known
        .map(|known| (distance(name, known), known))
        .min()
        .filter(|(apart, _)| *apart <= most)
        .map(|(_, known)| known)
}

/// How many letters two words are apart (Levenshtein), counted on the first 64.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(64).enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (above, other) in row.iter().skip(1).zip(&other) {
            let change = diagonal + usize::from(letter != *other);
            left = change.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_far_apart_as_the_letters_that_differ() {
        for (one, other, apart) in [
            ("", "", 0),
            ("viewer", "viewer", 0),
            ("viewer", "vewer", 1),
            ("viewer", "viewers", 1),
            ("viewer", "vieuer", 1),
            ("editor", "viewer", 5),
            ("", "abc", 3),
            ("abc", "", 3),
        ] {
            assert_eq!(distance(one, other), apart, "{one} {other}");
        }
    }

    #[test]
    fn only_what_is_close_is_meant() {
        let known = ["orders.getOrder", "orders.listOrders", "read"];
        let meant = |name| nearest(name, known.into_iter());
        assert_eq!(meant("orders.listOrder"), Some("orders.listOrders"));
        assert_eq!(meant("orders.getorder"), Some("orders.getOrder"));
        assert_eq!(meant("write"), None);
        assert_eq!(meant(""), None);
    }
}
