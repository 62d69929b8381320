//! A PostgreSQL server of one's own with a standby that lags for ever behind it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::databases::{binaries, unprivileged};

const PRIMARY: u16 = 5501;
const STANDBY: u16 = 5502;

/// The two servers; they end with the standard input of their shell.
pub struct Replicated {
    folder: String,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    _shell: Child,
}

impl Replicated {
    /// Starts the primary. `None` where there is no PostgreSQL and nobody insists.
    pub fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
            return None;
        };
        let script = r#"
            set -eu
            PATH="$1:$PATH"
            folder=$(mktemp -d /tmp/magic-link-pg.XXXXXX)
            control() { pg_ctl -D "$folder/$1" -w -l "$folder/$1.log" "$2" ${3:+-m "$3"} >/dev/null 2>&1; }
            over() { control standby stop immediate || true; control primary stop immediate || true; rm -rf "$folder"; }
            trap over EXIT
            settings() { printf '%s\n' "port = $2" "unix_socket_directories = '$folder'" "listen_addresses = ''" \
                "fsync = off" "log_min_messages = fatal" >> "$folder/$1/postgresql.conf"; }
            initdb -D "$folder/primary" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
            settings primary "$2"
            control primary start
            echo "$folder"
            while read -r order; do
                case "$order" in
                    stop) control primary stop immediate ;;
                    start) control primary start ;;
                    standby)
                        pg_basebackup -h "$folder" -p "$2" -U postgres -D "$folder/standby" -R -c fast
                        settings standby "$3"
                        # What the primary does from now on is not seen here.
                        echo "recovery_min_apply_delay = '1d'" >> "$folder/standby/postgresql.conf"
                        control standby start ;;
                    lagging)
                        pg_basebackup -h "$folder" -p "$2" -U postgres -D "$folder/standby" -c fast
                        settings standby "$3"
                        # It never hears of what the primary does from now on.
                        touch "$folder/standby/standby.signal"
                        control standby start ;;
                    promote) control standby promote ;;
                esac
                echo done
            done
        "#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(binaries).args([PRIMARY.to_string(), STANDBY.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/tmp");
        if let Some((uid, gid)) = unprivileged() {
            command.uid(uid).gid(gid);
        }
        let mut shell = command.spawn().expect("a shell starts");
        let orders = shell.stdin.take().expect("standard input is piped");
        let mut answers = BufReader::new(shell.stdout.take().expect("standard output is piped"));
        let mut folder = String::new();
        answers.read_line(&mut folder).expect("the folder is printed");
        let folder = folder.trim().to_owned();
        assert!(!folder.is_empty(), "PostgreSQL did not start");
        Some(Self { folder, orders, answers, _shell: shell })
    }

    /// `stop`, `start` (the primary), `standby` (a copy of the primary as it is now), `lagging` (one that stays so even when
    /// it is promoted) or `promote`.
    pub fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the shell reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the shell answers");
        assert_eq!(answer.trim(), "done", "{order}");
    }

    /// The address of the primary alone.
    pub fn primary(&self) -> String {
        format!("postgres://postgres@/postgres?host={}&port={PRIMARY}", self.folder)
    }

    /// The address of the standby alone.
    pub fn standby(&self) -> String {
        format!("postgres://postgres@/postgres?host={}&port={STANDBY}", self.folder)
    }

    /// The address of both, the standby first.
    pub fn both(&self) -> String {
        let folder = &self.folder;
        format!("postgres://postgres@/postgres?host={folder},{folder}&port={STANDBY},{PRIMARY}")
    }
}
