//! Peers that open connections and do nothing useful with them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::support::{Api, Database, Process, Raw, Settings, World, apply, eventually, on_both_databases};

/// The largest pages that need no login; the second one is compressed, for those who take that.
const LARGE: [&str; 2] = ["/openapi.json", "/docs/swagger-ui-bundle.js"];

/// So many requests for a page, without waiting for an answer.
fn pipelined(page: &str, requests: usize) -> Vec<u8> {
    format!("GET {page} HTTP/1.1\r\nhost: test\r\n\r\n").repeat(requests).into_bytes()
}

/// A peer that has asked, and does not read.
fn reader(base: &str, page: &str, requests: usize) -> TcpStream {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).expect("a connection");
    stream.write_all(&pipelined(page, requests)).expect("the service takes the requests");
    stream.set_nonblocking(true).expect("the socket takes options");
    stream
}

/// Whether the service has hung up: it refuses what is sent to it.
fn is_gone(stream: &mut TcpStream) -> bool {
    let closed = |error: std::io::Error| error.kind() != std::io::ErrorKind::WouldBlock;
    stream.write_all(b"\r\n").is_err_and(closed)
}

/// How many readers there are: few in `make check`, `READERS` in `make soak`.
fn readers() -> usize {
    std::env::var("READERS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// How many connections are open, and how many were ended because their peers stalled.
async fn connections(process: &Process) -> (usize, usize) {
    let text = Api::new(&process.metrics, None).get("/metrics").await.text;
    let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    (number("magic_link_http_connections "), number("magic_link_http_connections_ended_total{reason=\"stalled\"}"))
}

#[test]
fn readers_that_do_not_read_cost_little_and_do_not_stay() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let (count, soak) = (readers(), std::env::var_os("READERS").is_some());
        let mut settings =
            vec![("MAGIC_LINK_LIMITS__CONNECTIONS_PER_ADDRESS", "0"), ("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")];
        if !soak {
            settings.push(("MAGIC_LINK_WRITE_TIMEOUT_SECONDS", "5"));
        }
        let process = Process::start_with(world, &settings, Stdio::inherit());
        let stranger = Api::new(&process.base, None);
        for page in LARGE {
            assert_eq!(stranger.get(page).await.status, 200, "{page}");
        }
        let before = process.peak_memory_kib();
        let mut readers: Vec<TcpStream> =
            (0..count).map(|number| reader(&process.base, LARGE[number % 2], 60)).collect();
        // The others are served meanwhile.
        stranger.get("/openapi.json").await.ok();
        if soak {
            // As it is configured by default, a peer may take a minute.
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        eventually("all are gone", async || {
            let (open, stalled) = connections(&process).await;
            (open <= 2 && stalled > count / 2).then_some(())
        })
        .await;
        for reader in &mut readers {
            eventually("the peer hears of it", async || is_gone(reader).then_some(())).await;
        }
        if let (Some(before), Some(after)) = (before, process.peak_memory_kib()) {
            assert!(
                after.saturating_sub(before) < 100 * count as u64,
                "{before} KiB before, {after} KiB after {count} readers"
            );
            assert!(after < 300 * 1024, "{after} KiB");
        }
    });
}

/// Senders of a body whose last byte is missing, from many addresses, cost little together.
fn holding_bodies_back_costs_little(head: impl Fn(&World) -> String) {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let topic = "arn:aws:sns:ap-south-1:123456789012:mail-reports";
        let process = Process::start_with(
            world,
            &[("MAGIC_LINK_MAIL__SES_EVENTS_TOPIC_ARN", topic), ("MAGIC_LINK_BODY_TIMEOUT_SECONDS", "300")],
            Stdio::inherit(),
        );
        let part = vec![b' '; 64 * 1024];
        let mut strangers = Vec::new();
        for number in 0..2_000 {
            let address = std::net::Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(number / 200).unwrap());
            let mut raw = Raw::connect_from(address, &process.base).await;
            raw.send(head(world).as_bytes());
            raw.send(b"host: test\r\ntransfer-encoding: chunked\r\n\r\n80000\r\n");
            // One byte is missing at the end; those who are refused stay as long as they may.
            let _is_taken = (0..7).all(|_| raw.send(&part)) && raw.send(&part[1..]);
            strangers.push(raw);
        }
        // The others are served meanwhile.
        Api::new(&process.base, None).get("/openapi.json").await.ok();
        if let Some(peak) = process.peak_memory_kib() {
            assert!(peak < 300 * 1024, "{peak} KiB");
        }
    });
}

