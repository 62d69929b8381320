"""The life of a link, seen by one portal: `life.py --binary SERVICE --portal COMMAND [--without webhook,export,late,claims,unix,long,slow] [--offline COMMAND] [--json FILE]`.

Starts a private service and the portal, and goes through the steps below as its visitor. Exit 1 if one fails.
"""
import argparse, csv, datetime, ipaddress, json, re, secrets, socket, subprocess, sys, tempfile, threading, time, traceback, urllib.parse
from concurrent.futures import ThreadPoolExecutor, wait

from world import Begun, Browser, Portal, Service, Wire, eventually, free_port, request, signed

ACCOUNT, SALARY = "0072 0167 3390", "50000"


class Round:
    """One service and one portal beside it."""

    def __init__(self, options, wired):
        port = free_port()
        self.command = options.portal
        self.service = Service(options.binary, port)
        self.service.start()
        self.service.keep_values("acme", "ACME")
        self.wire = Wire(self.service) if wired else None
        hook = {"url": f"http://127.0.0.1:{port}/webhooks/magic-link"}
        self.endpoint = self.service.call("POST", "/v1/webhook-endpoints", hook)
        self.secret = self.endpoint["secret"]
        try:
            self.portal = Portal(options.portal, port, (self.wire or self.service).base, self.service.key, self.secret)
        except BaseException:
            self.service.stop()
            raise

    def end(self):
        self.portal.stop()
        if self.wire:
            self.wire.shutdown()
        self.service.stop()

    def beside(self, at, listen=None, host="127.0.0.1", public_url=None):
        """Another copy of the portal, which listens elsewhere: a port, or the path of a Unix socket. It gets no messages."""
        return Portal(self.command, at, (self.wire or self.service).base, self.service.key, self.secret, listen, host, public_url)

    def visit(self, portal=None, **changes):
        """Somebody inside, with a fresh link."""
        link, browser = self.service.issue(**changes), Browser(portal or self.portal)
        home = browser.arrive(self.service.click(link).removeprefix(self.portal.base))
        return link, browser, home

    def revoke(self, link):
        self.service.call("POST", f"/v1/magic-links/{link['id']}/revoke", {"reason": "The laptop was stolen"})

    def save(self, browser, home, salary, account=ACCOUNT, site="same-origin"):
        return browser.post(home + "employees/emp-9", site, bank_account=account, salary=str(salary))

    def salary(self, browser, home):
        page = browser.go(home + "employees/emp-9")
        assert page.status == 200, page
        return page.text.split('name="salary" value="')[1].split('"')[0]

    def complete(self, link, cause):
        """The service has the closing count, and nothing is missing."""
        def closed():
            session = self.service.session(link)
            return session if session["state"] == "ended" and self.closings(link) else None
        session = eventually("the closing count", closed)
        assert (session["end_cause"], session["audit_state"]) == (cause, "complete"), session
        assert self.closings(link)[-1]["data"]["sources"] == {"portal": len(self.service.reported(link))}, self.closings(link)

    def closings(self, link):
        events = self.service.call("GET", f"/v1/audit-events?magic_link_id={link['id']}&type=session.closed")
        return events["items"]


def refused(answer, status=403):
    assert answer.status == status, answer
    assert "Nikhil" not in answer.text and "acting-as" not in answer.text, "a refusal shows data"
    return answer


# --- straight at the service -------------------------------------------------------------------------------------------

def nobody_gets_in_without_a_session(r):
    browser = Browser(r.portal)
    for target in ("/acme/cloud/", "/acme/cloud/employees/emp-9", "/globex/cloud/"):
        refused(browser.go(target))
    browser.cookies[("portal_session", "/acme/cloud/")] = secrets.token_hex(32)
    refused(browser.go("/acme/cloud/employees/emp-9"))
    refused(browser.go("/acme/cloud/callback?code=eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"), 400)
    assert browser.go("/acme/cloud/callback").status in (400, 403)


def every_tenant_of_the_service_has_its_pages(r):
    link, browser, home = r.visit(tenant_id="acme.co-op_1")
    assert home == "/acme.co-op_1/cloud/" and browser.go(home).status == 200


def the_callback_redeems_once_and_hides_the_code(r):
    link, browser = r.service.issue(), Browser(r.portal)
    address = r.service.click(link)
    assert browser.go(address, "HEAD").status >= 400 and r.service.sessions(link) == [], "HEAD redeemed"
    answer = browser.go(address, site="cross-site")
    assert answer.status == 303 and "code" not in answer.location, answer
    assert "no-store" in answer.header("cache-control") and answer.header("referrer-policy") == "no-referrer", answer.headers
    assert r.service.sessions(link)[0]["state"] == "active"
    assert len(browser.set) == 1, browser.set
    (name, (value, flags)), = browser.set.items()
    assert "httponly" in flags and flags["samesite"].lower() == "lax" and flags["path"] == "/acme/cloud/" and len(value) >= 32, flags
    refused(browser.go("/acme/cloud/employees/emp-9"))
    spent = Browser(r.portal).go(address)
    assert spent.status in (409, 410) and "link_spent" in spent.text, spent


