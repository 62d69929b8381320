"""Two copies of the service behind a balancer: who calls is served by a copy that is ready, or by the other one."""
import collections, contextlib, http.client, json, os, random, subprocess, threading, time

import servers

FIRST_PORT, SINK, HOOKS = 6230, 6240, 6241
# How long a call whose outcome is unknown is repeated.
PATIENCE = 30
# A balancer asks so often whether a copy is ready; a copy that stops stays for longer than that, see `LEAVES`.
ASKED, LEAVES = 0.25, 2
# Answers after which the other copy is asked, with the same Idempotency-Key.
AGAIN = (0, 500, 502, 503, 504)
# A log in which a newer version tells of what an older one knows nothing of.
NEWER = "/v1/audit-events?tenant_id=_system"


class Copy:
    """A place that one process after the other serves, each of one of the programs."""

    def __init__(self, number, env, folder):
        self.number, self.port, self.env, self.folder = number, FIRST_PORT + number, env, folder
        self.log = os.path.join(folder, f"copy-{number}.log")
        self.process = self.program = None
        self.is_ready, self.lines, self.processes = False, threading.local(), 0

    def start(self, program):
        """Seconds until it was ready."""
        began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [program.path, "serve"], env=self.env | {"MAGIC_LINK_LISTEN": f"127.0.0.1:{self.port}"},
                cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.program = program

        def is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{program} ended as it started: {open(self.log).read()[-1500:]}")
            return self.is_ready
        servers.eventually(f"{program} is ready", is_ready, 90, 0.05)
        return time.monotonic() - began

    def stop(self):
        """SIGTERM; seconds until it had ended by itself."""
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(60)
        # A balancer keeps no connection to a process that has gone.
        self.processes += 1
        if code != 0:
            raise RuntimeError(f"{self.program} ended with {code}")
        return time.monotonic() - began

    def call(self, method, path, body=None, headers=None):
        """Status, body and headers; status 0, and the failure for a body, where there was no answer."""
        line, process = getattr(self.lines, "line", (None, 0))
        if line is not None and process != self.processes:
            line.close()
        if line is None or process != self.processes:
            line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=25)
            self.lines.line = line, self.processes
        try:
            line.request(method, path, body, headers or {})
            answer = line.getresponse()
            text = answer.read()
            if answer.will_close:
                line.close()
            return answer.status, text, answer.headers
        except (OSError, http.client.HTTPException) as error:
            line.close()
            self.lines.line = None, 0
            return 0, type(error).__name__, {}


class Balancer:
    """Sends each call to a copy that is ready, the next try to the other one, and counts."""

    def __init__(self, copies):
        self.copies, self.lock, self.over = copies, threading.Lock(), threading.Event()
        self.phase, self.phases = None, []
        # Whether it sends calls to either copy, ready or not.
        self.is_blind = False
        # Calls in which no try was a 2xx, and whatever else nobody should see.
        self.unhealed, self.refused, self.stale, self.wrong = [], [], [], []
        for copy in copies:
            threading.Thread(target=self.ask, args=(copy,), daemon=True).start()

    def ask(self, copy):
        while not self.over.wait(ASKED):
            copy.is_ready = copy.process is not None and copy.call("GET", "/readyz")[0] == 200

    @contextlib.contextmanager
    def during(self, name):
        """What is counted until the end belongs to this phase. Phases follow each other."""
        phase = {"name": name, "began": time.monotonic(), "2xx": [], "writes": [], "retried": collections.Counter(),
                 "calls": 0, "retried_calls": 0, "slowest": 0.0, "unread": 0}
        with self.lock:
            self.phase = phase
            self.phases.append(phase)
        yield phase
        phase["ended"] = time.monotonic()

    def call(self, method, path, body=None, headers=None, write=False, first=None):
        """The answer to a call, repeated until it is known, and when the try began that it is the answer to.

        `first` is the copy to be asked first, if it is ready. None where the call was refused, or nobody answered.
        """
        began, tries, copy = time.monotonic(), 0, None
        while True:
            ready = [one for one in self.copies if (one.is_ready or self.is_blind) and one is not copy] or list(self.copies)
            copy = first if first in ready and not tries else random.choice(ready)
            asked = time.monotonic()
            status, text, answered = copy.call(method, path, body, headers)
            now, phase = time.monotonic(), self.phase
            try:
                answer = json.loads(text)
            except ValueError:
                answer = {"text": text}
            if 200 <= status < 300:
                with self.lock:
                    phase["calls"] += 1
                    phase["retried_calls"] += bool(tries)
                    phase["2xx"].append(now)
                    phase["slowest"] = max(phase["slowest"], now - began)
                    if write:
                        phase["writes"].append(now)
                return Answer(status, answer, answered, copy, asked, now)
            code = text if status == 0 else f"{status} {answer.get('code')}"
            about = f"{method} {path.split('?')[0][:40]}: {code} by {copy.program}, {phase['name']}"
            if status not in AGAIN and answer.get("code") != "idempotency_key_in_flight":
                with self.lock:
                    self.refused.append(about + f" {answer.get('detail', '')}"[:200])
                return None
            if path.startswith(NEWER) and code == "500 internal" and not copy.program.promises("newer events"):
                with self.lock:
                    phase["unread"] += 1
                return None
            tries += 1
            with self.lock:
                phase["retried"][code] += 1
            if now > began + PATIENCE:
                with self.lock:
                    self.unhealed.append(about)
                return None
            time.sleep(min(0.02 * 2 ** tries, 0.5))


class Answer:
    def __init__(self, status, body, headers, copy, asked, at):
        self.status, self.body, self.headers, self.copy, self.asked, self.at = status, body, headers, copy, asked, at

    def __getitem__(self, name):
        return self.body[name]
