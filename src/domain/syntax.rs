//! Syntax of identifiers, addresses and names.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::validator::without_outer_blanks;
use super::{LinkState, SYSTEM_LOG, is_unsafe_char};
use crate::id;

/// A syntax that the API description states by its pattern: what texts in paths and queries are checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// An id with this prefix.
    Id(String),
    /// One of the named syntaxes.
    Named(&'static Named),
}

/// A named syntax.
#[derive(Debug)]
pub(crate) struct Named {
    name: &'static str,
    pattern: &'static str,
    holds: fn(&str) -> bool,
    words: &'static str,
    schema: fn() -> RefOr<Schema>,
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Named {}

impl Syntax {
    /// The syntax that a pattern of the description stands for.
    pub(crate) fn of_pattern(pattern: &str) -> Option<Self> {
        if let Some(prefix) = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix(id::SUFFIX_PATTERN)) {
            return Some(Self::Id(prefix.to_owned()));
        }
        NAMED.iter().find(|named| named.pattern == pattern).map(Self::Named)
    }

    /// Whether a text has this syntax.
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Id(prefix) => id::is_id(prefix, text),
            Self::Named(named) => (named.holds)(text),
        }
    }

    /// What a text must be, for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Id(prefix) => format!("must be {prefix}_ and 26 characters of lowercase base 32"),
            Self::Named(named) => named.words.to_owned(),
        }
    }

    /// The schemas of the named syntaxes.
    pub(crate) fn schemas() -> impl Iterator<Item = (String, RefOr<Schema>)> {
        NAMED.iter().map(|named| (named.name.to_owned(), (named.schema)()))
    }
}

macro_rules! syntaxes {
    ($($(#[doc = $doc:literal])* $name:ident $pattern:literal $max:literal $holds:expr, $words:literal;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Copy)]
            pub enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some($pattern));
                    text.max_length(Some($max)).build().into()
                }
            }

            impl ToSchema for $name {}
        )*

        static NAMED: &[Named] = &[$(Named {
            name: stringify!($name),
            pattern: $pattern,
            holds: $holds,
            words: $words,
            schema: <$name as PartialSchema>::schema,
        }),*];
    };
}

syntaxes! {
    /// Portal's identifier of a tenant.
    TenantId "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" 64 is_tenant_id,
        "must be a tenant id: 1 to 64 letters, digits, dots, dashes and underscores";
    /// Tenant of an audit log, or `_system`.
    LogId "^(_system|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$" 64 |text| text == SYSTEM_LOG || is_tenant_id(text),
        "must be a tenant id (1 to 64 letters, digits, dots, dashes and underscores) or _system";
    /// Identifier of a portal.
    PortalId "^[a-z0-9-]{1,32}$" 32 is_portal_id,
        "must be a portal id: 1 to 32 lowercase letters, digits and dashes";
    /// Portal's identifier of a person or profile.
    ExternalId "^[!-~]{1,128}$" 128 is_external_id,
        "must have 1 to 128 printable ASCII characters and no spaces";
    /// Portal's word for one of its modules.
    ModuleName "^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$" 48 is_module_name,
        "must be a module's word: 1 to 48 letters, digits, dots, dashes and underscores";
    /// Identifier of a signing key.
    KeyId "^[A-Za-z0-9_-]{1,64}$" 64 is_key_id,
        "must be a key id: 1 to 64 letters, digits, dashes and underscores";
    /// One to nine states of a link, with commas between them.
    LinkStates "^(pending|denied|withdrawn|lapsed|scheduled|active|expired|revoked|replaced)(,(pending|denied|withdrawn|lapsed|scheduled|active|expired|revoked|replaced)){0,8}$" 90 is_states,
        "must be one to nine of pending, denied, withdrawn, lapsed, scheduled, active, expired, revoked and replaced, with commas between them";
    /// Identifier of a support ticket.
    TicketText "^[^\\x00-\\x1f\\x7f-\\x9f]{1,64}$" 64 |text| is_free_text(text, 64),
        "must have 1 to 64 characters, and no control characters";
    /// A part of a name or of an e-mail address.
    SearchText "^[^\\x00-\\x1f\\x7f-\\x9f]{1,100}$" 100 |text| is_free_text(text, 100),
        "must have 1 to 100 characters, and no control characters";
    /// Number of a status list.
    ListNumber "^[0-9]{1,18}$" 18 |text| (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
        "must be the number of a status list";
    /// One-time code from a mail.
    StepUpCodeText "^[0-9]{6}$" 6 |text| text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit()),
        "must have six digits and nothing else";
    /// Name of a mail provider.
    ProviderName "^[a-z]{1,32}$" 32 |text| (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase()),
        "must be the name of a mail provider in lowercase letters";
    /// Cursor of a list. Whether it is one is seen by its signature, which `invalid_cursor` tells.
    Cursor "^[A-Za-z0-9_-]{43,200}$" 200 |_| true,
        "must be the next_cursor of the page before";
    /// `Idempotency-Key`, bare or quoted.
    IdempotencyKeyText "^([!#-~]{1,128}|\"[!#-~]{1,128}\")$" 130 |_| true,
        "must be one key of 1 to 128 printable characters";
}

