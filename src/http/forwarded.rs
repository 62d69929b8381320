//! The address of a caller behind proxies: `X-Forwarded-For`, or `Forwarded` (RFC 7239).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actix_web::http::header::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::config::TrustedHeader;

/// Whose word about callers counts, and in which header.
pub(super) struct Proxies {
    pub trusted: Vec<IpNet>,
    pub header: TrustedHeader,
}

/// The caller of a request, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub address: IpAddr,
    /// Whether a peer that is not trusted sent the header: it lies, or is a proxy that nobody named.
    pub is_unheard: bool,
}

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Address of the caller: the peer, or the address that a trusted proxy forwards.
    ///
    /// Each proxy appends the address that called it. From the right, the first address that is no trusted proxy is the
    /// caller's: what is left of it may be forged. An entry that names no address ends the walk, as one does that is no entry.
    pub(super) fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Origin {
        if !self.trusts(peer) {
            return Origin { address: peer, is_unheard: headers.contains_key(self.header.as_str()) };
        }
        let mut address = peer;
        let lines: Vec<&[u8]> = headers.get_all(self.header.as_str()).map(HeaderValue::as_bytes).collect();
        for entry in lines.into_iter().rev().flat_map(entries) {
            if !self.trusts(address) {
                break;
            }
            let Some(before) = entry.and_then(|entry| self.address(entry)) else { break };
            address = before;
        }
        Origin { address, is_unheard: false }
    }

    fn address(&self, entry: &[u8]) -> Option<IpAddr> {
        let entry = std::str::from_utf8(entry).ok()?;
        match self.header {
            TrustedHeader::XForwardedFor => node(entry),
            TrustedHeader::Forwarded => {
                let pairs = split(entry.as_bytes(), b';').into_iter().collect::<Option<Vec<_>>>()?;
                let mut named = pairs.into_iter().filter_map(|pair| {
                    let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("for").then_some(value)
                });
                let value = named.next()?;
                if named.next().is_some() { None } else { node(value) }
            }
        }
    }
}

/// The entries of a list from the right, without empty ones.
fn entries(line: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    split(line, b',')
        .into_iter()
        .map(|entry| entry.map(<[u8]>::trim_ascii))
        .filter(|entry| entry.is_none_or(|entry| !entry.is_empty()))
}

/// Splits outside of quotes, from the right: what a proxy has appended has its quotes in pairs, whatever stands before it.
/// What begins within a quote is no part.
fn split(text: &[u8], at: u8) -> Vec<Option<&[u8]>> {
    let (mut parts, mut rest, mut is_quoted) = (Vec::new(), text, false);
    let mut before = text;
    while let Some((byte, earlier)) = before.split_last() {
        if *byte == b'"' {
            let escapes = earlier.iter().rev().take_while(|byte| **byte == b'\\').count();
            is_quoted = !is_quoted || escapes % 2 == 1;
        } else if *byte == at && !is_quoted {
            parts.push(rest.get(before.len()..));
            rest = earlier;
        }
        before = earlier;
    }
    parts.push(Some(rest).filter(|_| !is_quoted));
    parts
}

/// An address, with or without quotes, brackets and a port, in every form that proxies write.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let unquoted = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?.replace('\\', ""),
        None => text.to_owned(),
    };
    let text = unquoted.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_port).map(IpAddr::V6);
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (address, port) = text.split_once(':')?;
    address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

