//! Values of a change: plain, masked or hashed, as configured for the tenant, before anything is stored.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::report::Change;
use crate::domain::ChangeValues;
use crate::secrets::Digests;

/// Number of letters and digits from which a masked value shows its end.
const SHOWS_ITS_END: usize = 8;

/// Number of letters and digits that a masked value shows at its end.
const SHOWN: usize = 2;

/// The changes as they are stored.
pub(super) fn kept(changes: &[Change], how: ChangeValues, tenant_id: &str, digests: &Digests) -> Vec<Change> {
    let keep = |value: &Option<String>| {
        value.as_deref().map(|value| match how {
            ChangeValues::Plain => value.to_owned(),
            ChangeValues::Masked => masked(value),
            ChangeValues::KeyedHash => {
                format!("hmac-sha256:{}", URL_SAFE_NO_PAD.encode(digests.of("change value", &[tenant_id, value])))
            }
        })
    };
    let keep_both = |change: &Change| Change {
        field: change.field.clone(),
        before: keep(&change.before),
        after: keep(&change.after),
    };
    changes.iter().map(keep_both).collect()
}

/// Replaces letters and digits by `*`; a long value, such as an account number, keeps its last two for recognition.
fn masked(value: &str) -> String {
    let mut left = value.chars().filter(|character| is_hidden(*character)).count();
    let shown = if left >= SHOWS_ITS_END { SHOWN } else { 0 };
    let mask = |character: char| {
        if !is_hidden(character) {
            return character;
        }
        left -= 1;
        if left < shown { character } else { '*' }
    };
    value.chars().map(mask).collect()
}

/// Whether a character says something: all do but blanks and the punctuation of ASCII, which give a value its shape.
fn is_hidden(character: char) -> bool {
    !character.is_whitespace() && (character.is_alphanumeric() || !character.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_leaves_the_shape_and_no_more() {
        for (value, shown) in [
            ("50000", "*****"),
            ("1990-04-12", "****-**-12"),
            ("asha.rao@acme.example", "****.***@****.*****le"),
            ("वेतन", "****"),
            ("หน่วย", "*****"),
            ("Jose\u{301}", "*****"),
            ("♂", "*"),
            ("", ""),
            ("IN 4455 6677", "** **** **77"),
        ] {
            assert_eq!(masked(value), shown);
        }
    }
}