def a_malformed_request_gets_a_plain_answer(r):
    """No stack, no path of a file, and the code stays where it is, however its address is spelled."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    arrival, code = "/acme/cloud/arrival", "/cloud/callback?code="
    for method, target, body, headers in [
            ("GET", "/%E0%A4%A/cloud/", None, {}), ("GET", f"/%FF{code}x", None, {}), ("GET", f"/acme{code}a&code=b", None, {}),
            ("GET", f"/acme{code}{'x' * 8000}", None, {}), ("POST", arrival, "answer=" + "y" * 20_000, form),
            ("POST", arrival, "answer=yes", form | {"Content-Type": form["Content-Type"] + "; charset=utf-16"}),
            ("POST", arrival, "no gzip", form | {"Content-Encoding": "gzip"}), ("POST", arrival, "no br", form | {"Content-Encoding": "br"})]:
        status, got, text = request(r.portal.port, method, target, body, headers)
        said = f"{method} {target[:60]} {headers}: {status} {text[:600]}"
        assert 400 <= status < 500, said
        assert not re.search(r"node_modules|Traceback|Exception|\bat [\w.$<>/]+ ?\(|/magic-link", text), said
        # A server that reads no further sends no headers of the portal's.
        assert code not in target or got.get("Referrer-Policy") in ("no-referrer", None), said
    address = r.service.click(r.service.issue())
    for spelled in ("callback/?", "Callback?", "%63allback?"):
        browser = Browser(r.portal)
        answer = browser.go(address.replace("callback?", spelled), site="cross-site")
        reached = "portal_arrival" in browser.set or "link_spent" in answer.text
        assert not reached or answer.header("referrer-policy") == "no-referrer", f"{spelled}: {answer.headers}"


def the_visitor_says_who_they_are(r):
    link, browser = r.service.issue(), Browser(r.portal)
    planted = "f" * 64
    browser.cookies[("portal_session", "/acme/cloud/")] = planted
    page = browser.go(browser.go(r.service.click(link)).location)
    assert page.page == "arrival" and "Ravi Kumar" in page.text and link["profile"]["name"] in page.text, page
    question = browser.question(page)
    for site in ("cross-site", "same-site", "none"):
        refused(browser.post("/acme/cloud/arrival", site, question=question, answer="yes"))
    refused(browser.post("/acme/cloud/arrival", question="0" * len(question), answer="yes"))
    refused(Browser(r.portal).post("/acme/cloud/arrival", question=question, answer="yes"))
    done = browser.post("/acme/cloud/arrival", question=question, answer="yes")
    value, flags = browser.set["portal_session"]
    assert done.status == 303 and value != planted and len(value) >= 32, done
    assert "httponly" in flags and flags["samesite"].lower() == "lax" and flags["path"] == "/acme/cloud/", flags
    assert browser.go("/acme/cloud/").status == 200
    other = Browser(r.portal)
    other.cookies[("portal_session", "/globex/cloud/")] = value
    refused(other.go("/globex/cloud/employees/emp-9"))
    # A sister host has planted somebody else's session beside the visitor's own.
    planted = r.visit()[1].cookies[("portal_session", "/acme/cloud/")]
    for own, theirs in ((value, planted), (planted, value)):
        browser.cookies = {("portal_session", "/acme/cloud/"): own, ("portal_session", "/"): theirs}
        for target in ("/acme/cloud/", "/acme/cloud/employees/emp-9"):
            refused(browser.go(target))
        refused(browser.post("/acme/cloud/done"))
    browser.cookies = {("portal_session", "/acme/cloud/"): value}
    assert browser.go("/acme/cloud/").status == 200


def an_https_address_makes_cookies_secure(r):
    """And a form of no stated site must come from that address, scheme and port included."""
    portal = r.beside(free_port(), public_url="https://portal.example")
    try:
        browser = Browser(portal)
        callback = browser.go(r.service.click(r.service.issue()).removeprefix(r.portal.base), site="cross-site")
        question = browser.question(browser.go(callback.location))
        sent = {"Host": "portal.example", "Content-Type": "application/x-www-form-urlencoded",
                "Cookie": "; ".join(f"{name}={value}" for (name, _), value in browser.cookies.items())}

        def answered(origin):
            form = urllib.parse.urlencode({"question": question, "answer": "yes"})
            status, headers, _ = request(portal.port, "POST", "/acme/cloud/arrival", form, sent | {"Origin": origin})
            return status, [line.lower() for line in headers.get_all("Set-Cookie") or []]
        for origin in ("http://portal.example", "https://portal.example:8443", "https://portal.example.evil.example", "null"):
            assert answered(origin)[0] == 403, origin
        status, set_cookies = answered("https://portal.example")
        assert status == 303 and set_cookies, status
        set_cookies += [line.lower() for line in callback.headers.get_all("Set-Cookie")]
        assert all("; secure" in line for line in set_cookies), set_cookies
    finally:
        portal.stop()


def a_code_of_somebody_else_changes_nothing(r):
    """Login CSRF: the browser of a visitor is sent to the callback with the code of another link."""
    link, browser, home = r.visit()
    theirs = r.service.issue(consultant_id=r.service.stranger)
    asked = browser.go(browser.go(r.service.click(theirs), site="cross-site").location)
    assert "Mallory" in asked.text and "Ravi" in asked.text, "the page must name both"
    assert "Ravi Kumar" in browser.go(home).text and "Mallory" not in browser.go(home).text
    said = browser.post(home + "arrival", question=browser.question(asked), answer="no")
    assert said.status == 200, said
    assert r.service.session(theirs)["state"] == "ended" and r.service.session(link)["state"] == "active"
    assert browser.go(home).status == 200


def the_banner_says_who_acts_as_whom_until_when(r):
    link, browser, home = r.visit(access="read_only", modules=["employees"], forbidden=["bank_account"])
    text = browser.go(home).text
    banner = text.split('id="acting-as"')[1].split("</section>")[0]
    until = r.service.session(link)["expires_at"][:16]
    for fact in ("Ravi Kumar", link["profile"]["name"], until, "recorded", 'id="done"'):
        assert fact in banner, f"{fact!r} is not in the banner: {banner}"
    for fact in ("read only", "employees", "bank account"):
        assert fact in banner.lower().replace("_", " "), f"{fact!r} is not in the banner: {banner}"
    answer = browser.go(home)
    assert "no-store" in answer.header("cache-control") and "frame-ancestors 'none'" in answer.header("content-security-policy")


def what_the_access_leaves_out_is_refused_in_one_place(r):
    link, browser, home = r.visit(modules=["employees"], forbidden=["bank_account", "export"])
    refused(browser.go(home + "leave-policy"))
    refused(r.save(browser, home, SALARY, account="9999 9999"))
    if "export" not in r.without:
        refused(browser.go(home + "employees.csv"))
    assert r.service.reported(link) == [], "what is refused is not reported"
    assert r.save(browser, home, 51000).status == 303
    assert r.salary(browser, home) == "51000"
    assert r.save(browser, home, SALARY).status == 303
    if "export" not in r.without:
        # An export has two words: that of its kind, and that of what it takes along.
        link, browser, home = r.visit(forbidden=["bank_account"])
        refused(browser.go(home + "bank-accounts.csv"))
        assert r.service.reported(link) == [], "what is refused is not reported"
        assert browser.go(home + "employees.csv").status == 200
        link, browser, home = r.visit(forbidden=["export"])
        refused(browser.go(home + "bank-accounts.csv"))
        link, browser, home = r.visit()
        assert ACCOUNT in browser.go(home + "bank-accounts.csv").text
        assert [(act["type"], act["category"]) for act in r.service.reported(link)] == [("data.exported", "bank_account")]
    link, browser, home = r.visit(access="read_only")
    refused(r.save(browser, home, 52000))
    assert r.salary(browser, home) == SALARY
    assert [act["type"] for act in r.service.reported(link)] == ["data.viewed"]


def acts_are_numbered_in_order_however_many_come_at_once(r):
    link, browser, home = r.visit()
    refused(r.save(browser, home, 50500, site="cross-site"))
    assert r.save(browser, home, 51000).status == 303
    many = [threading.Thread(target=browser.go, args=(home + "employees/emp-9",)) for _ in range(12)]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert r.save(browser, home, SALARY).status == 303
    acts = r.service.reported(link)
    assert [act["seq"] for act in acts] == list(range(1, 15)), [act["seq"] for act in acts]
    assert acts[0]["changes"] == [{"field": "salary", "before": SALARY, "after": "51000"}], acts[0]
    assert acts[-1]["changes"] == [{"field": "salary", "before": "51000", "after": SALARY}], acts[-1]
    assert all(act["principal_id"] == "emp-9" for act in acts)


def i_am_done_closes_the_record(r):
    link, browser, home = r.visit()
    r.salary(browser, home)
    refused(browser.post(home + "done", site="cross-site"))
    assert browser.go(home).status == 200
    value = browser.cookies[("portal_session", home)]
    answer = browser.post(home + "done")
    assert answer.status == 200 and answer.page == "goodbye", answer
    assert ("portal_session", home) not in browser.cookies
    browser.cookies[("portal_session", home)] = value
    refused(browser.go(home))
    r.complete(link, "done")


def a_revocation_is_seen_by_the_next_request(r):
    link, browser, home = r.visit()
    r.salary(browser, home)
    r.revoke(link)
    refused(browser.go(home + "employees/emp-9"))
    r.complete(link, "revoked")


def a_form_that_ends_after_the_access_changes_nothing(r):
    """However long before it began. At a copy of the portal that gets no messages."""
    portal = r.beside(free_port())
    try:
        for framing in ("length", "chunks"):
            link, browser = r.service.issue(), Browser(portal)
            home = browser.arrive(r.service.click(link).removeprefix(r.portal.base))
            target, form = home + "employees/emp-9", f"salary=77000&bank_account={ACCOUNT.replace(' ', '+')}"
            begun = Begun(portal.port, target, browser.headers(target), len(form) if framing == "length" else None)
            begun.send(form[:9])
            time.sleep(0.5)     # whoever judges by the head has done so
            r.revoke(link)
            begun.send(form[9:], last=True)
            assert begun.status() == 403, framing
            assert r.service.reported(link) == []
        browser = Browser(portal)
        home = browser.arrive(r.service.click(r.service.issue()).removeprefix(r.portal.base))
        assert r.salary(browser, home) == SALARY
    finally:
        portal.stop()


def what_nobody_asks_for_is_not_done(r):
    """A HEAD, what a browser fetches ahead, and an export that another site starts."""
    callback, browser = r.service.click(r.service.issue()), Browser(r.portal)
    assert browser.go(callback, Sec_Purpose="prefetch").status == 503 and not browser.set
    assert browser.go(callback, site="cross-site").status == 303, "the code is spent"
    link, browser, home = r.visit()
    exports = [] if "export" in r.without else [home + "employees.csv", home + "bank-accounts.csv"]
    for target in (home + "employees/emp-9", *exports):
        assert browser.go(target, "HEAD").status == 405, target
        for ahead in ({"Sec_Purpose": "prefetch"}, {"Sec_Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}):
            refused(browser.go(target, **ahead), 503)
    for target in exports:
        for site in ("cross-site", "same-site"):
            refused(browser.go(target, site=site))
        refused(browser.go(target, site="", Origin="https://evil.example"))
    assert r.service.reported(link) == []
    for target in exports:
        for site in ("same-origin", "none", ""):
            assert browser.go(target, site=site).status == 200, f"{target} {site}"
    # What is looked at may be linked to from anywhere.
    assert browser.go(home + "employees/emp-9", site="cross-site").status == 200
    assert len(r.service.reported(link)) == 3 * len(exports) + 1


def an_export_holds_what_is_so_and_nothing_else(r):
    """Values that visitors type are no rows of their own, and no formulas."""
    link, browser, home = r.visit()
    for account in (ACCOUNT + "\nemp-10,9999", "\r\nemp-10", "a\tb", "a\x00b", "a\x7fb", "a\u2028b"):
        answer = r.save(browser, home, SALARY, account=account)
        assert 400 <= answer.status < 500, f"{account!r}: {answer}"
    assert all(act["type"] == "data.viewed" for act in r.service.reported(link)), "what is refused is not reported"
    if "export" in r.without:
        return
    for account, cell in [('=HYPERLINK("http://evil")', '\'=HYPERLINK("http://evil")'), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("＝1", "'＝1"),
                          ("1;=2", "1;'=2"), ('a,b "c"', 'a,b "c"'), ("0072-0167", "0072-0167")]:
        assert r.save(browser, home, SALARY, account=account).status == 303
        text = browser.go(home + "bank-accounts.csv").text
        assert list(csv.reader(text.splitlines(), strict=True)) == [["emp-9", cell]], text
    assert browser.go(home + "employees.csv").status == 200
    exported = [act for act in r.service.reported(link) if act["type"] == "data.exported"]
    assert len(exported) == 9 and all(act.get("principal_id") == "emp-9" for act in exported), "everybody on the list is named"
    assert r.save(browser, home, SALARY).status == 303


def a_body_is_read_so_far_and_no_further(r):
    """The answer to what is too large does not wait for the rest of it, but where the server reads to the end."""
    for target in ("/acme/cloud/arrival", "/webhooks/magic-link"):
        if "webhook" in r.without and "webhook" in target:
            continue
        begun = Begun(r.portal.port, target, {"Sec-Fetch-Site": "same-origin"}, 100_000 if "slow" in r.without else 20_000_000)
        begun.send("a" * 100_000)
        assert begun.status() in (400, 413), target


def a_body_that_does_not_come_is_not_waited_for(r):
    if "slow" in r.without:
        return "not offered"
    link, browser, home = r.visit()
    target = home + "employees/emp-9"
    begun = Begun(r.portal.port, target, browser.headers(target), 100)
    begun.send("salary=")
    assert begun.status() in (400, 408)


def what_is_no_form_changes_nothing(r):
    """And holds up nothing that comes after it."""
    link, browser, home = r.visit()
    target, fields = home + "employees/emp-9", {"bank_account": ACCOUNT, "salary": "\\ud800"}
    parts = "".join(f'--xXx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()) + "--xXx--\r\n"
    # One character set of Python's makes a lone surrogate of it, which cannot be sent on.
    for kind, body in [("application/x-www-form-urlencoded", "salary=1"), ("application/x-www-form-urlencoded", ""), ("text/plain", "salary=1"),
                       ("application/json", json.dumps({"bank_account": ACCOUNT, "salary": 1})), (None, "salary=1"),
                       ("multipart/form-data; charset=unicode_escape; boundary=xXx", parts)]:
        headers = browser.headers(target) | ({"Content-Type": kind} if kind else {})
        status, _, text = request(r.portal.port, "POST", target, body, headers)
        assert 400 <= status < 500 or "multipart" in str(kind) and status == 303, f"{kind}: {status} {text[:300]}"
        assert r.save(browser, home, SALARY).status == 303, kind
        assert r.salary(browser, home) == SALARY, kind
    assert not re.search(r"Traceback|Exception\b.*\n\s+at |\n\s+at [\w.$<>/]+", open(r.portal.log.name).read()), "a stack in the log"
    assert browser.post(home + "done").page == "goodbye"
    r.complete(link, "done")


def a_link_of_another_tenant_opens_nothing(r):
    link, browser = r.service.issue(tenant_id="globex"), Browser(r.portal)
    answer = browser.go(r.service.click(link).replace("/globex/", "/acme/"))
    assert answer.status >= 400 and not browser.cookies, answer
    eventually("it is ended", lambda: r.service.session(link)["state"] == "ended")


def messages_are_checked_and_ends_count_however_late(r):
    if "webhook" in r.without:
        return "not offered"
    link, browser, home = r.visit()
    session = r.service.session(link)

    def message(kind, sequence):
        ids = {"magic_link_id": link["id"], "session_id": session["id"], "tenant_id": "acme", "portal": "cloud"}
        return json.dumps({"specversion": "1.0", "id": "evt_01kaq3v9e8fwmvd2x7n0c5hb5z", "source": r.service.base, "type": kind,
                           "subject": session["id"], "sequence": sequence, "data": ids | {"actor_type": "system"}})

    def post(body, headers):
        return request(r.portal.port, "POST", "/webhooks/magic-link", body, headers)[0]
    ended, now = message("session.ended", "9" * 18 + "5"), int(time.time())
    other = "whsec_" + "A" * 43 + "="
    good = signed(r.secret, ended)
    forged = {
        "of another secret": signed(r.secret, ended, key=other), "of another body": signed(r.secret, ended + " "),
        "six minutes old": signed(r.secret, ended, at=now - 360), "from the future": signed(r.secret, ended, at=now + 360),
        "without a signature": {**good, "webhook-signature": ""}, "of another version": {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
        "with another id": {**good, "webhook-id": "whm_other"}, "without headers": {},
        "with an odd time": {**good, "webhook-timestamp": "soon"}, "with an odd signature": {**good, "webhook-signature": "v1,é v1 ,"}}
    for what, headers in forged.items():
        headers = {name: value.encode("utf-8") for name, value in headers.items()}
        status = post(ended, headers)
        assert status in (400, 401, 403), f"a message {what}: {status}"
    assert browser.go(home).status == 200, "a forged message ended a session"
    newest = message("session.opened", "9" * 19)
    two = signed(r.secret, newest)
    two["webhook-signature"] = "v1,AAAA " + two["webhook-signature"]
    assert post(newest, two) in range(200, 300), "one of two signatures fits"
    # It failed once, and comes after one about the same link that was sent later.
    assert post(ended, good) in range(200, 300)
    refused(browser.go(home))
    eventually("the count of what ended first is sent", lambda: r.closings(link))
    assert post(ended, good) in range(200, 300), "a repeat is accepted"
    link, browser, home = r.visit()
    session = r.service.session(link)
    ended = message("session.ended", "9" * 18 + "5")
    assert post(ended, signed(r.secret, ended)) in range(200, 300)
    refused(browser.go(home))
    eventually("its count is sent", lambda: r.closings(link))
    # And what the service itself sends is taken, a test among it.
    r.service.call("POST", f"/v1/webhook-endpoints/{r.endpoint['id']}/test", status=(200, 201, 202))
    def delivered():
        found = r.service.call("GET", f"/v1/webhook-endpoints/{r.endpoint['id']}/deliveries?page_size=200")["items"]
        return found if found and all(one["state"] != "queued" for one in found) else None
    found = eventually("all messages are delivered", delivered)
    assert {one["state"] for one in found} == {"delivered"}, found


def the_visitors_address_is_that_of_the_connection(r):
    """Of IPv6, of IPv4 at a socket for both, and of a connection that has none."""
    if not socket.has_ipv6:
        return "no IPv6"

    def recorded(portal, enter):
        link = r.service.issue()
        status = enter(portal, r.service.click(link).removeprefix(r.portal.base))
        assert status == 303, f"{status} {open(portal.log.name).read()[-1500:]}"
        # However it is spelled.
        address = r.service.session(link)["visitor"].get("address")
        return ipaddress.ip_address(address) if address else None
    port = free_port()
    both = r.beside(port, f"[::]:{port}", "::1")
    try:
        assert recorded(both, lambda _, target: request(port, "GET", target, host="::1")[0]) == ipaddress.ip_address("::1")
        try:
            request(port, "GET", "/acme/cloud/")
        except OSError:
            pass    # its socket takes no IPv4
        else:
            assert recorded(both, lambda _, target: request(port, "GET", target)[0]) == ipaddress.ip_address("127.0.0.1")
    finally:
        both.stop()
    if "unix" in r.without:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/portal"
        without = r.beside(path, f"unix:{path}")
        try:
            assert recorded(without, lambda _, target: request(path, "GET", target)[0]) is None
        finally:
            without.stop()


def a_token_is_verified_without_asking(r):
    """For back ends behind the portal: `--offline COMMAND` takes a token on each line and says yes or no."""
    if not r.offline:
        return "not offered"
    link = r.service.issue()
    code = r.service.click(link).split("code=")[1]
    token = r.service.call("POST", "/v1/sessions", {"token": code})["access_token"]

    def say(*tokens, issuer=r.service.base, audience=r.service.audience):
        command = f"{r.offline} {issuer} {audience}"
        return subprocess.run(command, shell=True, input="\n".join(tokens) + "\n", capture_output=True, text=True, check=True).stdout.split()
    head, claims, signature = token.split(".")
    assert say(token, r.service.token(link), code, f"{head}.{claims}.{'A' * len(signature)}", "no token") == ["yes", "no", "no", "no", "no"]
    assert say(token, audience="https://portal.example/ess") == ["no"]
    r.revoke(link)
    eventually("the list says so", lambda: say(token) == ["no"])


def without_the_service_nobody_is_let_in(r):
    link, browser, home = r.visit()
    r.salary(browser, home)
    _, leaver, _ = leaving = r.visit()
    r.service.stop()
    for target in (home, home + "employees/emp-9"):
        refused(browser.go(target), 503)
    refused(r.save(browser, home, 77000), 503)
    refused(Browser(r.portal).go("/acme/cloud/callback?code=eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"), 503)
    goodbye = leaver.post(home + "done")
    assert goodbye.status == 200 and goodbye.page == "goodbye", goodbye
    r.service.start()
    assert r.salary(browser, home) == SALARY
    refused(leaver.go(home))
    if "late" not in r.without:
        r.complete(leaving[0], "done")


# --- through a wire that fails -----------------------------------------------------------------------------------------

def a_lost_answer_to_the_code_is_asked_for_again(r):
    link, browser = r.service.issue(), Browser(r.portal)
    r.wire.fail("/v1/sessions", "lose")
    assert browser.go(r.service.click(link)).status == 303
    first, second = r.wire.calls("/v1/sessions")[-2:]
    keys = [{name.lower(): value for name, value in call[1].items()}["idempotency-key"] for call in (first, second)]
    assert keys[0] == keys[1] and first[2] == second[2], keys
    assert len(r.service.sessions(link)) == 1
    body = json.loads(first[2])
    assert body["visitor"] == {"address": "127.0.0.1", "user_agent": "Guards/1.0"}, body["visitor"]


def a_lost_answer_to_a_report_is_no_second_act(r):
    link, browser, home = r.visit()
    r.wire.fail(r"/v1/sessions/[^/]+/events", "lose")
    assert r.save(browser, home, 51000).status == 303
    assert r.salary(browser, home) == "51000"
    assert [act["seq"] for act in r.service.reported(link)] == [1, 2]
    assert r.save(browser, home, SALARY).status == 303


def what_is_not_recorded_does_not_happen(r):
    link, browser, home = r.visit()
    events = r"/v1/sessions/[^/]+/events"
    r.wire.fail(events, "lose", 99)
    refused(r.save(browser, home, 66000), 503)
    r.wire.heal()
    # The same again is the same act, under the same number.
    assert r.save(browser, home, 66000).status == 303
    assert [act["seq"] for act in r.service.reported(link)] == [1]
    r.wire.fail(events, "lose", 99)
    refused(r.save(browser, home, 67000), 503)
    r.wire.heal()
    # Something else instead: the record says that the change did not happen.
    assert r.salary(browser, home) == "66000"
    acts = r.service.reported(link)
    assert [act["seq"] for act in acts] == [1, 2, 3, 4], acts
    assert acts[2]["action"] == "change.not_applied", acts[2]
    assert acts[2]["changes"] == [{"field": "salary", "before": "67000", "after": "66000"}], acts[2]
    # A view that was never taken leaves no gap.
    r.wire.fail(events, "refuse", 99)
    refused(browser.go(home + "employees/emp-9"), 503)
    r.wire.heal()
    assert r.save(browser, home, SALARY).status == 303
    assert browser.post(home + "done").page == "goodbye"
    r.complete(link, "done")


def what_can_never_be_recorded_is_refused_for_good(r):
    """And holds up nothing else, whether its refusal was heard or not."""
    link, browser, home = r.visit()
    events, never = r"/v1/sessions/[^/]+/events", (422, '{"code":"validation_failed"}')
    r.wire.fail(events, never)
    answer = refused(r.save(browser, home, 68000), 422)
    assert not answer.header("retry-after") and "moment" not in answer.text, answer
    if "long" not in r.without:
        refused(r.save(browser, home, "9" * 4_001), 422)
    r.wire.fail(events, "refuse", 99)
    refused(r.save(browser, home, 68000), 503)
    r.wire.heal()
    r.wire.fail(events, never)
    assert r.save(browser, home, 69000).status == 303
    r.wire.fail(events, (401, '{"code":"unauthenticated"}'), 99)
    refused(r.save(browser, home, 70000), 503)
    r.wire.heal()
    assert r.salary(browser, home) == "69000"
    assert r.save(browser, home, SALARY).status == 303
    assert [act["seq"] for act in r.service.reported(link)] == [1, 2, 3]
    assert browser.post(home + "done").page == "goodbye"
    r.complete(link, "done")


def an_answer_that_is_not_a_clear_yes_is_a_no(r):
    link, browser, home = r.visit()
    true = r.service.session(link)

    def changed(**changes):
        return lambda status, text: (status, json.dumps({name: value for name, value in (json.loads(text) | changes).items() if value is not None}))
    odd = {
        "another session": changed(sid="ses_01kaq3v9e8fwmvd2x7n0c5hb2z"), "another tenant": changed(tenant_id="globex"),
        "another portal": changed(portal="ess"), "no end": changed(exp=None), "a text for true": changed(active="true"), "no session": changed(sid=None),
        "a page": lambda *_: (200, "<html>Welcome</html>"), "a list": lambda *_: (200, "[true]"), "nothing": lambda *_: (200, ""),
        "401": lambda *_: (401, '{"code":"unauthenticated"}'), "500": lambda *_: (500, "oops"), "302": lambda *_: (302, "")}
    if "claims" not in r.without:
        odd["no actor"] = changed(act=None)
    for what, fault in odd.items():
        r.wire.heal()
        r.wire.fail("/v1/introspect", fault, 99)
        answer = browser.go(home + "employees/emp-9")
        assert answer.status in (403, 503), f"{what}: {answer}"
        assert "Nikhil" not in answer.text, what
        r.wire.heal()
        if browser.go(home).status != 200:
            link, browser, home = r.visit()
    assert true["state"] == "active"


def there_is_no_grace_after_the_end(r):
    def told(name, text):
        return lambda status, answer: (status, json.dumps(json.loads(answer) | {name: text}))

    def soon():
        return datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=5)

    def pause(until):
        time.sleep(max(0, until.timestamp() - time.time()) + 0.05)

    def act_across(until, link, browser, home):
        """The report begins before the end and is answered after it, but within the second from which on it would be slow."""
        assert browser.go(home).status == 200
        r.wire.fail(r"/v1/sessions/[^/]+/events", lambda *answer: pause(until) or answer)
        pause(until - datetime.timedelta(seconds=0.95))
        refused(r.save(browser, home, 74000))
        refused(browser.go(home + "employees/emp-9"))
        r.wire.heal()
        # The clock of the portal says so before the service does, and nobody said that they were done.
        r.complete(link, "revoked")
        assert [act["action"].split(".")[-1] for act in r.service.reported(link)][1:] == ["not_applied"]
        _, browser, home = r.visit()
        assert r.salary(browser, home) == SALARY
    until = soon()
    r.wire.fail("/v1/sessions", told("expires_at", until.isoformat().replace("+00:00", "Z")))
    act_across(until, *r.visit())
    # A link that was shortened ends with the `exp` of the introspection. An answer that is kept too long does not outlive it.
    (link, browser, home), until = r.visit(), soon()
    r.wire.fail("/v1/introspect", told("exp", int(until.timestamp())), 99)
    assert f"{until:%Y-%m-%dT%H:%M:%S}" in browser.go(home).text, "the banner says another end"
    act_across(until, link, browser, home)


def what_has_waited_is_asked_about_again(r):
    """Behind the act of somebody else, behind one of their own, and for a slow answer to its report. At a copy of the portal that gets no messages."""
    events, portal = r"/v1/sessions/[^/]+/events", r.beside(free_port())

    def saves(pool, browser, home, salary):
        """A change whose report is taken, and not answered before it is let go; then it was slow."""
        taken, let_go = threading.Event(), threading.Event()

        def slowly(*answer):
            taken.set()
            time.sleep(1.2)
            let_go.wait(3)      # or the portal gives up
            return answer
        r.wire.fail(events, slowly)
        saved = pool.submit(r.save, browser, home, salary)
        assert taken.wait(20)
        return saved, let_go

    def admitted(number):
        """What it returns waits until so many requests, from now on, have the yes that lets them in."""
        answers = []
        r.wire.fail("/v1/introspect", lambda *answer: answers.append(answer) or answer, number)
        return lambda: eventually("they are let in", lambda: len(answers) == number)

    def taken_back(link, salary):
        """The record ends with what was not done."""
        change, back = r.service.reported(link)[-2:]
        assert change["action"] != "change.not_applied" and back["action"] == "change.not_applied", back
        assert back["changes"] == [{"field": "salary", "before": salary, "after": "71000"}], back
        _, browser, home = r.visit(portal)
        assert r.salary(browser, home) == "71000"
    try:
        (link, browser, home), (other, behind, _) = r.visit(portal), r.visit(portal)
        with ThreadPoolExecutor() as pool:
            first, let_go = saves(pool, browser, home, 71000)
            both = admitted(2)
            second, page = pool.submit(r.save, behind, home, 72000), pool.submit(behind.go, home)
            both()
            r.revoke(other)
            # A page that waits for nothing is there by now. One that waits has its yes of before the revocation, and asks again.
            shown = bool(wait([page], 1).done)
            let_go.set()
            assert first.result().status == 303
            refused(second.result())
            assert page.result().status == 403 or shown, page.result()
        r.complete(other, "revoked")
        assert r.service.reported(other) == []
        assert r.salary(browser, home) == "71000"
        # The visitor hears why, also where the way back is not taken at once.
        with ThreadPoolExecutor() as pool:
            first, let_go = saves(pool, browser, home, 73000)
            one = admitted(1)
            second = pool.submit(browser.go, home + "employees/emp-9")
            one()
            r.revoke(link)
            r.wire.fail(events, "refuse", 2)
            let_go.set()
            refused(first.result())
            refused(second.result())
        r.complete(link, "revoked")
        acts = [act["type"] for act in r.service.reported(link)]
        assert acts == ["data.changed", "data.viewed", "data.changed", "data.changed"], acts
        taken_back(link, "73000")
        # No change stays on record that was not made, whatever the second answer is.
        link, browser, home = r.visit(portal)
        with ThreadPoolExecutor() as pool:
            first, let_go = saves(pool, browser, home, 74000)
            r.wire.fail("/v1/introspect", lambda status, answer: (status, json.dumps(json.loads(answer) | {"modules": 5})), 99)
            let_go.set()
            assert first.result().status >= 400, first.result()
        r.wire.heal()
        browser.post(home + "done")
        eventually("its count is sent", lambda: r.closings(link))
        taken_back(link, "74000")
    finally:
        r.wire.heal()
        portal.stop()


def its_log_holds_no_code_token_or_key(r):
    r.visit()
    text = open(r.portal.log.name, errors="replace").read()
    for secret in ("eyJ", "mlsk_", "whsec_", r.secret):
        assert secret not in text, f"{secret[:6]}… is in the portal's log"


STRAIGHT = [nobody_gets_in_without_a_session, every_tenant_of_the_service_has_its_pages, the_callback_redeems_once_and_hides_the_code,
            a_malformed_request_gets_a_plain_answer, the_visitor_says_who_they_are,
            an_https_address_makes_cookies_secure, a_code_of_somebody_else_changes_nothing, the_banner_says_who_acts_as_whom_until_when,
            what_the_access_leaves_out_is_refused_in_one_place, acts_are_numbered_in_order_however_many_come_at_once,
            i_am_done_closes_the_record, a_revocation_is_seen_by_the_next_request, a_form_that_ends_after_the_access_changes_nothing,
            what_nobody_asks_for_is_not_done, an_export_holds_what_is_so_and_nothing_else,
            a_body_is_read_so_far_and_no_further, a_body_that_does_not_come_is_not_waited_for, what_is_no_form_changes_nothing, a_link_of_another_tenant_opens_nothing,
            messages_are_checked_and_ends_count_however_late, the_visitors_address_is_that_of_the_connection, a_token_is_verified_without_asking, without_the_service_nobody_is_let_in,
            its_log_holds_no_code_token_or_key]
WIRED = [a_lost_answer_to_the_code_is_asked_for_again, a_lost_answer_to_a_report_is_no_second_act,
         what_is_not_recorded_does_not_happen, what_can_never_be_recorded_is_refused_for_good, an_answer_that_is_not_a_clear_yes_is_a_no,
         what_has_waited_is_asked_about_again, there_is_no_grace_after_the_end]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--portal", required=True)
    parser.add_argument("--without", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--offline")
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {}
    for steps, wired in ((STRAIGHT, False), (WIRED, True)):
        steps = [step for step in steps if options.only in step.__name__]
        if not steps:
            continue
        round = Round(options, wired)
        round.without, round.offline = set(options.without.split(",")), options.offline
        try:
            for step in steps:
                name = step.__name__.replace("_", " ")
                try:
                    results[name] = step(round) or "ok"
                except Exception:
                    results[name] = "failed"
                    traceback.print_exc()
                    print(open(round.portal.log.name).read()[-1500:], file=sys.stderr)
                print(f"{results[name]:8} {name}", flush=True)
        finally:
            round.end()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file)
    failed = list(results.values()).count("failed")
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not results else 0)


main()
