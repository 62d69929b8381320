//! How configurations are read, and what of them is shown.

use super::*;

#[test]
fn nothing_is_needed_for_a_first_run() {
    let config = Config::from_toml("").unwrap();
    assert_eq!(config.public_url, "http://127.0.0.1:8080");
    assert_eq!(config.portals.keys().collect::<Vec<_>>(), ["cloud", "ess"]);
    assert!(matches!(config.mail.provider, Provider::Preview));
    assert!(config.database_url.is_sqlite() && config.is_loopback());
    assert_eq!(config.links.max_duration, Duration::weeks(4));
}

#[test]
fn all_problems_are_reported_at_once_by_key() {
    let problems = Config::from_toml(
        "colour = 'red'\nlisten = 'here'\ndefault_time_zone = 'Mars/Base'\n[links]\ntoken_hours = -1\n\
         [portals.hr]\nlanding_url = 'ftp://hr'\nface = 'x'\n[mail]\nfrom = 'a@b, c@d'\nprovider = 'pigeon'",
    )
    .unwrap_err()
    .to_string();
    for key in [
        "colour:",
        "listen:",
        "default_time_zone:",
        "links.token_hours:",
        "portals.hr.callback_url:",
        "portals.hr.audience:",
        "portals.hr.landing_url:",
        "portals.hr.face:",
        "mail.from:",
        "mail.provider:",
    ] {
        assert!(problems.contains(key), "{key} is missing in {problems}");
    }
}

#[test]
fn addresses_that_would_mislead_are_refused() {
    let portal = |id: &str, audience: &str, callback: &str| {
        format!("[portals.{id}]\naudience = '{audience}'\ncallback_url = '{callback}'\n")
    };
    let callback = "https://p.example/{tenant_id}/c";
    for (text, key) in [
        ("public_url = 'http://127.0.0.1:8080/ml'".to_owned(), "public_url:"),
        ("public_url = 'http://user:word@127.0.0.1:8080'".to_owned(), "public_url:"),
        ("public_url = 'http://links.example'".to_owned(), "public_url: must be an https address"),
        ("public_url = 'http://10.0.0.7:8080'".to_owned(), "public_url: must be an https address"),
        ("public_url = 'http://localhost.example'".to_owned(), "public_url: must be an https address"),
        ("public_url = 'http://0.0.0.0:8080'".to_owned(), "public_url: must be an https address"),
        // Nothing was said, and nobody could reach what follows from it.
        ("listen = '0.0.0.0:8080'".to_owned(), "public_url: must be an https address"),
        ("listen = '10.0.0.7:8080'".to_owned(), "public_url: must be an https address"),
        ("[portals]".to_owned(), "portals:"),
        (portal("cloud", "", callback), "portals.cloud.audience:"),
        (portal("cloud", "a", callback) + &portal("ess", "a", callback), "portals.ess.audience:"),
        (portal("cloud", "a", "http://p.example/c"), "portals.cloud.callback_url:"),
        (portal("cloud", "a", "https://p.example/\u{200b}c"), "portals.cloud.callback_url: must not hold"),
        ("public_url = 'https://links.example\u{200b}'".to_owned(), "public_url: must not hold"),
        ("audit.webhook_url = 'https://siem.example\\hook'".to_owned(), "audit.webhook_url: must not hold"),
        (
            "mail.provider = 'mailpit'\nmail.mailpit_url = 'http://127.0.0.1:8025/\u{2060}'".to_owned(),
            "mail.mailpit_url: must not hold",
        ),
        (portal("cloud", "a", "https://p.example/{tenant}/c"), "portals.cloud.callback_url:"),
        ("log.level = 'magic_link=loud'".to_owned(), "log.level:"),
    ] {
        let problems = Config::from_toml(&text).unwrap_err().to_string();
        assert!(problems.contains(key), "{text}: {problems}");
    }
}

#[test]
fn what_kubernetes_injects_is_no_setting() {
    for injected in ["SERVICE_HOST", "service_port_http", "PORT", "PORT_8080_TCP_ADDR"] {
        assert!(is_service_link(injected), "{injected}");
    }
    assert!(!is_service_link("portals__cloud__name") && !is_service_link("public_url"));
}

#[test]
fn the_preview_mailbox_stays_on_this_machine() {
    for public in [
        "listen = '0.0.0.0:8080'\npublic_url = 'http://127.0.0.1:8080'",
        "public_url = 'https://links.example'\n[portals.cloud]\naudience = 'a'\ncallback_url = 'https://p.example/c'",
        "database_url = 'postgres://host/name?sslmode=disable'\nmaster_key = 'x'",
    ] {
        let problems = Config::from_toml(public).unwrap_err().to_string();
        assert!(problems.contains("mail.provider: preview"), "{problems}");
    }
}

