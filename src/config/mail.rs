//! Settings of mail: sender, providers and delivery reports.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{SecretSlice, SecretString};
use url::{Host, Url};

use super::reader::{Reader, is_loopback_url};
use crate::secrets::Kept;

/// Settings of mail.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The sender's address.
    pub from: String,
    /// The sender's name.
    pub from_name: String,
    /// Contact for recipients who did not expect the mail.
    pub report_to: Option<String>,
    /// Addresses and domains that mail may be sent to; all, if the list is empty.
    pub only_to: Vec<String>,
    /// Provider that sends mail.
    pub provider: Provider,
    /// Provider that sends mail while the first one is out of order.
    pub fallback: Option<Provider>,
    /// Providers whose delivery reports are accepted.
    pub events: MailEvents,
}

impl Mail {
    /// Whether mail may be sent to this address.
    #[must_use]
    pub fn may_reach(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        let domain = address.split_once('@').map_or("", |(_, domain)| domain);
        self.only_to.is_empty() || self.only_to.iter().any(|allowed| *allowed == address || allowed == domain)
    }
}

/// How each provider authenticates its delivery reports. Reports of an absent one are refused.
#[derive(Debug, Clone, Default)]
pub struct MailEvents {
    /// Amazon SES, through Amazon SNS.
    pub ses: Option<SesEvents>,
    /// Postmark: user and password.
    pub postmark: Option<(String, Kept<SecretString>)>,
    /// SendGrid: its public key in DER.
    pub sendgrid: Option<Vec<u8>>,
    /// Resend: the secret of the webhook.
    pub resend: Option<Kept<SecretSlice<u8>>>,
}

/// Source of reports of Amazon SES.
#[derive(Debug, Clone)]
pub struct SesEvents {
    /// The topic.
    pub topic_arn: String,
    /// Base URL of Amazon SNS, if it is not the standard one.
    pub sns_url: Option<Url>,
}

/// A mail provider.
#[derive(Debug, Clone)]
pub enum Provider {
    /// Kept in memory and shown at `/dev/mailbox`.
    Preview,
    /// A Mailpit server.
    Mailpit {
        /// Base URL.
        url: Url,
        /// Basic credentials.
        login: Option<(String, Kept<SecretString>)>,
    },
    /// Amazon SES v2.
    Ses(Ses),
    /// Postmark.
    Postmark(Postmark),
    /// SendGrid v3.
    SendGrid(SendGrid),
    /// Resend.
    Resend(Resend),
}

/// An account at Amazon SES.
#[derive(Debug, Clone)]
pub struct Ses {
    /// Base URL of the region's API.
    pub url: Url,
    /// The region, which is part of every signature.
    pub region: String,
    /// Id of the access key.
    pub access_key_id: Kept<SecretString>,
    /// Secret of the access key.
    pub secret_access_key: Kept<SecretString>,
    /// The configuration set, without click and open events.
    pub configuration_set: Option<String>,
}

/// A server at Postmark.
#[derive(Debug, Clone)]
pub struct Postmark {
    /// Base URL of the API.
    pub url: Url,
    /// The server's token.
    pub server_token: Kept<SecretString>,
    /// The stream that the mails belong to.
    pub message_stream: String,
}

/// An account at SendGrid.
#[derive(Debug, Clone)]
pub struct SendGrid {
    /// Base URL of the API; the European one differs.
    pub url: Url,
    /// A key that may send mail.
    pub api_key: Kept<SecretString>,
}

/// An account at Resend.
#[derive(Debug, Clone)]
pub struct Resend {
    /// Base URL of the API.
    pub url: Url,
    /// A key that may send mail.
    pub api_key: Kept<SecretString>,
}

impl Mail {
    /// Whether every mail is caught, and shown to whoever tests.
    pub(super) const fn stays_here(&self) -> bool {
        matches!(self.provider, Provider::Preview | Provider::Mailpit { .. }) && self.fallback.is_none()
    }
}

