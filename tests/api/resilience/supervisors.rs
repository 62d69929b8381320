//! What starts, watches and stops the service: container engines by a command, systemd by a socket.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::resilience::outage::close_the_database;
use crate::support::{Database, Process, Settings, Sql, World, command, eventually, folder};

/// Asks as the image does: with the address alone, and nothing of what `serve` needs.
fn healthcheck(listen: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
    command.env_clear().env("MAGIC_LINK_LISTEN", listen).current_dir(folder("healthcheck"));
    command.arg("healthcheck").args(more).output().unwrap()
}

fn is_well(listen: &str, more: &[&str]) -> bool {
    let output = healthcheck(listen, more);
    assert_ne!(output.status.code(), Some(2), "{output:?}");
    output.status.success()
}

#[test]
fn an_outage_of_the_database_is_no_reason_to_restart() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[], Stdio::null());
        let port = process.base.rsplit(':').next().unwrap();
        // As the image listens: on every address.
        let listen = format!("0.0.0.0:{port}");
        let (mut control, name) = (Sql::control(world), Sql::name(world));
        assert!(is_well(&listen, &[]) && is_well(&listen, &["--ready"]));
        close_the_database(&mut control, &name);
        let output = healthcheck(&listen, &["--ready"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("/readyz answers 503"), "{output:?}");
        assert!(is_well(&listen, &[]));
        control.run(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).unwrap();
        eventually("it is ready again", async || is_well(&listen, &["--ready"]).then_some(())).await;
    });
}

#[test]
fn a_process_that_does_not_answer_is_not_healthy() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[], Stdio::null());
        let listen = process.base.strip_prefix("http://").unwrap();
        assert!(is_well(listen, &["--json"]));
        process.signal("STOP");
        let output = healthcheck(listen, &[]);
        process.signal("CONT");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(is_well(listen, &[]));
        let listen = listen.to_owned();
        process.kill();
        assert!(!is_well(&listen, &[]), "nobody listens");
    });
}

#[test]
fn systemd_is_told_when_the_service_answers_and_when_it_stops() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let path = folder("notified").join("notify");
        let by_name = format!("magic-link-{}", std::process::id());
        let abstract_one = SocketAddr::from_abstract_name(&by_name).unwrap();
        for (socket, variable) in [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstract_one).unwrap(), format!("@{by_name}")),
        ] {
            socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
            let heard = || {
                let mut text = [0; 64];
                let length = socket.recv(&mut text).unwrap();
                String::from_utf8_lossy(&text[..length]).into_owned()
            };
            let mut serve = command(world);
            serve.env("NOTIFY_SOCKET", &variable).args(["serve", "--json"]).stderr(Stdio::null());
            let process = Process::of(serve);
            assert_eq!(heard(), "READY=1");
            assert_eq!(world.stranger().at(&process.base).get("/healthz").await.status, 200);
            process.ask_to_stop();
            assert_eq!(heard(), "STOPPING=1");
            assert!(process.stopped().await.success());
        }
    });
}
