//! Links as mail gateways and mail programs leave them, and browsers that are not of today.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fantoccini::key::Key;
use serde_json::json;

use crate::actors::Api;
use crate::browser::Browser;
use crate::world::World;

/// Every byte that is no letter or digit as `%XX`, or with another sign than `%`.
fn escaped(text: &str, sign: char, kept: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            escaped.push(byte.into());
        } else {
            write!(escaped, "{sign}{byte:02X}").unwrap();
        }
        escaped
    })
}

/// Lines of so many characters.
fn wrapped(text: &str, width: usize, before: &str, after: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let lines = characters.chunks(width).map(|line| format!("{before}{}", line.iter().collect::<String>()));
    lines.collect::<Vec<_>>().join(&format!("{after}\n"))
}

/// A token of somebody else's, with a signature of so many bytes.
fn other(algorithm: &str, signature: usize) -> String {
    of_type("JWT", algorithm, signature)
}

fn of_type(kind: &str, algorithm: &str, signature: usize) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": algorithm, "kid": "vpaas-magic-cookie/1", "typ": kind });
    let payload = json!({ "aud": "jitsi", "exp": 1, "iss": "chat", "room": "*" });
    format!("{}.{}.{}", part(header), part(payload), URL_SAFE_NO_PAD.encode(vec![0xa7; signature]))
}

async fn paste(browser: &Browser, world: &World, text: &str) {
    browser.open(&format!("{}/l", world.base)).await;
    browser.until_state("paste").await;
    browser.script(&format!("document.querySelector('#paste-input').value = {}", json!(text))).await;
    browser.click("#paste-submit").await;
}

