//! Finds the name that was probably meant.

use strsim::osa_distance;

/// Names at least this long may differ in two places: among shorter ones two would make strangers alike.
const LONG_NAME_CHARS: usize = 10;

/// The one of `known` that `given` is a slip of: at most two edits away (one for short names), not equal.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .filter(|name| *name != given)
        .map(|name| (osa_distance(given, name), name))
        .filter(|(distance, name)| *distance <= if name.len() < LONG_NAME_CHARS { 1 } else { 2 })
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_slip() {
        let known = ["KAFKA_GROUP_ID", "KAFKA_BOOTSTRAP_SERVERS", "ROLES"];
        let nearest = |given| nearest(given, known.into_iter());
        assert_eq!(nearest("KAFKA_GRUOP_ID"), Some("KAFKA_GROUP_ID"));
        assert_eq!(nearest("KAFKA_BOOTSTRAP_SERVER"), Some("KAFKA_BOOTSTRAP_SERVERS"));
        assert_eq!(nearest("ROLE"), Some("ROLES"));
        assert_eq!(nearest("ROLES"), None, "the name itself is no slip");
        assert_eq!(nearest("NOISE"), None, "two edits make short names strangers");
        assert_eq!(nearest("PATH"), None);
    }
}