#[test]
#[ignore = "opens 2,000 connections: `make soak`"]
fn strangers_who_hold_bodies_back_cost_little() {
    holding_bodies_back_costs_little(|_| "POST /v1/mail-events/ses HTTP/1.1\r\n".to_owned());
}

#[test]
#[ignore = "opens 2,000 connections: `make soak`"]
fn a_client_that_holds_bodies_back_costs_little() {
    holding_bodies_back_costs_little(|world| reporting(world.admin.key()));
}

/// The beginning of a report of events.
fn reporting(key: &str) -> String {
    let session = "ses_01kaq3v9e8fwmvd2x7n0c5hb8z";
    format!(
        "POST /v1/sessions/{session}/events HTTP/1.1\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    )
}

// Whoever keeps the ends of many bodies back has no room for more, and keeps nobody else's out.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn bodies_that_one_client_holds_back_take_its_own_room(world: &World) {
    const LENGTH: usize = 1024 * 1024;
    let process = Process::start_with(world, &[("MAGIC_LINK_BODY_TIMEOUT_SECONDS", "300")], Stdio::inherit());
    let request = json!({ "name": "Another one", "tenants": ["acme"], "scopes": ["audit:write"] });
    let other =
        world.admin.at(&process.base).post("/v1/clients", &request).await.ok()["key"].as_str().unwrap().to_owned();
    let head = |key: &str| format!("{}host: test\r\ncontent-length: {LENGTH}\r\n\r\n", reporting(key));
    let own = head(world.admin.key());
    let (held, refusal) = Raw::hold_back(std::net::Ipv4Addr::LOCALHOST, &process.base, &own, LENGTH).await;
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\"unavailable\""), "{refusal}");
    assert!((16..40).contains(&held.len()), "{}", held.len());
    // Another one's report is looked at, and of the first one what has no body.
    let mut raw = Raw::connect(&process.base);
    raw.send(head(&other).as_bytes());
    raw.send(&vec![b' '; LENGTH]);
    let answer = raw.answer();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    world.admin.at(&process.base).get("/v1/magic-links").await.ok();
}

#[test]
fn a_reader_that_is_slow_but_reads_gets_everything() {
    World::run(Database::Sqlite, &Settings::config("write_timeout_seconds = 1"), async |world| {
        let once = world.stranger().get("/openapi.json").await.text.len();
        let requests = 40;
        let mut stream = reader(&world.base, LARGE[0], requests);
        let mut rest = vec![0; 128 * 1024];
        let mut received = 0;
        // Slower than the service writes, so that its writes wait all the time.
        while received < requests * once {
            tokio::time::sleep(Duration::from_millis(25)).await;
            match stream.read(&mut rest) {
                Ok(0) => panic!("hung up after {received} bytes"),
                Ok(length) => received += length,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "after {received} bytes"),
            }
        }
    });
}

#[test]
fn requests_in_one_packet_are_answered_one_by_one() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let body = r#"{"token":"nobody's"}"#;
        let post = format!(
            "POST /v1/sessions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            world.admin.key(),
            body.len()
        );
        let get = "GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n";
        let last = "GET /v1/nowhere HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        let mut stream = TcpStream::connect(world.base.trim_start_matches("http://")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit can be set");
        stream.write_all([get, &post, get, &post, last].concat().as_bytes()).expect("the service takes it");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("all answers");
        let status = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect::<Vec<_>>();
        assert_eq!(status, ["200", "400", "200", "400", "404"], "{answers}");
    });
}

#[test]
fn a_request_that_never_ends_has_an_end() {
    let settings = Settings::config("write_timeout_seconds = 1\nbody_timeout_seconds = 1");
    World::run(Database::Sqlite, &settings, async |world| {
        // The time of the first head is bounded by actix, that of the second one is not.
        let mut raw = Raw::connect(&world.base);
        assert!(raw.send(b"GET /problems HTTP/1.1\r\nhost: test\r\n\r\n"));
        eventually("the connection is closed", async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            (!raw.send(b"G")).then_some(())
        })
        .await;
    });
}

