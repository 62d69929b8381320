//! Syntax of identifiers, addresses and names.

/// Whether a text has the syntax of a tenant identifier.
pub(crate) fn is_tenant_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() <= 64
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a text names an IANA time zone.
pub(crate) fn is_time_zone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok()
}

/// Minimum retention: the law requires a year, which may have a leap day.
pub(crate) const MIN_RETENTION_DAYS: i32 = 366;

/// Whether a text has the syntax of a portal identifier.
pub(crate) fn is_portal_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether a text is one plain e-mail address: no display name, list, quotes or spaces.
///
/// Source routes (`a%b@c`, `c!a@b`) and encoded words (`=?utf-8?q?a?=@b`) are refused
/// too: a mail server that interprets them would deliver the mail elsewhere.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"#$&'*+/=?^_`{|}~-".contains(&byte);
    let local_fits = local.len() <= 64 && local.split('.').all(|part| !part.is_empty() && part.bytes().all(atom));
    let domain_fits = domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    text.len() <= 254 && local_fits && domain_fits && !text.contains("=?")
}

/// Whether a text has the syntax of a source name.
pub(crate) fn is_source(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_be_mistaken_for_a_path_or_for_the_system_log() {
        assert!(is_tenant_id("acme") && is_tenant_id("Acme-42.eu_1"));
        for wrong in ["", "_system", "-x", ".x", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(!is_tenant_id(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn zones_are_those_of_iana() {
        assert!(is_time_zone("Asia/Kolkata") && is_time_zone("America/New_York") && is_time_zone("UTC"));
        assert!(!is_time_zone("Mars/Base") && !is_time_zone(""));
    }

    #[test]
    fn one_plain_address_and_nothing_else() {
        for right in ["ravi@support.example", "a.b+c@x-y.example", "o'hara@localhost"] {
            assert!(is_address(right), "{right:?}");
        }
        for wrong in [
            "",
            "ravi",
            "@x.example",
            "ravi@",
            "a@b@c",
            "a@b.example,c@d.example",
            "Ravi <a@b.example>",
            "\"a b\"@c.example",
            "a b@c.example",
            "a@b .example",
            "a\u{2009}@b.example",
            "a@b.example\r\nBcc: c@d.example",
            ".a@b.example",
            "a..b@c.example",
            "a@-b.example",
            "a@b..example",
            "ä@b.example",
            "eve%evil.example@b.example",
            "evil.example!eve@b.example",
            "=?utf-8?q?eve=40evil.example=3e?=@b.example",
        ] {
            assert!(!is_address(wrong), "{wrong:?}");
        }
    }
}
