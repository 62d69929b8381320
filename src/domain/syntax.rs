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

/// An e-mail address as mail servers take it: an international domain becomes punycode (RFC 5891).
///
/// # Errors
/// Why the address cannot be taken.
pub(crate) fn plain_address(text: &str) -> Result<String, &'static str> {
    if is_address(text) {
        return Ok(text.to_owned());
    }
    let malformed = "must be one plain e-mail address";
    let (local, domain) = text.rsplit_once('@').ok_or(malformed)?;
    if !local.is_ascii() {
        return Err("has letters before the @ that many mail servers do not take: use an address in ASCII there");
    }
    // Some scripts join letters with characters that are not seen; of all others the reader would drop them.
    let joins = |character| matches!(character, '\u{200C}' | '\u{200D}');
    if domain.is_ascii() || !domain.chars().all(|character| is_visible(character) || joins(character)) {
        return Err(malformed);
    }
    let Ok(url::Host::Domain(ascii)) = url::Host::parse(domain) else {
        return Err("has a domain that is no valid international domain name");
    };
    let address = format!("{local}@{ascii}");
    if is_address(&address) { Ok(address) } else { Err(malformed) }
}

/// Whether a character is seen: it is neither blank nor one of those that leave no mark.
pub(crate) fn is_visible(character: char) -> bool {
    !character.is_whitespace()
        && !character.is_control()
        && !matches!(character,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
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
    fn an_international_domain_becomes_punycode_and_the_rest_says_why() {
        for (given, plain) in [
            ("ravi@support.example", "ravi@support.example"),
            ("ravi@bücher.example", "ravi@xn--bcher-kva.example"),
            ("ravi@उदाहरण.भारत", "ravi@xn--p1b6ci4b4b3a.xn--h2brj9c"),
            ("a.b+c@BÜCHER.example", "a.b+c@xn--bcher-kva.example"),
        ] {
            assert_eq!(plain_address(given).as_deref(), Ok(plain), "{given}");
        }
        for wrong in [
            "rävi@support.example",
            "ravi",
            "ravi@ä b.example",
            "a@b@ä.example",
            "ravi@ä..example",
            "ravi@ä.example, x@y.example",
            "ravi@\u{ad}",
            "ravi@sup\u{ad}port.example",
            "ravi@ä.example\r\n",
        ] {
            assert!(plain_address(wrong).is_err(), "{wrong:?}");
        }
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