#[test]
fn numbers_are_read_and_kept_within_bounds() {
    let config = Config::from_toml("limits.public_per_minute = 7\n[links]\nresend_cool_down_seconds = 0").unwrap();
    assert_eq!(config.limits.public_per_minute, 7);
    assert_eq!(config.links.resend_cool_down, Duration::ZERO);
    let unsigned = figment::providers::Serialized::default("links", BTreeMap::from([("token_hours", 12_u64)]));
    let config = Config::from_figment(&Figment::new().merge(unsigned), true, None).unwrap();
    assert_eq!(config.links.token_life, Duration::hours(12));
    let problems = Config::from_toml("database_connections = 1\nlog.sample = 1.5").unwrap_err().to_string();
    assert!(
        problems.contains("database_connections: must be") && problems.contains("log.sample: must be"),
        "{problems}"
    );
}

#[test]
fn proxies_are_addresses_and_networks() {
    let config = Config::from_toml("limits.trusted_proxies = '10.0.0.0/8, ::1'").unwrap();
    let proxies: Vec<String> = config.limits.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
    let config = Config::from_toml("limits.trusted_proxies = '::ffff:127.0.0.0/104, ::ffff:0:0/90'").unwrap();
    let proxies: Vec<String> = config.limits.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["127.0.0.0/8", "::ffff:0.0.0.0/90"], "callers are compared as IPv4");
    assert!(Config::from_toml("").unwrap().limits.trusted_proxies.is_empty());
    assert_eq!(Config::from_toml("").unwrap().limits.trusted_header, TrustedHeader::XForwardedFor);
    let config = Config::from_toml("limits.trusted_header = 'Forwarded'").unwrap();
    assert_eq!(config.limits.trusted_header, TrustedHeader::Forwarded);
    let problems = Config::from_toml("limits.trusted_header = 'x-real-ip'").unwrap_err().to_string();
    assert!(problems.contains("limits.trusted_header:"), "{problems}");
    for wrong in ["proxy.example", "10.0.0.0/33", "10.0.0.1,,"] {
        let problems = Config::from_toml(&format!("limits.trusted_proxies = '{wrong}'")).unwrap_err().to_string();
        assert!(problems.contains("limits.trusted_proxies:"), "{problems}");
    }
}

#[test]
fn a_log_level_that_would_silence_the_log_is_a_problem() {
    for level in ["info", "WARN", "off", "magic_link=debug", "info, magic_link::mail=trace"] {
        assert!(Config::from_toml(&format!("log.level = '{level}'")).is_ok(), "{level}");
    }
    for level in ["verbose", "loud", "magic_link", "info,magic_link", "magic_link=loud", ""] {
        let problems = Config::from_toml(&format!("log.level = '{level}'")).unwrap_err().to_string();
        assert!(problems.contains("log.level"), "{level}: {problems}");
    }
}