#[test]
fn a_link_is_found_in_whatever_is_pasted() {
    World::run(async |world, browser| {
        let (_, link) = world.link().await;
        let token = link.split_once('#').unwrap().1;
        let safe_of = |link: &str| {
            format!(
                "https://eur01.safelinks.protection.outlook.com/?url={}&data=05%7C01%7Cravi%40support.example%7Ceyx&sdata=aB%2Fc%3D&reserved=0",
                escaped(link, '%', ".-_")
            )
        };
        let safe = safe_of(&link);
        // Gateways that write in base64 know the address of a service that has a name, of whatever length.
        let secure = format!("https://links.example/l#{token}");
        let in_base64 =
            |more: usize| URL_SAFE_NO_PAD.encode(secure.replace("example", &format!("example{}", "s".repeat(more))));
        let proofpoint = |address: &str| {
            let address = escaped(address, '-', "./").replace('/', "_");
            format!("https://urldefense.proofpoint.com/v2/url?u={address}&d=DwMFaQ&c=euGZ_-s&r=eyJ&m=x-y_z&s=q&e=")
        };
        for (name, text) in [
            ("bare", token.to_owned()),
            ("in a sentence", format!("Hello Ravi,\n\nopen {link} before six.\n\nRegards,\nHR")),
            ("after what is all escapes", format!("{} {link}", "\\".repeat(100_000))),
            ("glued to its neighbours", format!("Link:<{link}>.")),
            ("quoted", format!("HR wrote:\n> Open\n{}\n> Regards\n", wrapped(&link, 70, "> ", ""))),
            ("quoted twice", wrapped(&format!("Open {link} now"), 60, ">> ", "")),
            ("wrapped", format!("Open\n{}\nRegards", wrapped(&link, 76, "", ""))),
            ("indented", wrapped(&link, 50, "\t  ", "  ")),
            ("quoted-printable", format!("Open:\n{}\n\nRegards=2E", wrapped(&link, 75, "", "="))),
            ("quoted-printable HTML", wrapped(&format!("<a href=3D\"{}\">", link.replace('.', "=2E")), 72, "", "=")),
            ("HTML", format!("<a href=\"{}\">Open</a>", link.replace('#', "&#35;").replace('.', "&#x2e;"))),
            ("SafeLinks", safe.clone()),
            ("SafeLinks, wrapped and quoted", wrapped(&safe, 72, "> ", "")),
            ("SafeLinks, quoted-printable", wrapped(&safe.replace('=', "=3D"), 74, "", "=")),
            ("SafeLinks twice", format!("https://x.safelinks.protection.outlook.com/?url={}", escaped(&safe, '%', ""))),
            (
                "Proofpoint 1",
                format!("https://urldefense.proofpoint.com/v1/url?u={}&k=oIvRg1", link.replace('#', "%23")),
            ),
            ("Proofpoint 2", proofpoint(&link)),
            (
                "Proofpoint 2 in the United States",
                proofpoint(&link).replace("urldefense.proofpoint.com", "urldefense.us"),
            ),
            ("Proofpoint 2, wrapped", wrapped(&proofpoint(&link), 70, "> ", "")),
            ("Proofpoint 2 around SafeLinks", proofpoint(&safe)),
            ("Proofpoint 2 twice", proofpoint(&proofpoint(&link))),
            ("Proofpoint 2 twice around SafeLinks", proofpoint(&proofpoint(&safe))),
            ("SafeLinks five times around Proofpoint 2", (0..5).fold(proofpoint(&link), |inner, _| safe_of(&inner))),
            ("Proofpoint 2 around SafeLinks around Proofpoint 2", proofpoint(&safe_of(&proofpoint(&link)))),
            ("defanged", link.replacen("http", "hxxp", 1).replace('.', "[.]")),
            ("a wrap that a form has written", safe_of(&wrapped(&link, 76, "", "\r")).replace("%20", "+").replace("%0A", "+")),
            ("Proofpoint 3", format!("https://urldefense.com/v3/__{}__;Iw!!Ab-_c!eyJ_x-y$", link.replace('#', "*"))),
            ("another gateway", format!("https://linkprotect.cudasvc.com/url?a={}&c=E,1,x", escaped(&link, '%', ""))),
            ("Markdown", format!("[Open]({})", link.replace('_', "\\_"))),
            ("invisible characters", wrapped(&link, 40, "\u{200b}", "").replace('\n', "")),
            (
                "marks of direction",
                format!("\u{202a}{}\u{202c}", wrapped(&link, 40, "\u{2066}\u{202d}", "\u{2069}").replace('\n', "")),
            ),
            ("wrapped, then SafeLinks", safe_of(&wrapped(&link, 76, "", "\r"))),
            ("wrapped by blanks, then SafeLinks", safe_of(&wrapped(&link, 76, "", "").replace('\n', " "))),
            ("quoted, then SafeLinks", safe_of(&wrapped(&link, 70, "> ", "\r"))),
            ("quoted, then SafeLinks, quoted", wrapped(&safe_of(&wrapped(&link, 70, "> ", "\r")), 72, "> ", "")),
            ("quoted-printable, then SafeLinks", safe_of(&wrapped(&link, 75, "", "=\r"))),
            ("wrapped, then SafeLinks twice", safe_of(&safe_of(&wrapped(&link, 76, "", "\r")))),
            ("wrapped, then SafeLinks, then Proofpoint 2", proofpoint(&safe_of(&wrapped(&link, 76, "", "\r")))),
            ("escaped invisible characters", wrapped(&link, 40, "%E2%80%8B%C2%AD", "").replace('\n', "")),
            ("entities of invisible characters", wrapped(&link, 40, "&shy;&#8203;&zwnj;", "").replace('\n', "")),
            ("source of a page", wrapped(&link, 40, "", "<wbr>").replace('\n', "")),
            ("source of a page, wrapped", wrapped(&link, 76, "", "<br />\r")),
            (
                "source of a page, in pieces",
                format!(
                    "<span class=\"x\">{}</span>",
                    wrapped(&link, 60, "", "</span><span class=\"x\">").replace('\n', "")
                ),
            ),
            ("source of a page in XHTML", wrapped(&link, 40, "", "<wbr/>").replace('\n', "")),
            ("source of a page in XHTML, wrapped", wrapped(&link, 76, "", "<br/>\r")),
            (
                "source of a page, in pieces with a long style",
                wrapped(
                    &link,
                    60,
                    "",
                    "</span><span style=\"font-family:'Segoe UI',sans-serif;font-size:11.0pt;color:#0563C1;background:white;\
                     text-decoration:underline;mso-fareast-language:EN-IN\"><o:p></o:p>",
                )
                .replace('\n', ""),
            ),
            ("source of a page, with comments", wrapped(&link, 40, "", "<!-- a -->").replace('\n', "")),
            ("in angle brackets, wrapped", format!("Your token: <{}>", wrapped(token, 60, "", "\r"))),
            ("JSON", json!({ "Text": format!("Hello\r\n{link}\r\nRegards") }).to_string()),
            ("JSON, wrapped", json!({ "Text": format!("Open\r\n{}", wrapped(&link, 70, "", "\r")) }).to_string()),
            ("JSON, indented, in JSON", json!(json!([wrapped(&link, 70, "\t", "")]).to_string()).to_string()),
            ("JSON in ASCII", json!(link).to_string().replace('#', "\\u0023").replace('-', "\\u002d")),
            ("a repr in a log", format!("b'{}'", wrapped(&link, 70, "", "\\r\\n").replace('\n', ""))),
            ("hyphens that do not break", link.replace('-', "\u{2011}")),
            ("hyphens of typographers", link.replacen('-', "\u{2010}", 1).replace('-', "\u{2013}")),
            ("minus signs", link.replace('-', "\u{2212}")),
            ("entities of hyphens", link.replace('-', "&#8209;")),
            ("in a frame", wrapped(&link, 60, "\u{2502} ", "")),
            ("full-width signs", link.replace('#', "＃").replace('.', "．")),
            ("ligatures of a PDF", link.replace("fi", "\u{fb01}").replace("fl", "\u{fb02}").replace("ff", "\u{fb00}")),
            ("letters of mathematicians", link.replace('a', "\u{1d41a}").replace('7', "\u{1d7d5}")),
            (
                "source of a mail in base64",
                format!(
                    "Content-Transfer-Encoding: base64\n\n{}\n--x--\n",
                    wrapped(&STANDARD.encode(format!("नमस्ते Ravi,\nopen {link}\nRegards")), 76, "", "\r")
                ),
            ),
            ("behind the token of a meeting", format!("Join: https://8x8.vc/Room?jwt={}\n\n{link}", other("RS256", 256))),
            ("behind another token with our signature", format!("{} {link}", other("ES256", 64))),
            ("behind a long token", format!("https://idp.example/?t={} {link}", other("PS512", 512))),
            ("glued to another token", format!("{}\n{token}", other("ES384", 96))),
            ("before another token", format!("{link}\nhttps://8x8.vc/Room?jwt={}", other("RS256", 256))),
            ("behind our own code", format!("{} {link}", of_type("magic-link-code+jwt", "ES256", 64))),
            (
                "behind the token of a gateway",
                format!(
                    "https://gw.example/click?auth={}&url={}",
                    other("ES256", 64),
                    escaped(&safe_of(&link), '%', "")
                ),
            ),
            ("in base64, with a path behind it", format!("https://linkscan.io/scan/ux/{}/{}?c=1", in_base64(0), "A1".repeat(32))),
            ("a letter longer, likewise", format!("https://linkscan.io/scan/ux/{}/{}?c=1", in_base64(1), "A1".repeat(32))),
            ("two letters longer, likewise", format!("https://linkscan.io/scan/ux/{}/{}?c=1", in_base64(2), "A1".repeat(32))),
            ("in base64, at the end", format!("https://gw.example/r/{}", in_base64(0))),
            ("a letter longer, at the end", format!("https://gw.example/r/{}", in_base64(1))),
            ("two letters longer, at the end", format!("https://gw.example/r/{}", in_base64(2))),
            ("in base64 with its signs, in a query", format!("https://gw.example/?u={}&i=1", STANDARD.encode(&secure))),
            ("in base64 in base64", format!("https://gw.example/?u={}", STANDARD.encode(STANDARD.encode(&secure)))),
            (
                "behind another address in base64",
                format!("https://gw.example/?r={}&u={}", STANDARD.encode("https://idp.example/a/long/way/to/go?x=1"), in_base64(0)),
            ),
            ("quoted with initials", format!("RK wrote:\n{}\nRegards\nRavi", wrapped(&format!("Open {link} now."), 70, "RK> ", ""))),
            ("quoted twice with initials", wrapped(&link, 70, " RK>> ", "")),
            ("quoted with a name", wrapped(&link, 70, "Ravi> ", "")),
            ("quoted with initials, quoted", wrapped(&link, 66, "> RK> ", "")),
            ("quoted with initials, quoted-printable", wrapped(&link, 70, "RK> ", "=")),
            ("quoted with initials, in JSON", json!({ "Text": wrapped(&link, 70, "RK> ", "\r") }).to_string()),
            ("quoted with initials, then SafeLinks", safe_of(&wrapped(&link, 70, "RK> ", "\r"))),
            ("SafeLinks, quoted with initials", wrapped(&safe, 70, "RK> ", "")),
            ("quoted with colons", wrapped(&link, 70, ": ", "")),
            ("in a comment", wrapped(&link, 70, "# ", "")),
            ("in a list", wrapped(&link, 70, "* ", "")),
            ("in a list of hyphens", format!("{}\nRegards", wrapped(&link, 70, "- ", ""))),
            ("quoted with broken bars", wrapped(&link, 70, "\u{a6} ", "")),
            ("quoted with angles", wrapped(&link, 70, "\u{203a} ", "")),
            ("quoted with blocks", wrapped(&link, 70, "\u{258c} ", "")),
            ("in a table", format!("| {} |", wrapped(&link, 70, "| ", " |").replacen("| ", "", 1))),
            ("with signs of a wrap", format!("{}\u{21b5}\nRegards", wrapped(&link, 70, "", "\u{21b5}"))),
            ("in pieces of a program", format!("{}'\n", wrapped(&link, 70, "'", "'"))),
            ("in pieces of a program, added up", format!("{}\";\n", wrapped(&link, 70, "  \"", "\" +"))),
            ("behind numbers of lines", {
                let lines = wrapped(&link, 60, "", "");
                let lines = lines.lines().enumerate().map(|(at, line)| format!("{:>4}: {line}", at + 1));
                lines.collect::<Vec<_>>().join("\n")
            }),
            ("underlined in a terminal", wrapped(&link, 60, "\u{1b}[4m", "\u{1b}[0m")),
            ("underlined in a log", wrapped(&link, 60, "[4m", "[0m")),
            ("in lines of a terminal", wrapped(&link, 70, "", "").replace('\n', "\u{85}")),
            ("around objects", wrapped(&link, 70, "", "").replace('\n', "\u{fffc}")),
            ("mail in base64 in JSON", json!({ "data": STANDARD.encode(format!("Hello,\r\nopen {link}\r\n")) }).to_string()),
            ("a letter longer, in JSON", json!({ "data": STANDARD.encode(format!("Hello,\r\nopen  {link}\r\n")) }).to_string()),
            (
                "two letters longer, in JSON",
                json!({ "data": URL_SAFE_NO_PAD.encode(format!("Hello,\r\nopen   {link}\r\n")) }).to_string(),
            ),
            (
                "mail in base64 in JSON, quoted with initials",
                json!({ "data": STANDARD.encode(wrapped(&link, 70, "RK> ", "\r")) }).to_string(),
            ),
            (
                "source of a mail in base64 in base64",
                json!({ "raw": URL_SAFE_NO_PAD.encode(wrapped(&STANDARD.encode(format!("Open {link}\n")), 76, "", "\r")) })
                    .to_string(),
            ),
            (
                "source of a mail in base64, quoted with initials",
                wrapped(&STANDARD.encode(format!("Hello Ravi,\nopen {link}\nRegards")), 70, "RK> ", ""),
            ),
            (
                "RTF",
                format!(
                    "{{\\rtf1\\ansi {{\\field{{\\*\\fldinst{{HYPERLINK \"{}\"}}}}}}\\par}}",
                    link.replace('#', "\\'23").replace('-', "\\'2d").replace('_', "\\'5f")
                ),
            ),
            ("hyphens of RTF", format!("{{\\rtf1\\ansi {}\\par}}", link.replace('-', "\\_"))),
            ("UTF-7", link.replace('#', "+ACM-").replace('_', "+AF8-")),
            ("small full stops", link.replacen('.', "\u{2024}", 1).replace('.', "\u{fe52}")),
        ] {
            println!("{name}: {text}");
            paste(browser, world, &text).await;
            browser.until_state("ready").await;
        }
        // Nobody else's, and none that lacks a piece.
        for text in [
            wrapped(&format!("https://8x8.vc/Room?jwt={}", other("ES256", 64)), 70, "RK> ", ""),
            wrapped(&of_type("magic-link-code+jwt", "ES256", 64), 70, "", "\u{21b5}"),
            json!({ "data": STANDARD.encode(format!("Join https://8x8.vc/Room?jwt={}", other("ES256", 64))) })
                .to_string(),
            format!("{}\nRK> ", wrapped(&link[..link.len() - 9], 70, "RK> ", "")),
        ] {
            assert_eq!(browser.script(&format!("return magicLinkToken({})", json!(text))).await, json!(""), "{text}");
        }
        for (text, error) in [
            ("   ", "Paste your link first."),
            ("https://links.example/l", "This link ends before its # sign. Copy the whole link from your mail."),
        ] {
            paste(browser, world, text).await;
            assert_eq!(browser.text("#paste-error").await, error);
        }
        paste(browser, world, &format!("{}x", &link[..link.len() - 9])).await;
        browser.until_state("invalid").await;
    });
}

