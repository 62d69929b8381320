//! The servers under load, as processes whose CPU time and memory can be read.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::web;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

use crate::databases::MASTER_KEY;
use crate::load::{Connection, Request};

/// Clock ticks a second in /proc: 100 on every Linux we know.
const TICK: Duration = Duration::from_millis(10);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What the bare server verifies.
    pub token: String,
    pub started_in: Duration,
}

impl Server {
    /// This program again, as a bare actix server with one JSON route and no middleware.
    pub fn bare() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("bare");
        Self::start(command)
    }

    /// The service, with its default log.
    pub fn magic_link(database_url: &str, mailpit_url: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
        command
            .args(["serve", "--json"])
            .env("MAGIC_LINK_LISTEN", "127.0.0.1:0")
            .env("MAGIC_LINK_PUBLIC_URL", "http://127.0.0.1:8080")
            .env("MAGIC_LINK_DATABASE_URL", database_url)
            .env("MAGIC_LINK_MASTER_KEY", MASTER_KEY)
            .env("MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE", "1000000")
            .env("MAGIC_LINK_LIMITS__MAILS_PER_CLIENT_MINUTE", "10000000")
            .env("MAGIC_LINK_LIMITS__MAILS_PER_TENANT_DAY", "10000000")
            .env("MAGIC_LINK_LIMITS__MAILS_PER_RECIPIENT_HOUR", "10000000")
            .env("MAGIC_LINK_MAIL__PROVIDER", "mailpit")
            .env("MAGIC_LINK_MAIL__MAILPIT_URL", mailpit_url)
            .envs(environment.iter().copied());
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).expect("the server tells its port");
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(told["port"].as_u64().unwrap()).unwrap()));
        while std::net::TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "the server does not listen");
        }
        let token = told["token"].as_str().unwrap_or_default().to_owned();
        Self { child, address, token, started_in: started.elapsed() }
    }

    pub async fn post(&self, key: &str, path: &str, body: &Value) -> Value {
        let answer = Connection::open(self.address).await.send(&Request::post(key, path, body)).await;
        serde_json::from_str(&answer).unwrap()
    }

    /// Reads an answer of any length, and tells how many bytes it had.
    pub async fn download(&self, key: &str, path: &str) -> u64 {
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.address)).bearer_auth(key);
        let mut answer = request.send().await.unwrap().error_for_status().unwrap();
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await.unwrap() {
            bytes += u64::try_from(chunk.len()).unwrap();
        }
        bytes
    }

    /// CPU time so far, user and system.
    pub fn cpu(&self) -> Duration {
        cpu(&self.child.id().to_string()).unwrap()
    }

    pub fn memory_mib(&self) -> u64 {
        self.status("VmRSS")
    }

    /// The most memory that it ever had.
    pub fn peak_memory_mib(&self) -> u64 {
        self.status("VmHWM")
    }

    fn status(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|one| one.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// CPU time of a process so far, user and system; `None` once it is gone.
fn cpu(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The command's name stands in brackets and may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u32 = [11, 12].iter().map(|field| fields[*field].parse::<u32>().unwrap()).sum();
    Some(TICK * ticks)
}

/// CPU time so far of all processes with such a command line.
pub fn cpu_of(is_meant: impl Fn(&str) -> bool) -> Duration {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let meant = processes.filter(|process| {
        std::fs::read_to_string(format!("/proc/{process}/cmdline")).is_ok_and(|command| is_meant(&command))
    });
    meant.filter_map(|process| cpu(&process)).sum()
}

/// The bare server: what a JSON answer costs at least, and what it costs to verify a signature before it.
pub fn serve_bare() {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let signing = EncodingKey::from_ec_der(pkcs8.as_ref());
    let claims = json!({ "iss": "bench", "aud": "bench", "sub": "emp-1042", "exp": 4_000_000_000_u64, "tenant_id": "acme",
        "act": { "sub": "con_01kaq3v9e8fwmvd2x7n0c5hb3z" }, "sid": "ses_01kaq3v9e8fwmvd2x7n0c5hb2z", "portal": "cloud",
        "client_id": "cli_01kaq3v9e8fwmvd2x7n0c5hb4z", "jti": "ses_01kaq3v9e8fwmvd2x7n0c5hb2z", "access": "full" });
    let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &signing).unwrap();
    let jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256).unwrap();
    actix_web::rt::System::new().block_on(async {
        let hello = || async { actix_web::HttpResponse::Ok().json(json!({ "active": true })) };
        let verify = move |form: web::Form<BTreeMap<String, String>>, key: web::Data<DecodingKey>| async move {
            let mut validation = Validation::new(Algorithm::ES256);
            validation.set_audience(&["bench"]);
            let claims = jsonwebtoken::decode::<Value>(&form["token"], &key, &validation).unwrap().claims;
            actix_web::HttpResponse::Ok().json(claims)
        };
        let key = web::Data::new(DecodingKey::from_jwk(&jwk).unwrap());
        let app = move || {
            let app = actix_web::App::new().app_data(key.clone()).route("/", web::get().to(hello));
            app.route("/v1/introspect", web::post().to(verify))
        };
        let server = actix_web::HttpServer::new(app).bind("127.0.0.1:0").unwrap();
        println!("{}", json!({ "port": server.addrs()[0].port(), "token": token }));
        server.run().await.unwrap();
    });
}

/// The machine, in words.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores,{}; release build.", model.trim_start_matches(['\t', ' ', ':']).replacen("", " ", 1))
}
