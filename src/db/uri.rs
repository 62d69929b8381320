//! How an address of PostgreSQL must be written. What is written otherwise is refused here, without a part of it: libpq's
//! own messages quote what it did not understand, which may be a part of the password.

/// Why an address is refused whose user or password is not percent-encoded.
const ENCODE: &str = "user and password must be percent-encoded in the address, and an @ wherever it stands: % is %25, / is \
                      %2F, ? is %3F, @ is %40, a blank is %20";

/// The parameters that libpq knows.
const PARAMETERS: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    // As JDBC writes `sslmode=require`.
    "ssl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Parameters that nobody is shown.
const SECRET: [&str; 5] = ["password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"];

pub(super) fn is_secret(parameter: &str) -> bool {
    SECRET.contains(&parameter)
}

/// The name of a parameter, as libpq reads it.
pub(super) fn name_of(pair: &str) -> String {
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// Whether an address can be read in one way only.
///
/// # Errors
/// What is wrong with it. No part of it is repeated.
pub(super) fn judge(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) || !is_percent_encoded(text) {
        return Err(ENCODE.to_owned());
    }
    let rest = text.split_once("://").map_or("", |(_scheme, rest)| rest);
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, rest),
    };
    if credentials.is_some_and(|credentials| credentials.contains(['/', '?', '@'])) {
        return Err(ENCODE.to_owned());
    }
    let (address, query) = place.split_once('?').unwrap_or((place, ""));
    let hosts = address.split('/').next().unwrap_or_default();
    if !hosts.split(',').all(is_host) {
        return Err(
            "a host must be followed by nothing but : and the number of a port; user and password stand before \
                    it, as in postgres://user:password@host:5432/name"
                .to_owned(),
        );
    }
    let has_secret = credentials.is_some_and(|credentials| credentials.contains(':'));
    judge_query(query, has_secret)
}

fn judge_query(query: &str, has_secret: bool) -> Result<(), String> {
    let pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    if pairs.iter().any(|pair| pair.matches('=').count() != 1) {
        return Err("each parameter must be name=value; & is %26 and = is %3D within a value".to_owned());
    }
    let names: Vec<String> = pairs.iter().map(|pair| name_of(pair)).collect();
    let Some(unknown) = names.iter().find(|name| !PARAMETERS.contains(&name.as_str())) else { return Ok(()) };
    // The rest of a password with an & in it looks like a name, too.
    if has_secret || names.iter().any(|name| is_secret(name)) {
        return Err("has a parameter that libpq does not know; & is %26 within a value".to_owned());
    }
    Err(format!("{unknown} is no parameter that libpq knows"))
}

/// Whether each `%` begins an encoded byte, which is not the one that ends a text.
fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.get(..2).unwrap_or_default();
        digits.len() == 2 && digits != "00" && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// A host with or without a port: nothing else may stand there, such as a password whose host was left out.
fn is_host(host: &str) -> bool {
    let port = match host.strip_prefix('[') {
        Some(address) => address.split_once(']').map(|(_address, port)| port),
        None => Some(host.find(':').map_or("", |at| host.split_at(at).1)),
    };
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|digit| digit.is_ascii_digit());
    port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}