#[test]
fn of_several_links_in_what_is_pasted_the_newest_one_is_opened() {
    World::run(async |world, browser| {
        let (id, old) = world.link().await;
        world.mail_is_out(&id).await;
        let newer = resent(world, &id).await;
        let safe = |link: &str| {
            format!("https://x.safelinks.protection.outlook.com/?url={}&data=05", escaped(link, '%', ".-_"))
        };
        let deep = |link: &str| format!("https://gw.example/url?a={}&c=E", escaped(link, '%', ""));
        let proofpoint = |link: &str| {
            let address = escaped(link, '-', "./").replace('/', "_");
            format!("https://urldefense.proofpoint.com/v2/url?u={address}&d=DwM&e=")
        };
        let (_, token) = old.split_once('#').unwrap();
        for (name, text) in [
            ("a conversation", format!("Hello\n{old}\nRegards\n\nHello\n{newer}\nRegards")),
            ("the newest first", format!("Hello\n{newer}\n\nHR wrote:\n> {old}\n")),
            ("the newest one quoted and wrapped", format!("{old}\n\nRK wrote:\n{}\n", wrapped(&newer, 70, "RK> ", ""))),
            ("both wrapped", format!("{}\n\n{}\nRegards", wrapped(&old, 70, "", ""), wrapped(&newer, 70, "> ", ""))),
            ("glued", format!("{token}{}", newer.split_once('#').unwrap().1)),
            ("HTML", format!("<a href=\"{old}\">Open</a><a href=\"{newer}\">Open</a>")),
            ("SafeLinks", format!("{}\n{}", safe(&old), safe(&newer))),
            ("the newest one escaped deeper", format!("{old}\n{}", deep(&newer))),
            ("Proofpoint 2", format!("Open {} now\n\nOpen {} now", proofpoint(&old), proofpoint(&newer))),
            ("Proofpoint 2, wrapped", wrapped(&format!("{} {}", proofpoint(&old), proofpoint(&newer)), 70, "> ", "")),
            ("Proofpoint 2 around SafeLinks", format!("{old} {}", proofpoint(&safe(&newer)))),
            (
                "the newest one in base64",
                format!("{old}\n\n{}\n", wrapped(&STANDARD.encode(format!("Hello,\nopen {newer}\n")), 76, "", "\r")),
            ),
        ] {
            println!("{name}: {text}");
            paste(browser, world, &text).await;
            browser.until_state("ready").await;
        }
        // Of two links that of the newest mail, whosever the other one is.
        let other = world.issue("globex", ("emp-9", "Asha Rao")).await;
        let theirs = world.mailed_address(&other, 1).await;
        world.revoke(&other).await;
        let newest = resent(world, &id).await;
        for text in [format!("{theirs}\n{newest}"), format!("{newest}\n{old}\n{newer}\n{theirs}")] {
            paste(browser, world, &text).await;
            browser.until_state("ready").await;
        }
    });
}

