"""Tests the alert rules, and lets promtool parse the queries of the dashboard."""

import json
import os
import subprocess
import sys
import tempfile

os.chdir(os.path.join(os.path.dirname(__file__), "../../docker/prometheus"))
promtool = os.environ.get("PROMTOOL", "promtool")

subprocess.run([promtool, "check", "rules", "rules.yml"], check=True)
subprocess.run([promtool, "test", "rules", "rules_test.yml"], check=True)

panels = json.load(open("dashboard.json"))["panels"]
queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
# Rules are the form in which promtool reads queries; Grafana fills in what begins with a dollar sign.
filled_in = [query.replace("$__rate_interval", "5m").replace("$job", ".*") for query in queries]
rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(filled_in)]
with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
    json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
    file.flush()
    subprocess.run([promtool, "check", "rules", file.name], check=True)
ids = [panel["id"] for panel in panels]
if not queries or len(set(ids)) != len(ids):
    sys.exit("dashboard.json: no queries, or two panels with one id")