/// Whether a text is a list of different states.
fn is_states(text: &str) -> bool {
    let words: Vec<&str> = text.split(',').collect();
    words.len() <= LinkState::ALL.len() && words.iter().all(|word| word.parse::<LinkState>().is_ok())
}

/// Whether a text of a query can be searched for. What was no UTF-8 has become a replacement character.
fn is_free_text(text: &str, max: usize) -> bool {
    let is_wrong = |character: char| is_unsafe_char(character) || character == char::REPLACEMENT_CHARACTER;
    text.chars().count() <= max && text.chars().any(is_visible) && !text.chars().any(is_wrong)
}

/// Whether a text has the syntax of a tenant identifier.
pub(crate) fn is_tenant_id(text: &str) -> bool {
    is_word(text, 64)
}

/// Whether a text has the syntax of a portal's word for one of its modules. Short, so that a token holds them all.
fn is_module_name(text: &str) -> bool {
    is_word(text, 48)
}

/// Whether a text has letters, digits, dots, dashes and underscores, and begins with one of the first two.
fn is_word(text: &str, max: usize) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() <= max
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a text has the syntax of a signing key's identifier.
pub(crate) fn is_key_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Whether a text has the syntax of an external identifier.
pub(crate) fn is_external_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
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
    // Neither an address of a machine, in any spelling, nor punycode that is none.
    let is_name = || matches!(url::Host::parse(domain), Ok(url::Host::Domain(_)));
    text.len() <= 254 && local_fits && domain_fits && !text.contains("=?") && is_name()
}

/// An e-mail address as mail servers take it: an international domain becomes punycode (RFC 5891), and blanks around it
/// are left away as around any other text.
///
/// # Errors
/// Why the address cannot be taken.
pub(crate) fn plain_address(text: &str) -> Result<String, &'static str> {
    let text = without_outer_blanks(text);
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
            | '\u{2800}' | '\u{3164}' | '\u{FDD0}'..='\u{FDEF}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}')
        // The last two of each plane are no characters.
        && u32::from(character) & 0xFFFE != 0xFFFE
}

/// Whether a URL is read as it is seen: a parser would drop or encode what is not, and take a `\` for a `/`.
pub(crate) fn is_seen_url(text: &str) -> bool {
    text.chars().all(|character| is_visible(character) && character != '\\')
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
    fn an_address_that_no_mail_reaches_is_none() {
        assert!(is_address("a@acme.example") && is_address("a@xn--bcher-kva.example") && is_address("a@1a.example"));
        for wrong in ["a@1.2.3.4", "a@127.1", "a@0x7f.1", "a@xn--a.example", "a@[127.0.0.1]"] {
            assert!(!is_address(wrong), "{wrong}");
        }
        for hidden in ['\u{1BCA0}', '\u{FFF0}', '\u{FDD0}', '\u{FFFF}', '\u{10FFFE}'] {
            assert!(!is_visible(hidden), "{hidden:?}");
        }
    }

    #[test]
    fn a_url_is_read_as_it_is_seen() {
        assert!(is_seen_url("https://bücher.example/hook?x=%E2%80%8B"));
        for hidden in ["\u{200b}", "\u{ad}", "\u{2060}", "\u{200d}", "\u{feff}", "\u{a0}", "\n", "\\"] {
            assert!(!is_seen_url(&format!("https://portal.example/hook{hidden}")), "{hidden:?}");
        }
    }

    #[test]
    fn a_pattern_says_what_its_check_does() {
        let texts = ["", "acme", "_system", "-x", "a b", "a\0", "acme\n", "ä", "a/b", "A.b_c-9", "~!", &"x".repeat(65)];
        for named in NAMED.iter().filter(|named| !matches!(named.name, "Cursor" | "IdempotencyKeyText")) {
            let pattern = regex_lite::Regex::new(named.pattern).unwrap();
            for text in texts {
                assert_eq!((named.holds)(text), pattern.is_match(text), "{} {text:?}", named.name);
            }
        }
        assert_eq!(Syntax::of_pattern("^mlk_[0-7][0-9a-hjkmnp-tv-z]{25}$"), Some(Syntax::Id("mlk".to_owned())));
        assert_eq!(Syntax::of_pattern("^.*$"), None);
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
            (" ravi@support.example\u{a0}", "ravi@support.example"),
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
