"""Two PostgreSQL servers, the second one a synchronous standby of the first: kept by hand, or by Patroni.

Each has an address of its own (127.0.0.11 and 127.0.0.12), so that one can be taken from the network alone.
"""
import glob, json, os, shutil, signal, subprocess, sys, time, urllib.error, urllib.request

import psycopg2

PORT, ETCD, REST = 6201, 6210, 6220
HOSTS = ("127.0.0.11", "127.0.0.12")
BINARIES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
ACCOUNT = "postgres"

SETTINGS = {
    "max_connections": 100, "wal_level": "replica", "max_wal_senders": 8, "wal_keep_size": "64MB", "wal_log_hints": "on",
    "shared_buffers": "64MB", "checkpoint_timeout": "5min", "lc_messages": "C",
    "dynamic_shared_memory_type": "mmap",
    # How a server notices that its standby, or its primary, has gone.
    "wal_sender_timeout": "5s", "wal_receiver_timeout": "5s", "tcp_user_timeout": 5000,
}


def address(host, user="postgres", database="postgres"):
    return f"postgres://{user}@{host}:{PORT}/{database}"


def ask(host, query, database="postgres", write=False, seconds=5):
    """Rows of a query, over a connection of its own; OSError where the server does not answer."""
    try:
        line = psycopg2.connect(address(host, database=database), connect_timeout=2,
                                options=f"-c statement_timeout={seconds}s -c synchronous_commit=local")
        try:
            line.autocommit = True
            cursor = line.cursor()
            cursor.execute(query)
            return cursor.fetchall() if cursor.description else []
        finally:
            line.close()
    except psycopg2.Error as error:
        raise OSError(str(error).strip().split("\n")[0]) from error


def takes_writes(host):
    """Whether a server has accepted a write just now."""
    try:
        ask(host, "INSERT INTO written VALUES (now())", database="beside")
        return True
    except OSError:
        return False


def eventually(what, asked, seconds=60, pause=0.1):
    end = time.monotonic() + seconds
    while True:
        found = asked()
        if found:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"in vain for {seconds} s: {what}")
        time.sleep(pause)


def run(*words, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words[:3]))}: {done.stdout[-500:]} {done.stderr[-1500:]}")
    return done.stdout


def cut_off(host):
    """No packet reaches the server any more, and none leaves it. Nobody is told."""
    for side in ("-s", "-d"):
        run("iptables", "-A", "INPUT", side, host, "-j", "DROP")


def let_in_again():
    run("iptables", "-F", "INPUT")


def family(pid):
    """A process and all that come from it."""
    children = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(stat).read().rsplit(") ", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(stat.split("/")[2]))
        except (OSError, IndexError):
            pass
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def signal_family(pid, what):
    """The parent first, so that it neither starts nor misses any."""
    found = family(pid)
    for one in found + [child for child in family(pid) if child not in found]:
        try:
            os.kill(one, what)
        except ProcessLookupError:
            pass
    return found


def end_family(pid):
    """Kills, and waits for the end."""
    for one in signal_family(pid, signal.SIGKILL):
        eventually(f"process {one} has ended", lambda: not os.path.exists(f"/proc/{one}"))