#[test]
fn what_is_in_force_is_shown_without_a_secret() {
    let config = Config::from_toml(
        "database_url = 'postgres://app:hidden-1@localhost/links?sslmode=require&password=hidden-2&application_name=%20'\n\
         master_key = 'hidden-3'\nlinks.token_hours = 12\n[mail]\nfrom = 'links@hr.in'\nprovider = 'postmark'\n\
         postmark_server_token = 'hidden-4'\nsendgrid_api_key = 'hidden-5'\n[audit]\n\
         webhook_url = 'https://u:hidden-6@log.hr.in/in?key=hidden-7'\n\
         webhook_secret = 'whsec_aGlkZGVuLTggaGlkZGVuLTggaGlkZGVuLTg='",
    );
    let Config { shown, .. } = match config {
        // A build that speaks no TLS does not take it.
        Err(problems) => {
            assert!(problems.to_string().contains("pg-tls") && !problems.to_string().contains("hidden"));
            return;
        }
        Ok(config) => config,
    };
    assert!(!format!("{shown:?}").contains("hidden") && !format!("{shown:?}").contains("aGlkZGVu"), "{shown:?}");
    for (key, value) in [
        ("database_url", "postgres://app@localhost/links?sslmode=require&application_name=%20"),
        ("master_key", "(set)"),
        ("links.token_hours", "12"),
        ("links.session_hours", "8"),
        ("mail.postmark_server_token", "(set)"),
        ("mail.sendgrid_api_key", "(set, and not in use)"),
        ("audit.webhook_url", "https://log.hr.in/…"),
        ("audit.checkpoint_folder", "(not set)"),
    ] {
        assert_eq!(shown.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn the_rest_of_a_password_that_is_not_percent_encoded_is_not_shown() {
    for url in [
        "http://u:hidden/hidden@127.0.0.1:8025",
        "http://u:7/hidden@127.0.0.1:8025",
        "http://u:7?hidden@127.0.0.1:8025",
        "http://u:7#hidden@127.0.0.1:8025",
        "http://u:hid%zzhidden@127.0.0.1:8025",
        "http://u:hidden hidden@127.0.0.1:8025",
        "http://u@hidden@127.0.0.1:8025",
    ] {
        for key in ["mail.mailpit_url", "audit.webhook_url", "public_url", "portals.cloud.callback_url"] {
            let text = format!(
                "database_url = 'postgres://u:Sekret@localhost/links?sslmode=disable'\n{key} = '{url}'\n\
                 mail.provider = 'mailpit'\naudit.webhook_secret = 'whsec_aGlkZGVuLTggaGlkZGVuLTggaGlkZGVuLTg='"
            );
            let said = match Config::from_toml(&text) {
                Ok(config) => format!("{:?} {:?}", config.shown, config.warnings),
                Err(problems) => problems.to_string(),
            };
            assert!(!said.contains("hidden"), "{key} = {url}: {said}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_line_and_not_by_its_words() {
    for broken in [
        "master_key = 'hidden-words",
        "master_key = hidden-words",
        "master_key = \"hidden-words\\q\"",
        "master_key 'hidden-words'",
        "master_key = 'hidden-words' hidden-words",
        "master_key = 'x'\nmaster_key = 'hidden-words'",
        "[mail\nhidden-words = 1",
        "master_key = ['hidden-words', ",
        "mail.x = 'hidden-words'\n[mail]\ny = 'hidden-words'\nx = 'hidden-words'",
        "listen = 'hidden-words'\npublic_url = 'hidden-words'\nlinks.token_hours = 'hidden-words'\n\
         audit.webhook_url = 'hidden-words'\naudit.webhook_secret = 'hidden-words'\nmail.from = 'hidden words'\n\
         mail.postmark_events_password = 'hidden-words'\nmail.resend_events_secret = 'hidden-words'",
    ] {
        let said = Config::from_toml(&format!("\n{broken}")).unwrap_err().to_string();
        assert!(!said.replace("mail.hidden-words", "").contains("hidden"), "{broken}: {said}");
        assert!(said.contains("line ") || said.contains("listen: "), "{said}");
    }
}

#[test]
fn secrets_do_not_print() {
    let config = Config::from_toml("master_key = 'hidden-words'").unwrap();
    assert!(!format!("{config:?}").contains("hidden-words"));
}

#[test]
fn a_callback_carries_the_tenant_and_the_code() {
    let config = Config::from_toml("").unwrap();
    let cloud = config.portals.get("cloud").unwrap();
    assert_eq!(cloud.callback("acme", "c0de"), "http://127.0.0.1:8081/acme/cloud/callback?code=c0de");
}

#[test]
fn a_sandbox_sends_no_real_mail() {
    let with = |mail: &str| Config::from_toml(&format!("sandbox = true\n[mail]\n{mail}"));
    let issuer = with("").expect("preview").issuer();
    assert_eq!(issuer, "http://127.0.0.1:8080/sandbox");
    assert!(with("provider = 'mailpit'").is_ok());
    let postmark = "postmark_server_token = 't'\nfrom = 'a@b.example.org'";
    for mail in [
        format!("provider = 'postmark'\n{postmark}"),
        format!("provider = 'mailpit'\nfallback_provider = 'postmark'\n{postmark}"),
    ] {
        let problems = with(&mail).expect_err("a real provider").to_string();
        assert!(problems.contains("sandbox: a sandbox sends no real mail"), "{problems}");
    }
    assert_eq!(Config::from_toml("").expect("no sandbox").issuer(), "http://127.0.0.1:8080");
}

#[test]
fn what_ships_configures_the_service() {
    let (_, map) =
        include_str!("../../docker/kubernetes/magic-link.yaml").split_once("  magic-link.toml: |\n").unwrap();
    let (map, _) = map.split_once("---\n").unwrap();
    // The secrets are not here.
    let secret = "database_url_file = \"/etc/magic-link/secrets/database_url\"";
    assert!(map.contains(secret));
    let config =
        Config::from_toml(&map.replace(secret, "database_url = 'postgres://run@db.example/m?sslmode=disable'"));
    assert!(!config.unwrap().migrate_at_start);

    let file = include_str!("../../docker/debian/magic-link.toml");
    assert!(Config::from_toml(file).unwrap().is_loopback());
    // What it proposes in comments can be used, once the mail provider is somebody's, and the file is there.
    let is_setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let proposed: Vec<_> = file.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_setting).collect();
    let problems = Config::from_toml(&proposed.join("\n")).unwrap_err().to_string();
    let others = |line: &&str| !line.starts_with("  mail.") && !line.starts_with("  database_url_file: ");
    assert_eq!(problems.lines().skip(1).filter(others).collect::<Vec<_>>(), [""; 0], "{problems}");

    for file in [
        include_str!("../../docker/Dockerfile"),
        include_str!("../../docker/compose.yaml"),
        include_str!("../../docker/kubernetes/migrate.yaml"),
    ] {
        let named = file.split("MAGIC_LINK_").skip(1).map(|rest| {
            let end = rest.find(|letter: char| !letter.is_ascii_uppercase() && letter != '_').unwrap_or(rest.len());
            rest.split_at(end).0.to_ascii_lowercase().replace("__", ".")
        });
        for key in named {
            assert!(KEYS.contains(&key.as_str()), "{key} is no key");
        }
    }
}

#[test]
fn what_is_no_file_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for (path, what) in [
        (folder.path(), "this is a folder"),
        (Path::new("/dev/null"), "this is no regular file"),
        (folder.path().join("none.toml").as_path(), "there is no such file"),
    ] {
        let problem = Config::load(Some(path)).unwrap_err().to_string();
        assert!(problem.contains(&format!("{}: {what}", path.display())), "{problem}");
    }
}