#[test]
fn a_body_that_is_answered_before_it_has_come_has_an_end() {
    let settings = Settings::config("write_timeout_seconds = 1\nbody_timeout_seconds = 1");
    World::run(Database::Sqlite, &settings, async |world| {
        for (path, begun) in [("/v1/magic-links", ""), ("/v1/magic-links", "5\r\nab"), ("/v1/nowhere", "1\r\na\r\n")] {
            let mut raw = Raw::connect(&world.base);
            let head = "host: test\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            raw.send(format!("POST {path} HTTP/1.1\r\n{head}{begun}").as_bytes());
            let answer = raw.answer();
            assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
            assert!(raw.ends_within(Duration::from_secs(20)), "{path} {begun:?}: it goes on without end");
        }
    });
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    World::run(Database::Sqlite, &Settings::config("limits.connections_per_address = 8"), async |world| {
        let answered = |stream: &mut TcpStream| {
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit can be set");
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").is_ok()
                && stream.read(&mut [0; 512]).is_ok_and(|length| length > 0)
        };
        let address = world.base.trim_start_matches("http://");
        let mut streams: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(address).expect("a connection")).collect();
        let served = streams.iter_mut().map(answered).filter(|served| *served).count();
        assert_eq!(served, 8);
        // Those that close make room for others.
        streams.clear();
        eventually("a place is free", async || {
            let mut stream = TcpStream::connect(address).expect("a connection");
            answered(&mut stream).then_some(())
        })
        .await;
    });
}

#[test]
fn a_body_behind_its_refusal_holds_neither_a_place_nor_the_next_request() {
    World::run(Database::Sqlite, &Settings::config("limits.connections_per_address = 3"), async |world| {
        // Where all places are taken, the service hangs up.
        let refused = |how: &str, body: &[u8]| {
            let mut raw = Raw::connect(&world.base);
            raw.send(format!("POST /v1/magic-links HTTP/1.1\r\nhost: test\r\n{how}\r\n\r\n").as_bytes());
            let answer = raw.answer();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 401 "), "{how}: {answer:?}");
            raw.send(body);
            (!answer.is_empty()).then_some(raw)
        };
        // One connection at a time, each closed behind its answer: the service may be a moment behind, never a second.
        let mut hung_up = 0;
        for _ in 0..24 {
            eventually("the connection before has gone", async || {
                let raw = refused("content-type: application/json\r\ncontent-length: 2", b"{}");
                hung_up += usize::from(raw.is_none());
                raw.map(drop)
            })
            .await;
        }
        assert!(hung_up < 100, "{hung_up}");
        // After a body in chunks the connection goes on.
        let mut raw = eventually("the connection before has gone", async || {
            refused("content-type: application/json\r\ntransfer-encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n")
        })
        .await;
        raw.send(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n");
        assert!(raw.line().starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_trusted_proxy_has_as_many_connections_as_it_wants() {
    let settings =
        Settings::config("limits.connections_per_address = 2\nlimits.trusted_proxies = '127.0.0.0/8, 10.0.0.1'");
    World::run(Database::Sqlite, &settings, async |world| {
        let mut connections: Vec<Raw> = (0..20).map(|_| Raw::connect(&world.base)).collect();
        for raw in &mut connections {
            raw.send(b"GET /v1/nowhere HTTP/1.1\r\nhost: test\r\n\r\n");
            assert!(raw.answer().starts_with("HTTP/1.1 404 "));
        }
    });
}

#[test]
fn strangers_leave_files_to_the_database_and_to_everybody_else() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start_limited(world, &[], "ulimit -n 256");
        let address: std::net::SocketAddr = process.base.trim_start_matches("http://").parse().unwrap();
        let mut idle = Vec::new();
        for stranger in 2..6_u8 {
            for _ in 0..60 {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind((std::net::Ipv4Addr::new(127, 0, 0, stranger), 0).into()).unwrap();
                idle.push(socket.connect(address).await.unwrap());
            }
        }
        let operator = world.admin.at(&process.base);
        let consultant = serde_json::json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
        let consultant = operator.post("/v1/consultants", &consultant).await.ok();
        operator.issue(consultant["id"].as_str().unwrap()).await;
        assert_eq!(operator.get("/readyz").await.status, 200);
        drop(idle);
    });
}

#[test]
fn the_process_opens_as_many_files_as_it_may() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start_limited(world, &[], "ulimit -Sn 256");
        Api::new(&process.base, None).get("/readyz").await.ok();
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
        let files: Vec<&str> =
            limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
        assert_eq!(files[3], files[4], "{limits}");
    });
}