class ByHand:
    """An operator's two servers: nobody promotes but this program."""

    tool = None

    def __init__(self, folder):
        self.folder, self.primary = folder, HOSTS[0]
        self.data = {host: os.path.join(folder, f"server-{host.split('.')[-1]}") for host in HOSTS}
        run(f"{BINARIES}/initdb", "-D", self.data[self.primary], "-A", "trust", "-U", "postgres", "-E", "UTF8",
            "--locale=C.UTF-8", "--data-checksums", user=ACCOUNT, cwd=folder)
        with open(self.data[self.primary] + "/postgresql.conf", "a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
            conf.write(f"port = {PORT}\nunix_socket_directories = ''\ninclude 'own.conf'\n")
        with open(self.data[self.primary] + "/pg_hba.conf", "a") as conf:
            conf.write("host replication all 127.0.0.0/8 trust\n")
        self.start(self.primary)
        self.add_standby()

    def other(self):
        return next(host for host in HOSTS if host != self.primary)

    def own_settings(self, host, synchronous):
        """Commits wait for the standby, whichever it is, once there is one."""
        with open(self.data[host] + "/own.conf", "w") as conf:
            conf.write(f"listen_addresses = '{host}'\nsynchronous_standby_names = '{'*' if synchronous else ''}'\n")

    def start(self, host):
        self.own_settings(host, synchronous=False)
        os.chmod(self.data[host], 0o700)
        run(f"{BINARIES}/pg_ctl", "-D", self.data[host], "-w", "-t", "60", "-l", f"{self.data[host]}.log", "start",
            user=ACCOUNT, cwd=self.folder, stdin=subprocess.DEVNULL)

    def postmaster(self, host):
        return int(open(self.data[host] + "/postmaster.pid").readline())

    def add_standby(self):
        """Makes the other server a copy of the primary, and lets commits wait for it from then on."""
        standby = self.other()
        shutil.rmtree(self.data[standby], ignore_errors=True)
        run(f"{BINARIES}/pg_basebackup", "-d", address(self.primary), "-D", self.data[standby], "-R", "-c", "fast",
            "-X", "stream", "--no-sync", "--no-manifest", user=ACCOUNT, cwd=self.folder)
        self.start(standby)
        self.own_settings(self.primary, synchronous=True)
        ask(self.primary, "SELECT pg_reload_conf()")
        self.wait_for_standby()

    def wait_for_standby(self):
        query = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"

        def is_there():
            try:
                return ask(self.primary, query)
            except OSError:
                return False
        eventually("the standby replicates synchronously", is_there)

    def fail(self, kind):
        """What happens to the primary."""
        if kind == "stop":
            run(f"{BINARIES}/pg_ctl", "-D", self.data[self.primary], "-w", "-m", "fast", "stop", user=ACCOUNT, cwd=self.folder)
        elif kind == "kill":
            end_family(self.postmaster(self.primary))
        elif kind.startswith("freeze"):
            signal_family(self.postmaster(self.primary), signal.SIGSTOP)
        elif kind == "vanish":
            cut_off(self.primary)

    def fence(self, kind):
        """What hangs may wake up: it is ended, or cut off, before there is another primary."""
        if kind == "freeze, killed":
            end_family(self.postmaster(self.primary))
        elif kind == "freeze, cut off":
            cut_off(self.primary)

    def promote(self):
        """Orders the standby to take over; does not wait for it."""
        self.primary = self.other()
        run(f"{BINARIES}/pg_ctl", "-D", self.data[self.primary], "-W", "promote", user=ACCOUNT, cwd=self.folder)

    def mend(self):
        """The old primary ends, wherever it was, and becomes the standby."""
        old = self.other()
        self.kill(old)
        let_in_again()
        self.add_standby()

    def kill(self, host):
        try:
            end_family(self.postmaster(host))
        except FileNotFoundError:
            pass  # It was stopped in order.

    def end(self):
        for host in HOSTS:
            self.kill(host)


class Alone(ByHand):
    """One server, without a standby."""

    def add_standby(self):
        pass


class Patroni:
    """The same two servers, kept by Patroni with etcd: it is asked to switch over."""

    def __init__(self, folder):
        self.folder, self.primary = folder, HOSTS[0]
        self.tool = f"Patroni {run('patroni', '--version').split()[-1]}, etcd {run('etcd', '--version').split()[2]}"
        self.processes = [self.spawn("etcd", "etcd", "--data-dir", os.path.join(folder, "etcd"),
                                     "--listen-client-urls", f"http://127.0.0.1:{ETCD}", "--advertise-client-urls",
                                     f"http://127.0.0.1:{ETCD}", "--listen-peer-urls", f"http://127.0.0.1:{ETCD + 1}")]
        for host in HOSTS:
            file = os.path.join(folder, f"patroni-{host}.json")
            with open(file, "w") as settings:
                json.dump(self.settings(host), settings, indent=1)
            self.processes.append(self.spawn(f"patroni-{host}", "patroni", file))
            eventually(f"Patroni keeps {host}", lambda host=host: self.state(host) in ("running", "streaming"), 90)
        self.wait_for_standby()

    def spawn(self, name, *words):
        log = open(os.path.join(self.folder, name + ".log"), "ab")
        return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=ACCOUNT, group=ACCOUNT,
                                extra_groups=[], cwd=self.folder)

    def settings(self, host):
        parameters = SETTINGS | {"unix_socket_directories": ""}
        return {  # JSON is YAML, too.
            "scope": "failover", "name": host, "etcd3": {"host": f"127.0.0.1:{ETCD}"},
            "restapi": {"listen": f"{host}:{REST}", "connect_address": f"{host}:{REST}"},
            "bootstrap": {
                "dcs": {"ttl": 20, "loop_wait": 2, "retry_timeout": 5, "synchronous_mode": True,
                        "postgresql": {"use_pg_rewind": True, "parameters": parameters}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"]},
            "postgresql": {
                "listen": f"{host}:{PORT}", "connect_address": f"{host}:{PORT}", "bin_dir": BINARIES,
                "data_dir": os.path.join(self.folder, f"server-{host.split('.')[-1]}"),
                "pgpass": os.path.join(self.folder, f"pgpass-{host}"),
                "authentication": {who: {"username": "postgres", "password": "unused"}
                                   for who in ("superuser", "replication", "rewind")},
                "pg_hba": ["host all all 127.0.0.0/8 trust", "host replication all 127.0.0.0/8 trust"]}}

    def rest(self, host, path, body=None):
        request = urllib.request.Request(f"http://{host}:{REST}{path}", json.dumps(body).encode() if body else None,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def state(self, host):
        try:
            members = json.loads(self.rest(host, "/cluster"))["members"]
            return next(member["state"] for member in members if member["name"] == host)
        except (OSError, ValueError, KeyError, StopIteration):
            return None

    other = ByHand.other

    def wait_for_standby(self):
        def is_there():
            try:
                members = json.loads(self.rest(self.primary, "/cluster"))["members"]
                roles = {member["name"]: member["role"] for member in members}
                return roles.get(self.other()) == "sync_standby" and ask(
                    self.primary, "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'")
            except (OSError, ValueError, KeyError):
                return False
        eventually("the standby replicates synchronously", is_there, 120)

    def fail(self, kind):
        """Patroni stops the one and promotes the other, in order."""
        order = {"leader": self.primary, "candidate": self.other()}
        self.primary = self.other()
        code = ("import json, sys, urllib.request as u; "
                "print(u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), "
                "{'Content-Type': 'application/json'}), timeout=60).read().decode())")
        # Beside us, because it answers when all is over.
        self.asked = subprocess.Popen([sys.executable, "-c", code, f"http://{order['leader']}:{REST}/switchover", json.dumps(order)],
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def fence(self, kind):
        pass

    def promote(self):
        pass

    def mend(self):
        said = self.asked.communicate(timeout=60)[0]
        if "Successfully" not in said:
            raise RuntimeError(f"Patroni: {said[-500:]}")
        self.wait_for_standby()

    def end(self):
        found = [pid for process in self.processes for pid in family(process.pid)]
        for pid in found:
            signal_family(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        for file in glob.glob(self.folder + "/server-*/postmaster.pid"):
            end_family(int(open(file).readline()))