/// A fresh link, in a later second than all that were mailed before.
async fn resent(world: &World, id: &str) -> String {
    let second = || world.clock.now().unix_seconds();
    let started = second();
    while second() <= started {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.cloud.post(&format!("/v1/magic-links/{id}/resend"), &json!({})).await.ok();
    let fresh = world.trail(id).await.iter().filter(|kind| *kind == "magic_link.resent").count();
    let address = world.mailed_address(id, fresh + 1).await;
    world.mail_is_out(id).await;
    address
}

#[test]
fn the_button_of_our_mail_can_be_copied_and_pasted() {
    World::run(async |world, browser| {
        let (id, link) = world.link().await;
        let mails = Api::new(&world.base, None).get("/dev/mailbox.json").await.ok();
        let mails = mails.as_array().unwrap();
        let mail = mails.iter().find(|mail| mail["text"].as_str().unwrap().contains(&link)).unwrap();
        let chord = |letter: char| format!("{}{letter}", char::from(Key::Control));
        for (what, part) in [("the button", "a.button"), ("the whole mail", "body")] {
            // As a mail program shows it.
            browser.client.goto("about:blank").await.unwrap();
            let select = format!(
                "document.write({}); document.close(); getSelection().selectAllChildren(document.querySelector('{part}'))",
                mail["html"]
            );
            browser.script(&select).await;
            browser.find("body").await.send_keys(&chord('c')).await.unwrap();
            browser.open(&format!("{}/l", world.base)).await;
            browser.until_state("paste").await;
            browser.find("#paste-input").await.send_keys(&chord('v')).await.unwrap();
            browser.until("document.querySelector('#paste-input').value").await;
            println!("{what}: {}", browser.script("return document.querySelector('#paste-input').value").await);
            browser.click("#paste-submit").await;
            browser.until_state("ready").await;
        }
        assert_eq!(world.read(&id).await["state"], "active");
    });
}

#[test]
fn an_address_that_a_gateway_rewrote_opens_the_page_and_leaves_no_token_in_it() {
    World::run(async |world, browser| {
        let (_, link) = world.link().await;
        let (page, token) = link.split_once('#').unwrap();
        for address in [
            format!("{page}%23{token}"),
            format!("{page}%2523{token}"),
            format!("{page}/%23{token}"),
            format!("{page}/#{token}"),
            format!("{page}/{token}"),
            format!("{page}?{token}"),
            format!("{page}#{token}.%3E"),
            format!("{page}?utm_source=mail#{token}"),
            format!("{page}%23{token}?utm_source=mail"),
            format!("{}#{token}", page.replace("/l", "/L")),
            format!("{}%23{token}", page.replace("/l", "/L")),
            format!("{page};jsessionid=1A2B#{token}"),
            // Escaped by two gateways or more, or another sign than #.
            format!("{page}%252523{token}"),
            format!("{page}&#35;{token}"),
            format!("{page}*{token}"),
            format!("{page}.%23{token}"),
            format!("{page}%20%23{token}"),
            format!("{page}%3F%23{token}"),
            format!("{page}%2F%23{token}"),
            format!("{page}-23{token}"),
            format!("{page}=23{token}"),
            format!("{page}:{token}"),
            format!("{page}%0D%0A%23{token}"),
            format!("{}#{token}", page.replace("/l", "//l")),
            format!("{}{token}", page.replace("/l", "/link/")),
            // Wrapped, and the wrap escaped.
            format!("{page}#{}", wrapped(token, 60, "", "%0D%0A").replace('\n', "")),
            format!("{page}#{}", wrapped(token, 60, "", "%20").replace('\n', "")),
            format!("{page}#{}", wrapped(token, 60, "", "=%0D%0A").replace('\n', "")),
            format!("{page}#{}", wrapped(token, 60, "%C2%AD", "").replace('\n', "")),
            format!("{page}%23{}", wrapped(token, 60, "%0D%0A%3E%20", "").replace('\n', "")),
            format!("{page}#{}", token.replace('-', "\u{2011}")),
            format!("{page}#{}", wrapped(token, 60, "", "%3Cbr/%3E").replace('\n', "")),
        ] {
            browser.open(&address).await;
            browser.until_state("ready").await;
            assert_eq!(browser.client.current_url().await.unwrap().as_str(), page, "{address}");
        }
        for cut in ["%23", ".", ")", "%20", "%22", "%3E", "%C2%A0", "%E2%80%8B", "%E2%80%A6", "//"] {
            browser.open(&format!("{page}{cut}")).await;
            browser.until_state("paste").await;
        }
    });
}

#[test]
fn no_text_that_is_pasted_keeps_the_page_busy() {
    World::run(async |world, browser| {
        browser.open(&format!("{}/l", world.base)).await;
        browser.until_state("paste").await;
        // So many times that a look that is not of one pass ends the browser's patience with a script.
        for text in [
            "'eyJ'.repeat(60000)",
            "('eyJ' + 'a'.repeat(80) + '.').repeat(2000)",
            "'eyJ' + 'a'.repeat(500) + '.eyJ' + 'a'.repeat(190000)",
            "'<a '.repeat(60000)",
            "'<a' + ' x'.repeat(90000)",
            "'<!-'.repeat(50000)",
            "'\\\\u0'.repeat(50000)",
            "'aHR0c'.repeat(40000)",
            "'YUhSMGN'.repeat(28000)",
            "('YUhSMGN' + 'a'.repeat(41) + ' ').repeat(4000)",
            "('aHR0c' + 'a'.repeat(40) + '.').repeat(4300)",
            // Each could be one of ours, but for its header.
            "('eyJ' + 'a'.repeat(497) + '.eyJa.' + 'a'.repeat(86) + ' ').repeat(330)",
            "('eyJ'.repeat(160) + '.eyJa.' + 'a'.repeat(86) + ' ').repeat(340)",
            "('.eyJaeyJa' + 'a'.repeat(86)).repeat(2100)",
            "('RK> ' + 'a'.repeat(70) + '\\n').repeat(2600)",
            "('RK> '.repeat(20) + '\\n').repeat(2400)",
            "'a\\n'.repeat(100000)",
            "'a' + '+'.repeat(199999)",
            "' +'.repeat(100000)",
            "'+AC'.repeat(66000)",
            "'[1;'.repeat(66000)",
            "'\\\\_a_'.repeat(50000)",
            "'a'.repeat(200000)",
            "btoa('aHR0c'.repeat(22000)) + 'aHR0cHM6'.repeat(6000)",
            "btoa(btoa(btoa('eyJ'.repeat(28000))))",
        ] {
            let script = format!(
                "const text = {text}; for (let i = 0; i < 12; i += 1) magicLinkToken(text); return magicLinkToken(text)"
            );
            assert_eq!(browser.script(&script).await, json!(""), "{text}");
        }
    });
}

#[test]
fn the_page_works_in_a_browser_of_2020_and_says_so_where_it_cannot() {
    World::run(async |world, browser| {
        let (_, link) = world.link().await;
        let before = browser
            .before_each_page(
                "delete Object.hasOwn; delete Array.prototype.at; delete String.prototype.at; delete String.prototype.replaceAll;
                 delete Element.prototype.replaceChildren; delete AbortSignal.timeout;
                 delete Array.prototype.findLast; delete window.structuredClone; delete Promise.any;
                 const Format = Intl.DateTimeFormat;
                 Intl.DateTimeFormat = function (locale, options) {
                   if (options?.timeZoneName && !['short', 'long'].includes(options.timeZoneName)) throw new RangeError('old');
                   return new Format(locale, options);
                 };",
            )
            .await;
        browser.open(&link).await;
        browser.until_state("ready").await;
        assert!(browser.text("#facts").await.contains("IST"));
        // By keyboard: the driver itself needs what is missing here to click.
        browser.open(&format!("{}/l", world.base)).await;
        browser.until_state("paste").await;
        let (_, visited) = world.link().await;
        let link_in = format!("document.querySelector('#paste-input').value = {}", json!(visited));
        browser.script(&format!("{link_in}; document.querySelector('#paste-submit').focus()")).await;
        browser.press(Key::Enter).await;
        browser.until_state("ready").await;
        browser.script("document.querySelector('#continue').focus()").await;
        browser.press(Key::Enter).await;
        browser.until_page("arrival").await;
        browser.forget(&before).await;
        for too_old in [
            "delete Element.prototype.append",
            "delete window.AbortController",
            "delete Intl.DateTimeFormat",
            "delete Document.prototype.createDocumentFragment",
        ] {
            let before = browser.before_each_page(too_old).await;
            browser.open(&link).await;
            browser.until_state("unsupported").await;
            assert_eq!(browser.text("#heading").await, "This page does not work here");
            assert!(browser.text("#next").await.contains("up-to-date"), "{too_old}");
            browser.forget(&before).await;
        }
        browser.open(&link).await;
        browser.until_state("ready").await;
    });
}