/// Whether a text is a port, or an obfuscated one (RFC 7239, 6).
fn is_port(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match text.strip_prefix('_') {
        Some(name) => is_name(name),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    fn proxies(header: TrustedHeader, trusted: &[&str]) -> Proxies {
        Proxies { header, trusted: trusted.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn origin(proxies: &Proxies, peer: &str, name: &'static str, said: &[&'static str]) -> Origin {
        let mut headers = HeaderMap::new();
        for line in said {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(line));
        }
        proxies.origin(peer.parse().unwrap(), &headers)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_its_own_word() {
        let trusting = proxies(TrustedHeader::XForwardedFor, &["10.0.0.0/8", "::1/128"]);
        let of =
            |peer: &str, said: &[&'static str]| origin(&trusting, peer, "x-forwarded-for", said).address.to_string();
        assert_eq!(of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(of("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        // What the caller wrote itself is further left.
        assert_eq!(of("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["198.51.100.7, garbage"]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.3"]), "10.0.0.3");
        assert_eq!(of("10.0.0.1", &["198.51.100.7,, ", ""]), "198.51.100.7", "an empty entry is none");
        for forged in ["\", 198.51.100.7", "1.1.1.1, \"1.1.1.1, 198.51.100.7", "\\\", 198.51.100.7, 10.0.0.2"] {
            assert_eq!(of("10.0.0.1", &[forged]), "198.51.100.7", "{forged}");
        }
        let nobody = proxies(TrustedHeader::XForwardedFor, &[]);
        assert_eq!(
            origin(&nobody, "10.0.0.1", "x-forwarded-for", &["198.51.100.7"]),
            Origin { address: "10.0.0.1".parse().unwrap(), is_unheard: true }
        );
        assert!(!origin(&nobody, "10.0.0.1", "forwarded", &["for=198.51.100.7"]).is_unheard);
    }

    #[test]
    fn addresses_are_taken_as_azure_iis_and_the_standard_write_them() {
        for (text, address) in [
            ("198.51.100.7", Some("198.51.100.7")),
            ("198.51.100.7:51234", Some("198.51.100.7")),
            ("\"198.51.100.7:51234\"", Some("198.51.100.7")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("\"[2001:db8::1]:443\"", Some("2001:db8::1")),
            ("\"[2001:db8::1]:_x1\"", Some("2001:db8::1")),
            ("::ffff:198.51.100.7", Some("::ffff:198.51.100.7")),
            ("198.51.100.7:", None),
            ("198.51.100.7:70000", None),
            ("198.51.100.7:+80", None),
            ("[2001:db8::1", None),
            ("[198.51.100.7]:80", None),
            ("\"198.51.100.7", None),
            ("unknown", None),
            ("_hidden", None),
            ("198.51.100", None),
        ] {
            assert_eq!(node(text).map(|address| address.to_string()).as_deref(), address, "{text}");
        }
    }

    #[test]
    fn the_standard_header_is_walked_from_the_right() {
        let trusting = proxies(TrustedHeader::Forwarded, &["10.0.0.0/8"]);
        for (said, address) in [
            (&["for=198.51.100.7"][..], "198.51.100.7"),
            (&["For=\"198.51.100.7:4711\";proto=https;by=10.0.0.1"], "198.51.100.7"),
            (&["proto=https; for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=1.1.1.1, for=198.51.100.7;host=\"a,b;for=9.9.9.9\", for=10.0.0.2"], "198.51.100.7"),
            (&["for=198.51.100.7", "for=10.0.0.2"], "198.51.100.7"),
            (&["for=198.51.100.7, for=unknown"], "10.0.0.1"),
            (&["for=198.51.100.7, proto=https"], "10.0.0.1"),
            (&["for=198.51.100.7, for=1.1.1.1;for=2.2.2.2"], "10.0.0.1"),
            (&["198.51.100.7"], "10.0.0.1"),
            // A stranger's quote swallows nothing that a proxy has appended.
            (&["for=1.1.1.1;x=\", for=198.51.100.7"], "198.51.100.7"),
            (&["for=1.1.1.1;x=\"\\, for=198.51.100.7"], "198.51.100.7"),
            (&["for=1.1.1.1;x=\", for=\"198.51.100.7:4711\";by=\"_a\""], "198.51.100.7"),
            (&["for=1.1.1.1;x=\", for=\"[2001:db8::1]\", for=10.0.0.2"], "2001:db8::1"),
            (&["for=1.1.1.1;x=\"a, for=198.51.100.7;host=\"a\\\"b,\\\\\", for=10.0.0.2"], "198.51.100.7"),
            // What is no entry ends the walk, also where what stands before it is one.
            (&["for=1.1.1.1;x=\""], "10.0.0.1"),
            (&["for=1.1.1.1;x=\", for=10.0.0.2"], "10.0.0.2"),
            (&["for=1.1.1.1", "for=2.2.2.2;x=\", for=10.0.0.2"], "10.0.0.2"),
        ] {
            assert_eq!(origin(&trusting, "10.0.0.1", "forwarded", said).address.to_string(), address, "{said:?}");
        }
        // The other header is anybody's word.
        assert_eq!(origin(&trusting, "10.0.0.1", "x-forwarded-for", &["1.1.1.1"]).address.to_string(), "10.0.0.1");
    }
}
