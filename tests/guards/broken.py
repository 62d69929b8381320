"""Breaks the FastAPI guard in one way after the other, and sees each caught by the life of a link: `broken.py SERVICE` after `run.py fastapi`.

A test that cannot fail proves nothing.
"""
import json, pathlib, shutil, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What is broken, the step that sees it, the text and what takes its place.
BREAKS = [
    ("answers HEAD of the callback", "the callback redeems once", 'self.callback, methods=["GET"], include_in_schema=False)',
     'self.callback, methods=["GET", "HEAD"], include_in_schema=False)\n        self.seen = lambda _: None'),
    ("tells the address of the callback", "the callback redeems once", '"no-referrer" if is_callback else "same-origin"', '"same-origin"'),
    ("lets scripts read the cookie", "the visitor says who they are", "httponly=True", "httponly=False"),
    ("sets one cookie for all tenants", "the visitor says who they are", "path=self.root(tenant)", 'path="/"'),
    ("takes forms of other sites", "the visitor says who they are", 'if not (site == "same-origin" if', 'if False and not (site == "same-origin" if'),
    ("takes any answer to the question", "the visitor says who they are", 'form.get("question") != session.question or', ""),
    ("takes one of two sessions", "the visitor says who they are", "if len(values) > 1:", "if False:"),
    ("lets a session into another tenant", "the visitor says who they are", "if not session or session.tenant != tenant:\n            raise Stop(*ENDED)\n        return", "if not session:\n            raise Stop(*ENDED)\n        return"),
    ("sends cookies in the clear", "an https address", "secure=self.secure", "secure=False"),
    ("keeps what was declined", "a code of somebody else", "            await self.close(session)\n            return page(\"refused\"", "            return page(\"refused\""),
    ("forgets the banner", "the banner says", "banner = visitor.banner()", 'banner = ""'),
    ("changes with read-only access", "what the access leaves out", 'self.read_only and kind == "change"', "False"),
    ("opens every part of the portal", "what the access leaves out", "self.modules is not None and module not in self.modules", "False"),
    ("does what is forbidden", "what the access leaves out", 'category in self.forbidden or (kind == "export" and "export" in self.forbidden)', "False"),
    ("forgets what an export takes along", "what the access leaves out", 'category in self.forbidden or (kind == "export" and "export" in self.forbidden)', '("export" if kind == "export" else category) in self.forbidden'),
    ("numbers without a lock", "acts are numbered", "        session = self.session\n        async with session.lock:", "        session = self.session\n        async with asyncio.Lock():"),
    ("sends no count", "i am done closes", '"sources": {"portal": session.last_seq}', '"sources": {}'),
    ("says nothing of who was done", "i am done closes", '"consultant_done": session.done', '"consultant_done": False'),
    ("remembers a yes", "a revocation is seen", "            if self.is_clear_yes(token, session):", "            token = session.__dict__.setdefault('kept', token)\n            if self.is_clear_yes(token, session):"),
    ("does what is fetched ahead", "what nobody asks for", 'if any("prefetch" in', 'if False and any("prefetch" in'),
    ("exports for another site", "what nobody asks for", 'if kind == "export" and not self.is_from_here:', "if False:"),
    ("takes a silent browser of another site for its own", "what nobody asks for", "origin in (None, self.public_url)", "True"),
    ("takes no export that is typed", "what nobody asks for", 'site in ("same-origin", "none")', 'site == "same-origin"'),
    ("exports formulas", "an export holds", "FORMULA.sub(r\"\\1'\", cell)", "cell"),
    ("exports what is no cell", "an export holds", "csv.writer(text).writerows(", "(lambda rows: text.writelines(','.join(row) + '\\n' for row in rows))("),
    ("names nobody of those in an export", "an export holds", ", principal_ids=employees)", ")"),
    ("saves a line break", "an export holds", "bank_account + salary):", '""):'),
    ("reads bodies of any size", "a body is read so far", "status = 413 if len(body) > self.largest_body else None", "status = None"),
    ("waits for a body for ever", "a body that does not come", "BODY_SECONDS = 10", "BODY_SECONDS = 600"),
    ("opens the door of another tenant", "a link of another tenant", 'if opened["tenant_id"] != tenant or opened["portal"] != self.portal:', "if False:"),
    ("takes old messages", "messages are checked", "abs(at - int(sent)) > 300", "False"),
    ("takes forged messages", "messages are checked", "hmac.compare_digest(wanted, one.encode())", "True"),
    ("drops an end that comes late", "messages are checked", 'if event["type"] == "session.ended":', 'if event["type"] == "session.ended" and event["sequence"] > "9" * 18 + "8":'),
    ("needs a peer", "the visitors address", " if request.client else None", ""),
    ("opens when the service is down", "without the service", "                raise Stop(*UNKNOWN)\n            if self.is_clear", "                return session.kept\n            if self.is_clear"),
    ("gives up on a count", "without the service", 'return log.warning("session %s: not closed yet: %s", session.id, error)\n            except', 'log.warning("session %s: %s", session.id, error)\n            except'),
    ("logs addresses", "its log holds", "access_log=False", "access_log=True"),
    ("takes a fresh key for the repeat", "a lost answer to the code", "                answer = await self.http.post(path, **request)", "                if 'headers' in request: request['headers'] = {'Idempotency-Key': secrets.token_hex(16)}\n                answer = await self.http.post(path, **request)"),
    ("numbers a repeat anew", "what is not recorded", "is_retry = session.unsettled and {**session.unsettled, **act} == session.unsettled", "is_retry = False"),
    ("acts without a record", "what is not recorded", "raise Stop(*UNRECORDED)", "pass"),
    ("calls every refusal a fault of the moment", "what can never be recorded", "error.status not in (401, 403)", "False"),
    ("believes another session's answer", "an answer that is not", 'token.get("sid") == session.id', "True"),
    ("believes an answer without an actor", "an answer that is not", 'token.get("act") == {"sub": session.consultant["id"]}', "True"),
    ("acts upon a yes of before it waited", "what has waited", "                await self.ask_again(kind, module, category)\n                if not is_retry:", "                if not is_retry:"),
    ("acts upon a yes of before a slow report", "what has waited", "if time.monotonic() - asked > SLOW_SECONDS or", "if"),
    ("leaves a change on record that it did not make", "what has waited", "                    self.guard.take_back(session, act)\n", ""),
    ("notes the way back after it has asked", "what has waited", "                    self.guard.take_back(session, act)\n                    try:\n                        await self.ask_again(kind, module, category)\n                    except Stop:",
     "                    try:\n                        await self.ask_again(kind, module, category)\n                    except Stop:\n                        self.guard.take_back(session, act)\n                       "),
    ("takes back a change that it made", "what has waited", "                        raise\n                    session.unsettled = None\n", "                        raise\n"),
    ("calls an end a fault of the moment", "what has waited", "                        except NoVerdict as error:\n                            log", "                        except NoVerdict as error:\n                            raise\n                            log"),
    ("acts upon a report that ended after the access", "there is no grace", " or now() >= min(self.until, session.expires_at):", ":"),
    ("outlives a link that was shortened", "there is no grace", "now() >= min(self.until, session.expires_at):", "now() >= session.expires_at:"),
    ("gives a minute of grace", "there is no grace", "if now() < session.expires_at:", "if now() < session.expires_at + timedelta(minutes=1):"),
    ("gives a minute of grace to an answer", "there is no grace", 'time.time() < token["exp"])', 'time.time() < token["exp"] + 60)'),
]


def main():
    missed = 0
    for what, step, text, instead in BREAKS:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for path in (ROOT / "examples/fastapi").glob("*.py"):
                shutil.copy(path, folder)
            file = next(path for path in folder.glob("*.py") if text in path.read_text())
            file.write_text(file.read_text().replace(text, instead))
            python, result = ROOT / "target/guards/fastapi/venv/bin/python", folder / "result.json"
            subprocess.run([sys.executable, ROOT / "tests/guards/life.py", "--binary", sys.argv[1], "--portal", f"cd {folder} && exec {python} app.py",
                            "--only", step.replace(" ", "_"), "--json", result], capture_output=True, check=False)
            caught = result.exists() and "failed" in json.loads(result.read_text()).values()
        missed += not caught
        print(f"{'caught' if caught else 'MISSED'}  a guard that {what}", flush=True)
    print(f"{len(BREAKS) - missed} passed, {missed} failed")
    sys.exit(1 if missed else 0)


main()