impl Reader<'_> {
    pub(super) fn mail(&mut self) -> Mail {
        let provider = self.text("mail.provider", "preview");
        let fallback = self.optional("mail.fallback_provider");
        if fallback.as_ref().is_some_and(|name| *name == provider || name == "preview") {
            self.problem("mail.fallback_provider", "must be a provider other than mail.provider and preview");
        }
        let mail = Mail {
            from: self.address("mail.from", "no-reply@magic-link.example"),
            from_name: self.text("mail.from_name", "Magic Link"),
            report_to: self.optional("mail.report_to"),
            only_to: self.only_to(),
            provider: self.provider("mail.provider", &provider),
            events: self.mail_events(),
            fallback: fallback.map(|name| self.provider("mail.fallback_provider", &name)),
        };
        if is_reserved(&mail.from) && [Some(&mail.provider), mail.fallback.as_ref()].into_iter().flatten().any(delivers)
        {
            self.problem(
                "mail.from",
                "must be an address of a domain of yours: nobody sends mail for an example domain",
            );
        }
        mail
    }

    /// Addresses and domains, separated by commas.
    fn only_to(&mut self) -> Vec<String> {
        let Some(text) = self.optional("mail.only_to") else { return Vec::new() };
        let entries: Vec<String> = text
            .split([',', ' '])
            .map(|entry| entry.trim().trim_start_matches('@').to_lowercase())
            .filter(|entry| !entry.is_empty())
            .collect();
        let address =
            |entry: &String| crate::domain::is_address(entry) || crate::domain::is_address(&format!("x@{entry}"));
        // An empty list would allow every address, which is not what an operator means who sets the key.
        if entries.is_empty() || !entries.iter().all(address) {
            self.problem("mail.only_to", "must be addresses and domains between commas");
        }
        entries
    }

    fn mail_events(&mut self) -> MailEvents {
        const PUBLIC_KEY: &str = "mail.sendgrid_events_public_key";
        let ses = self.optional("mail.ses_events_topic_arn").map(|topic_arn| {
            if !topic_arn.starts_with("arn:aws:sns:") {
                self.problem(
                    "mail.ses_events_topic_arn",
                    "must be the ARN of a topic, such as arn:aws:sns:ap-south-1:…",
                );
            }
            let instead = self.optional("mail.ses_sns_url").is_some();
            let sns_url = instead.then(|| self.provider_url("mail.ses_sns_url", "https://sns.amazonaws.com"));
            SesEvents { topic_arn, sns_url }
        });
        let before = self.problem_count();
        let user = self.optional("mail.postmark_events_user");
        let long = |text: &str| match text.len() {
            0..16 => Err("must have 16 characters or more".to_owned()),
            _ => Ok(SecretString::from(text)),
        };
        let password = self.secret("mail.postmark_events_password", long);
        if user.is_some() != password.is_some() && self.problem_count() == before {
            self.problem("mail.postmark_events_password", "needs mail.postmark_events_user, and the user a password");
        }
        let postmark = user.zip(password);
        let sendgrid = self
            .optional(PUBLIC_KEY)
            .and_then(|text| base64_behind("", &text).map_err(|problem| self.problem(PUBLIC_KEY, problem)).ok());
        let resend =
            self.secret("mail.resend_events_secret", |text| base64_behind("whsec_", text).map(SecretSlice::from));
        MailEvents { ses, postmark, sendgrid, resend }
    }

    /// The provider of this name, with its own keys.
    fn provider(&mut self, key: &str, name: &str) -> Provider {
        match name {
            "preview" => Provider::Preview,
            "mailpit" => {
                let url = self.mailpit_url();
                let user = self.optional("mail.mailpit_user");
                let password = self.secret("mail.mailpit_password", |text| Ok(SecretString::from(text)));
                let password = password.unwrap_or_else(|| Kept::new(SecretString::default()));
                Provider::Mailpit { url, login: user.map(|user| (user, password)) }
            }
            "ses" => {
                let region = self.text("mail.ses_region", "ap-south-1");
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                if !region.bytes().all(plain) {
                    self.problem("mail.ses_region", "must be the id of a region, such as ap-south-1");
                    return Provider::Preview;
                }
                self.tracking_is_off("mail.ses_tracking_is_off", "a configuration set that records clicks");
                Provider::Ses(Ses {
                    url: self.provider_url("mail.ses_url", &format!("https://email.{region}.amazonaws.com")),
                    access_key_id: self.needed("mail.ses_access_key_id"),
                    secret_access_key: self.needed("mail.ses_secret_access_key"),
                    configuration_set: self.optional("mail.ses_configuration_set"),
                    region,
                })
            }
            "postmark" => Provider::Postmark(Postmark {
                url: self.provider_url("mail.postmark_url", "https://api.postmarkapp.com"),
                server_token: self.needed("mail.postmark_server_token"),
                message_stream: self.text("mail.postmark_message_stream", "outbound"),
            }),
            "sendgrid" => Provider::SendGrid(SendGrid {
                url: self.provider_url("mail.sendgrid_url", "https://api.sendgrid.com"),
                api_key: self.needed("mail.sendgrid_api_key"),
            }),
            "resend" => {
                self.tracking_is_off("mail.resend_tracking_is_off", "a domain that tracks clicks");
                Provider::Resend(Resend {
                    url: self.provider_url("mail.resend_url", "https://api.resend.com"),
                    api_key: self.needed("mail.resend_api_key"),
                })
            }
            _ => {
                self.problem(key, "expected one of preview, mailpit, ses, postmark, sendgrid, resend");
                Provider::Preview
            }
        }
    }

    /// Requires a confirmation that tracking is off at a provider where a message cannot switch it off.
    fn tracking_is_off(&mut self, key: &str, culprit: &str) {
        if self.optional(key).as_deref() != Some("true") {
            self.problem(
                key,
                format_args!(
                    "must be true: {culprit} rewrites the links and so puts their tokens into the provider's logs, and \
                     no message can switch that off. Switch it off there, then say so here"
                ),
            );
        }
    }

    /// Base URL of the Mailpit server. Whoever reads on the way sees every link, so plain HTTP is allowed only on
    /// loopback, and with a warning on a private network, such as that of a few containers.
    fn mailpit_url(&mut self) -> Url {
        const KEY: &str = "mail.mailpit_url";
        let url: Url = self.parsed(KEY, "http://127.0.0.1:8025");
        self.check_characters(KEY);
        let plain = url.scheme() == "http" && !is_loopback_url(url.as_str());
        let known = matches!(url.scheme(), "http" | "https") && url.has_host();
        if !known || !url.username().is_empty() || url.query().is_some() || url.fragment().is_some() {
            self.problem(KEY, "must be an https address (http on loopback) without user, query and fragment");
        } else if plain && is_private(&url) {
            self.warning(KEY, "mails with links in them travel without TLS: use https unless the network is closed");
        } else if plain {
            self.problem(KEY, "must be an https address, unless it lies on loopback or in a private network");
        }
        url
    }

    /// Base URL of a provider. Credentials are sent there, so plain HTTP is allowed only on loopback.
    fn provider_url(&mut self, key: &str, default: &str) -> Url {
        let url: Url = self.parsed(key, default);
        self.check_characters(key);
        let private = url.scheme() == "https" || (url.scheme() == "http" && is_loopback_url(url.as_str()));
        if !private || !url.username().is_empty() || url.query().is_some() || url.fragment().is_some() {
            self.problem(key, "must be an https address (http on loopback) without user, query and fragment");
        }
        url
    }
}

