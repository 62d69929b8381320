//! Addresses that may be called: public ones, and networks that the operator has allowed.
//!
//! Clients choose their endpoints' URLs, which could lead into the internal network
//! (server-side request forgery). Addresses are checked when a name is resolved
//! for a call, and only checked addresses are connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::domain::is_seen_url;

/// Special-purpose IPv4 networks (RFC 6890 and its registry).
const SPECIAL_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Special-purpose networks within the IPv6 global unicast range. The others, such as addresses that embed an IPv4
/// address (mapped, NAT64), lie outside of that range.
const SPECIAL_V6: [([u16; 2], u32); 4] = [
    // Protocol assignments, Teredo among them.
    ([0x2001, 0], 23),
    ([0x2001, 0x0db8], 32),
    // 6to4
    ([0x2002, 0], 16),
    // Documentation
    ([0x3fff, 0], 20),
];

/// Why a URL is refused: a stable code, and a detail text.
pub(super) type Refusal = (&'static str, &'static str);

/// The addresses that may be called.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    opened: Vec<IpNet>,
}

/// A name resolves to an address that is not allowed.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that is not public")]
struct NotPublic;

impl Addresses {
    pub(super) fn new(opened: &[IpNet]) -> Self {
        Self { opened: opened.to_vec() }
    }

    fn permit(&self, address: IpAddr) -> bool {
        is_public(address) || self.opened.iter().any(|network| network.contains(&address))
    }

    /// Parses and checks an endpoint's URL without resolving its name.
    pub(super) fn read(&self, text: &str) -> Result<Url, Refusal> {
        // Another address would be shown than was given.
        if !is_seen_url(text) {
            return Err(("malformed", "must not hold blanks, backslashes, or characters that are not seen"));
        }
        // A parser would add them, and drop more of them.
        if text.split_once("://").is_none_or(|(_, host)| host.starts_with('/')) {
            return Err(("malformed", "must be an https address"));
        }
        let url = Url::parse(text).map_err(|_malformed| ("malformed", "must be an https address"))?;
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(("malformed", "must be an https address")),
        };
        // Plain HTTP is accepted on a loopback address that the operator has allowed.
        let at_home = literal.is_some_and(|address| address.is_loopback() && self.permit(address));
        if url.scheme() != "https" && !(url.scheme() == "http" && at_home) {
            return Err(("not_https", "must begin with https://"));
        }
        if url.port() == Some(0) {
            return Err(("malformed", "must not name port 0"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(("credentials", "must not hold a user name or a password"));
        }
        if url.fragment().is_some() {
            return Err(("fragment", "must not have a fragment"));
        }
        if literal.is_some_and(|address| !self.permit(address)) {
            return Err(("not_public", "must not lead to a private or reserved address"));
        }
        Ok(url)
    }
}

/// Resolves names, and refuses those with an address that is not allowed.
impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One forbidden address refuses them all: a mixed result is an attack.
            if found.iter().all(|found| addresses.permit(found.ip())) {
                Ok(Box::new(found.into_iter()) as Addrs)
            } else {
                Err(NotPublic.into())
            }
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(address) => SPECIAL_V4.iter().any(|(network, bits)| {
            let mask = u32::MAX << (32 - bits);
            u32::from(address) & mask == u32::from(Ipv4Addr::from(*network))
        }),
        IpAddr::V6(address) => {
            let global = (0x2000..0x4000).contains(&address.segments()[0]);
            !global
                || SPECIAL_V6.iter().any(|([first, second], bits)| {
                    let network = Ipv6Addr::new(*first, *second, 0, 0, 0, 0, 0, 0);
                    u128::from(address) & (u128::MAX << (128 - bits)) == u128::from(network)
                })
        }
    };
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2400:cb00::1",
            "2001:200::1",
            "3ffe::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:1.1.1.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn an_endpoint_is_https_and_public_unless_the_operator_says_so() {
        let (usual, opened) = (Addresses::default(), Addresses::new(&["127.0.0.0/8".parse().unwrap()]));
        for right in ["https://portal.example/hook?x=1", "https://1.1.1.1/", "https://[2606:4700::1111]:8443/hook"] {
            assert!(usual.read(right).is_ok(), "{right}");
        }
        for (wrong, code) in [
            ("portal.example", "malformed"),
            ("https://", "malformed"),
            ("https://portal.example:0/", "malformed"),
            ("https://portal.example:00/", "malformed"),
            (" https://portal.example/", "malformed"),
            ("https://portal.example/a hook", "malformed"),
            ("https://portal.example/hook\n", "malformed"),
            ("https://portal\t.example/", "malformed"),
            ("https://portal.example/\u{a0}", "malformed"),
            ("https://portal.example/hook\u{200b}", "malformed"),
            ("https://por\u{ad}tal.example/hook", "malformed"),
            ("https://portal.example/ho\u{2060}ok", "malformed"),
            ("https://portal.example\u{feff}", "malformed"),
            ("https://portal.example\\hook", "malformed"),
            ("https:\\\\portal.example/hook", "malformed"),
            ("https:portal.example/hook", "malformed"),
            ("https:///portal.example/hook", "malformed"),
            ("https://portal.example/ho\u{202e}ok", "malformed"),
            ("mailto:a@b.example", "malformed"),
            ("http://portal.example/", "not_https"),
            ("ftp://portal.example/", "not_https"),
            ("https://user@portal.example/", "credentials"),
            ("https://:word@portal.example/", "credentials"),
            ("https://portal.example/#x", "fragment"),
            ("https://127.0.0.1/", "not_public"),
            ("https://2130706433/", "not_public"),
            ("https://0x7f.1/", "not_public"),
            ("https://[::1]/", "not_public"),
            ("https://[::ffff:10.0.0.1]/", "not_public"),
            ("https://169.254.169.254/", "not_public"),
            ("http://127.0.0.1/", "not_https"),
        ] {
            assert_eq!(usual.read(wrong).unwrap_err().0, code, "{wrong}");
        }
        assert!(opened.read("http://127.0.0.1:9000/hook").is_ok() && opened.read("https://127.0.0.1/").is_ok());
        for (wrong, code) in
            [("http://localhost/", "not_https"), ("http://10.0.0.1/", "not_https"), ("https://10.0.0.1/", "not_public")]
        {
            assert_eq!(opened.read(wrong).unwrap_err().0, code, "{wrong}");
        }
    }
}