/// Bytes in base64, as a provider shows them.
fn base64_behind(prefix: &str, text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix(prefix).and_then(|text| STANDARD.decode(text.trim()).ok()) {
        Some(bytes) if bytes.len() >= 24 => Ok(bytes),
        _ => Err(format!("must be {prefix} base64 as the provider shows it")),
    }
}

/// Whether an address belongs to a domain that was set aside for examples and tests (RFC 2606, RFC 6761).
fn is_reserved(address: &str) -> bool {
    let domain = address.rsplit('@').next().unwrap_or_default().trim_end_matches('.').to_lowercase();
    let within = |of: &str| domain.strip_suffix(of).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ["example", "test", "invalid", "localhost", "example.com", "example.net", "example.org"].into_iter().any(within)
}

/// Whether a provider delivers to people, and is not a stand-in on this machine.
fn delivers(provider: &Provider) -> bool {
    let url = match provider {
        Provider::Preview | Provider::Mailpit { .. } => return false,
        Provider::Ses(ses) => &ses.url,
        Provider::Postmark(postmark) => &postmark.url,
        Provider::SendGrid(sendgrid) => &sendgrid.url,
        Provider::Resend(resend) => &resend.url,
    };
    !is_loopback_url(url.as_str())
}

/// Whether a URL names a host of a private network: a private address, or a name that no public resolver knows.
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_private() || address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
        Some(Host::Domain(name)) => {
            let inner = [".local", ".internal", ".lan", ".home.arpa", ".svc", ".localhost"];
            !name.contains('.') || inner.iter().any(|suffix| name.ends_with(suffix))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn problems(text: &str) -> String {
        Config::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn a_provider_that_cannot_switch_tracking_off_is_refused_until_somebody_says_that_it_is_off() {
        let ses =
            "[mail]\nfrom = 'links@hr.in'\nprovider = 'ses'\nses_access_key_id = 'AKIA'\nses_secret_access_key = 's'\n";
        assert!(problems(ses).contains("mail.ses_tracking_is_off: must be true"));
        assert!(problems(&format!("{ses}ses_tracking_is_off = false")).contains("mail.ses_tracking_is_off"));
        let config = Config::from_toml(&format!("{ses}ses_tracking_is_off = true")).unwrap();
        let Provider::Ses(ses) = config.mail.provider else { panic!("ses was asked for") };
        assert_eq!((ses.region.as_str(), ses.url.as_str()), ("ap-south-1", "https://email.ap-south-1.amazonaws.com/"));

        let resend = "[mail]\nfrom = 'links@hr.in'\nprovider = 'resend'\nresend_api_key = 're_1'\n";
        assert!(problems(resend).contains("mail.resend_tracking_is_off: must be true"));
        assert!(Config::from_toml(&format!("{resend}resend_tracking_is_off = true")).is_ok());
    }

    #[test]
    fn a_staging_system_writes_to_its_own_people_only() {
        let mail = |only_to: &str| Config::from_toml(&format!("mail.only_to = '{only_to}'")).unwrap().mail;
        let ours = mail("qa@acme.example, @support.example");
        for (address, may) in [
            ("qa@acme.example", true),
            ("QA@ACME.example", true),
            ("ravi@support.example", true),
            ("hr@acme.example", false),
            ("ravi@not-support.example", false),
            ("ravi@support.example.evil.example", false),
        ] {
            assert_eq!(ours.may_reach(address), may, "{address}");
        }
        assert!(Config::from_toml("").unwrap().mail.may_reach("anybody@world.example"));
        for wrong in ["", ",", "<a@b.example>", "*"] {
            assert!(problems(&format!("mail.only_to = '{wrong}'")).contains("mail.only_to:"), "{wrong:?}");
        }
    }

    #[test]
    fn nobody_sends_for_an_example_domain() {
        let postmark = "provider = 'postmark'\npostmark_server_token = 't'\n";
        let fallback = "provider = 'mailpit'\nfallback_provider = 'sendgrid'\nsendgrid_api_key = 'k'\n";
        for provider in [postmark, fallback] {
            for from in [
                "",
                "from = 'a@acme.example'",
                "from = 'a@EXAMPLE.com'",
                "from = 'a@mail.example.org'",
                "from = 'a@hr.test'",
            ] {
                let said = problems(&format!("[mail]\n{provider}{from}"));
                assert!(said.contains("mail.from: must be an address of a domain of yours"), "{from}: {said}");
            }
            for from in ["links@hr.in", "links@myexample.com", "links@example.co.in"] {
                assert!(Config::from_toml(&format!("[mail]\n{provider}from = '{from}'")).is_ok(), "{from}");
            }
        }
        // Who catches mail, or stands in for a provider, takes any sender.
        for stand_in in ["provider = 'mailpit'", &format!("{postmark}postmark_url = 'http://127.0.0.1:9'")] {
            assert!(Config::from_toml(&format!("[mail]\n{stand_in}")).is_ok(), "{stand_in}");
        }
    }

    #[test]
    fn mails_do_not_travel_in_the_clear_unseen() {
        let mailpit = |url: &str| Config::from_toml(&format!("[mail]\nprovider = 'mailpit'\nmailpit_url = '{url}'"));
        for quiet in ["http://127.0.0.1:8025", "http://[::1]:8025", "http://localhost:8025", "https://mail.hr.in"] {
            assert_eq!(mailpit(quiet).unwrap().warnings, [""; 0], "{quiet}");
        }
        for private in ["http://mailpit:8025", "http://10.0.0.7:8025", "http://[fd00::7]", "http://mailpit.mail.svc"] {
            let warnings = mailpit(private).unwrap().warnings;
            assert!(warnings.iter().any(|one| one.starts_with("mail.mailpit_url: ")), "{private}: {warnings:?}");
        }
        for public in [
            "http://mail.hr.in",
            "http://93.184.215.14:8025",
            "http://[2606:4700::1111]",
            "http://10.0.0.7.nip.io",
            "ftp://127.0.0.1",
            "http://user:word@127.0.0.1:8025",
            "http://127.0.0.1:8025/?x=1",
            "mailto:a@hr.in",
            "data:text/plain,x",
        ] {
            let said = mailpit(public).unwrap_err().to_string();
            assert!(said.contains("mail.mailpit_url: must be"), "{public}: {said}");
        }
    }

    #[test]
    fn each_provider_says_what_it_needs() {
        let all = problems("[mail]\nprovider = 'ses'\nses_region = 'ap-south-1'\nses_tracking_is_off = true");
        assert!(all.contains("mail.ses_access_key_id: is required"), "{all}");
        assert!(all.contains("mail.ses_secret_access_key: is required"), "{all}");
        assert!(problems("mail.provider = 'postmark'").contains("mail.postmark_server_token: is required"));
        assert!(problems("mail.provider = 'sendgrid'").contains("mail.sendgrid_api_key: is required"));
        assert!(problems("mail.provider = 'pigeon'").contains("mail.provider: expected one of"));
        assert!(
            problems("[mail]\nprovider = 'mailpit'\nfallback_provider = 'mailpit'").contains("mail.fallback_provider")
        );
        assert!(problems("mail.fallback_provider = 'sendgrid'").contains("mail.sendgrid_api_key: is required"));
    }

    #[test]
    fn credentials_do_not_travel_in_the_clear_and_do_not_print() {
        let base = "[mail]\nprovider = 'postmark'\npostmark_server_token = 'hidden-words'\npostmark_url = ";
        assert!(problems(&format!("{base}'http://mail.example'")).contains("mail.postmark_url: must be an https"));
        assert!(problems(&format!("{base}'https://u:p@mail.example'")).contains("mail.postmark_url"));
        let config = Config::from_toml(&format!("{base}'http://127.0.0.1:9'")).unwrap();
        assert!(!format!("{config:?}").contains("hidden-words"));
        let spaced = "[mail]\nprovider = 'sendgrid'\nsendgrid_api_key = 'a b'";
        assert!(problems(spaced).contains("mail.sendgrid_api_key: must not hold spaces"));
    }
}
